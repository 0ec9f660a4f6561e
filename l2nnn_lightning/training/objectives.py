"""What a training minimises: the interface, cross-entropy and its offset form, functions of the certified radius."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.data import Batch
from l2nnn_lightning.models import Network

__all__ = [
    "CrossEntropy",
    "Objective",
    "ObjectiveFactory",
    "OffsetCrossEntropy",
    "RadiusHinge",
    "RadiusSigmoid",
    "Terms",
    "check_positive",
]

Terms = dict[str, Tensor]


class Objective(nn.Module):
    """What a training minimises. A subclass takes ``(num_labels, **options)`` and computes its terms of a batch.

    Every option of its constructor can be set in a config under ``model.objective.init_args``.
    """

    def forward(self, network: Network, batch: Batch, logits: Tensor | None = None) -> tuple[Tensor, Terms]:
        """Compute the logits of the batch's images, and the loss: ``terms(logits of what the loss sees)``.

        By default the loss sees the adversarial images where a batch has them, else the images.

        Args:
            network: the network.
            batch: images in [0, 1], labels and, in adversarial training, attacked copies.
            logits: the network's outputs for the images, where they are known already.

        Returns:
            The logits, (B, K), and the scalar ``loss`` with the terms to be logged beside it.
        """
        logits = network(batch.image) if logits is None else logits
        seen = logits if batch.adversarial is None else network(batch.adversarial)
        return logits, self.terms(seen, batch.label)

    def terms(self, logits_BK: Tensor, label_B: Tensor) -> Terms:
        """Compute the mean ``loss`` of a batch, and its terms: (B, K), (B,) -> scalars."""
        raise NotImplementedError(f"{type(self).__name__} must define terms, or forward")

    def attacked(self, logits_BK: Tensor) -> Tensor:
        """Compute what adversarial training climbs the cross-entropy of."""
        return logits_BK

    def begin_epoch(self, done: float) -> None:
        """Note that ``done`` of the training is over, in [0, 1)."""

    def follow_scaling(self, divisor: Tensor) -> None:
        """Note by what each logit has just been divided, (1,) or (K,)."""

    def check(self, network: Network) -> None:
        """Refuse a network that the objective does not fit by a ValueError that says which would, before training."""


ObjectiveFactory = Callable[[int], Objective]


class CrossEntropy(Objective):
    """The cross-entropy of ordinary training; with adversarial batches of these alone, as Madry et al. (2017) train.

    Args:
        num_labels: the number K of labels.
    """

    def __init__(self, num_labels: int) -> None:  # noqa: ARG002 (as every objective)
        super().__init__()

    def terms(self, logits_BK: Tensor, label_B: Tensor) -> Terms:
        """Compute the mean loss."""
        return {"loss": F.cross_entropy(logits_BK, label_B)}


class OffsetCrossEntropy(Objective):
    """Cross-entropy after the label's logit has been lowered: ``CE((y - u onehot) T) / T``.

    A sample whose gap is below the offset u still costs something, so u trades clean accuracy for certified accuracy
    at a radius of ``u / c``, where a difference of two logits moves at most c per unit of input. The temperature T
    sets how sharply; dividing by it keeps the gradient's size (Prach and Lampert, 2022).

    Args:
        num_labels: the number K of labels.
        offset: u, the gap that is asked for, >= 0.
        temperature: T, > 0.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> loss = OffsetCrossEntropy(2, offset=1.0, temperature=2.0)
        >>> loss.terms(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))["loss"]  # log(2) / 2
        tensor(0.3466)
    """

    def __init__(self, num_labels: int, offset: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        if not 0 <= offset < math.inf:
            raise ValueError(f"offset must be finite and at least 0, got {offset}")
        check_positive("temperature", temperature)
        self.num_labels, self.offset, self.temperature = num_labels, offset, temperature

    def terms(self, logits_BK: Tensor, label_B: Tensor) -> Terms:
        """Compute the mean loss."""
        onehot_BK = F.one_hot(label_B, self.num_labels).to(logits_BK)
        lowered_BK = (logits_BK - self.offset * onehot_BK) * self.temperature
        return {"loss": F.cross_entropy(lowered_BK, label_B) / self.temperature}


class _RadiusObjective(Objective):
    """A function of the certified radius of the true label, which is negative where another label wins."""

    def __init__(self, num_labels: int, margin: float = 2.0, in_box: bool = False) -> None:  # noqa: ARG002
        super().__init__()
        check_positive("margin", margin)
        self.margin, self.in_box = margin, in_box

    def forward(self, network: Network, batch: Batch, logits: Tensor | None = None) -> tuple[Tensor, Terms]:
        """Measure the radius of what the loss sees; some networks find radius and logits at once."""
        if batch.adversarial is None:
            radius, found = network.signed_radius(batch.image, batch.label, logits, in_box=self.in_box)
            return found if logits is None else logits, self.of_radius(radius)
        logits = network(batch.image) if logits is None else logits
        radius = network.signed_radius(batch.adversarial, batch.label, in_box=self.in_box).radius
        return logits, self.of_radius(radius)

    def of_radius(self, radius_B: Tensor) -> Terms:
        """Compute the mean ``loss`` from signed radii, (B,)."""
        raise NotImplementedError

    def check(self, network: Network) -> None:
        """Refuse networks without such a radius."""
        if not network.can_prove:
            raise ValueError(f"{type(network).__name__} proves no radius to train on: use another objective")
        if self.in_box and not network.has_box:
            raise ValueError("in_box needs templates on raw pixels: network TemplateNet with trunk: identity")


class RadiusHinge(_RadiusObjective):
    """Ask for a certified radius: ``mean(max(margin - r, 0))``, r being negative where another label wins.

    Args:
        num_labels: the number K of labels.
        margin: the radius that is asked for, in pixel units, > 0.
        in_box: whether it is asked for inside the image box only (templates on raw pixels).

    Raises:
        ValueError: if the margin is not positive and finite.

    Example:
        >>> RadiusHinge(3, margin=2.0).of_radius(torch.tensor([3.0, 1.5, -1.0]))["loss"]  # (0 + 0.5 + 3) / 3
        tensor(1.1667)
    """

    def of_radius(self, radius_B: Tensor) -> Terms:
        """Compute the mean loss."""
        return {"loss": (self.margin - radius_B).relu().mean()}


class RadiusSigmoid(_RadiusObjective):
    """Count the samples that are not certified at one radius, smoothly: ``mean(sigmoid((margin - r) T)) / T``.

    As T grows it tends to one minus the certified accuracy at the margin, over T. Unlike the hinge it gives up what is
    far out of reach, and asks for nothing beyond the margin.

    Args:
        num_labels: the number K of labels.
        margin: the radius that is asked for, in pixel units, > 0.
        temperature: T, per pixel unit, > 0.
        in_box: whether it is asked for inside the image box only (templates on raw pixels).

    Raises:
        ValueError: if an argument is not positive and finite.

    Example:
        >>> RadiusSigmoid(3, 2.0, 4.0).of_radius(torch.tensor([2.0, 9.0, -9.0]))["loss"]  # (1/2 + 0 + 1) / 3 / 4
        tensor(0.1250)
    """

    def __init__(self, num_labels: int, margin: float = 2.0, temperature: float = 4.0, in_box: bool = False) -> None:
        super().__init__(num_labels, margin, in_box)
        check_positive("temperature", temperature)
        self.temperature = temperature

    def of_radius(self, radius_B: Tensor) -> Terms:
        """Compute the mean loss."""
        missed_B = torch.sigmoid((self.margin - radius_B) * self.temperature)
        return {"loss": missed_B.mean() / self.temperature}


def check_positive(name: str, value: float) -> None:
    """Refuse an option that is not positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
