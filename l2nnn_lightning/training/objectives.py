"""What is minimised: the paper's loss (3) with its terms (4), (5) and (6), and other objectives."""

import math
from collections.abc import Callable
from typing import Literal

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
    "PaperLoss",
    "RadiusHinge",
    "RadiusSigmoid",
    "confidence_gap_loss",
    "log1m_softmax",
]

Terms = dict[str, Tensor]


def log1m_softmax(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """Compute ``log(1 - softmax(logits)_label)`` without cancellation.

    With S the log-sum-exp of the other labels, ``1 - p_y = 1 / (1 + e^{y - S})``, so it is ``-softplus(y - S)``, which
    keeps a margin of 100 as well as one of 1e-6.

    Args:
        logits_BK: the outputs, K >= 2.
        label_B: the labels.

    Shape:
        (B, K), (B,) -> (B,), values <= 0.

    Example:
        >>> log1m_softmax(torch.tensor([[100.0, 0.0]]), torch.tensor([0]))
        tensor([-100.])
    """
    others_BK = logits_BK.scatter(1, label_B[:, None], -torch.inf)
    return -F.softplus(logits_BK.gather(1, label_B[:, None])[:, 0] - others_BK.logsumexp(1))


def confidence_gap_loss(logits_BK: Tensor, label_B: Tensor, z: float) -> Tensor:
    """Reward the confidence gap, equation (6): ``mean(log(1 - softmax(z y)_label)) / z``.

    As z grows it tends to minus the mean gap over the correct predictions; wrong ones cost nothing.

    Args:
        logits_BK: the network's outputs.
        label_B: the labels.
        z: the sharpness, > 0; fixed, not trained.

    Shape:
        (B, K), (B,) -> ().
    """
    return log1m_softmax(z * logits_BK, label_B).mean() / z


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
        """Refuse a network that the objective does not fit, before training.

        Raises:
            ValueError: saying which would.
        """


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


class PaperLoss(Objective):
    """The loss of the paper, equation (3): ``L = L_a + gamma L_b + omega L_c``.

    - (4) L_a is the cross-entropy of ``(u_1 y_1, ..., u_K y_K)`` with one trainable scale per label: it lets the
      network find what an ordinary one would find.
    - (5) L_b is the cross-entropy of ``(v y_1, ..., v y_K)``: it drives accuracy at the scale of the outputs.
    - (6) L_c rewards the gap, always on the original images.

    The scales u and v are kept as logarithms, so they stay positive.

    Args:
        num_labels: the number K of labels.
        gamma: the weight of L_b, >= 0.
        omega: the weight of L_c, >= 0. Above about ``v (K - 1)`` a constant answer wins.
        omega_late: its weight in the late part of the training, if another: first the gap, then accuracy.
        late: the fraction of the epochs after which that part begins, in [0, 1].
        z: the sharpness of L_c, > 0.
        u: the initial scale of L_a, > 0.
        v: the (initial) scale of L_b, > 0.
        train_v: whether v is trained.
        adversarial_terms: the terms that see adversarial images where a batch has them: L_a, or L_a and L_b.

    Raises:
        ValueError: if a weight is negative or a scale is not positive.
    """

    def __init__(
        self,
        num_labels: int,
        gamma: float = 1.0,
        omega: float = 0.5,
        omega_late: float | None = None,
        late: float = 0.7,
        z: float = 10.0,
        u: float = 1.0,
        v: float = 1.0,
        train_v: bool = True,
        adversarial_terms: Literal["a", "ab"] = "a",
    ) -> None:
        super().__init__()
        for name, weight in (("gamma", gamma), ("omega", omega), ("omega_late", omega_late)):
            if weight is not None and not weight >= 0:
                raise ValueError(f"{name} must be at least 0, got {weight}")
        for name, scale in (("z", z), ("u", u), ("v", v)):
            _check_positive(name, scale)
        if not 0 <= late <= 1:
            raise ValueError(f"late must be in [0, 1], got {late}")
        if adversarial_terms not in ("a", "ab"):
            raise ValueError(f"adversarial_terms must be 'a' or 'ab', got {adversarial_terms!r}")
        self.gamma, self.omega, self.omega_late, self.late, self.z = gamma, omega, omega_late, late, z
        self.adversarial_terms = adversarial_terms
        #: The weight of L_c in this epoch.
        self.omega_now = omega
        self.log_u = nn.Parameter(torch.full((num_labels,), u).log())
        self.log_v = nn.Parameter(torch.tensor(float(v)).log(), requires_grad=train_v)

    def forward(self, network: Network, batch: Batch, logits: Tensor | None = None) -> tuple[Tensor, Terms]:
        """Compute the logits of the images, ``loss`` and its terms ``loss_a``, ``loss_b``, ``loss_c``."""
        logits = network(batch.image) if logits is None else logits
        attacked = logits if batch.adversarial is None else network(batch.adversarial)
        loss_a = F.cross_entropy(self.attacked(attacked), batch.label)
        seen = attacked if self.adversarial_terms == "ab" else logits
        loss_b = F.cross_entropy(seen * self.log_v.exp(), batch.label)
        loss_c = confidence_gap_loss(logits, batch.label, self.z)
        loss = loss_a + self.gamma * loss_b + self.omega_now * loss_c
        return logits, {"loss": loss, "loss_a": loss_a, "loss_b": loss_b, "loss_c": loss_c}

    def attacked(self, logits_BK: Tensor) -> Tensor:
        """Scale logits by u, as L_a sees them."""
        return logits_BK * self.log_u.exp()

    def begin_epoch(self, done: float) -> None:
        """Choose the weight of L_c."""
        is_late = self.omega_late is not None and done >= self.late
        self.omega_now = self.omega_late if is_late and self.omega_late is not None else self.omega

    @torch.no_grad()
    def follow_scaling(self, divisor: Tensor) -> None:
        """Multiply u by what each logit has just been divided by, so that L_a stays as it was."""
        self.log_u.add_(divisor.to(self.log_u).log())


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
        _check_positive("temperature", temperature)
        self.num_labels, self.offset, self.temperature = num_labels, offset, temperature

    def terms(self, logits_BK: Tensor, label_B: Tensor) -> Terms:
        """Compute the mean loss."""
        onehot_BK = F.one_hot(label_B, self.num_labels).to(logits_BK)
        lowered_BK = (logits_BK - self.offset * onehot_BK) * self.temperature
        return {"loss": F.cross_entropy(lowered_BK, label_B) / self.temperature}


class _RadiusObjective(Objective):
    """A function of the certified radius of the true label, which is negative where another label wins."""

    in_box: bool

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

    def __init__(self, num_labels: int, margin: float = 2.0, in_box: bool = False) -> None:  # noqa: ARG002
        super().__init__()
        _check_positive("margin", margin)
        self.margin, self.in_box = margin, in_box

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

    def __init__(
        self,
        num_labels: int,  # noqa: ARG002 (as every objective)
        margin: float = 2.0,
        temperature: float = 4.0,
        in_box: bool = False,
    ) -> None:
        super().__init__()
        _check_positive("margin", margin)
        _check_positive("temperature", temperature)
        self.margin, self.temperature, self.in_box = margin, temperature, in_box

    def of_radius(self, radius_B: Tensor) -> Terms:
        """Compute the mean loss."""
        missed_B = torch.sigmoid((self.margin - radius_B) * self.temperature)
        return {"loss": missed_B.mean() / self.temperature}


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
