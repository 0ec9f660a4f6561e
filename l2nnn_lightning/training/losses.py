"""The paper's loss (3) with its terms (4), (5) and (6), whose scales u and v belong to it; and other objectives."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["L2NNNLoss", "OffsetCrossEntropy", "RadiusHinge", "RadiusSigmoid", "confidence_gap_loss", "log1m_softmax"]


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


class L2NNNLoss(nn.Module):
    """The loss of the paper, equation (3): ``L = L_a + gamma L_b + omega L_c``.

    - (4) L_a is the cross-entropy of ``(u_1 y_1, ..., u_K y_K)`` with one trainable scale per label: it lets the
      network find what an ordinary one would find.
    - (5) L_b is the cross-entropy of ``(v y_1, ..., v y_K)``: it drives accuracy at the scale of the outputs.
    - (6) L_c rewards the gap, always on the original images.

    The scales u and v are kept as logarithms, so they stay positive.

    Args:
        num_labels: the number K of labels.
        gamma: the weight of L_b, >= 0.
        omega: the weight of L_c, >= 0; without limit it wins over the labels, see the constraint below.
        z: the sharpness of L_c, > 0.
        u: the initial scale of L_a, > 0.
        v: the (initial) scale of L_b, > 0. With the gap's reward above about ``v (K - 1)`` a constant answer wins.
        train_v: whether v is trained.
        adversarial_terms: the terms that see adversarial images where a batch has them: ``"a"`` or ``"ab"``.

    Raises:
        ValueError: if a weight is negative or a scale is not positive.
    """

    def __init__(
        self,
        num_labels: int,
        gamma: float = 1.0,
        omega: float = 0.5,
        z: float = 10.0,
        u: float = 1.0,
        v: float = 1.0,
        train_v: bool = True,
        adversarial_terms: str = "a",
    ) -> None:
        super().__init__()
        for name, weight in (("gamma", gamma), ("omega", omega)):
            if not weight >= 0:
                raise ValueError(f"{name} must be at least 0, got {weight}")
        for name, scale in (("z", z), ("u", u), ("v", v)):
            if not scale > 0:
                raise ValueError(f"{name} must be positive, got {scale}")
        if adversarial_terms not in ("a", "ab"):
            raise ValueError(f"adversarial_terms must be 'a' or 'ab', got {adversarial_terms!r}")
        self.gamma, self.omega, self.z = gamma, omega, z
        self.adversarial_terms = adversarial_terms
        self.log_u = nn.Parameter(torch.full((num_labels,), u).log())
        self.log_v = nn.Parameter(torch.tensor(float(v)).log(), requires_grad=train_v)

    def scaled(self, logits_BK: Tensor) -> Tensor:
        """Scale logits by u as L_a sees them; attacks in training use these."""
        return logits_BK * self.log_u.exp()

    @torch.no_grad()
    def follow_scaling(self, divisor: Tensor) -> None:
        """Multiply u by what each logit has just been divided by, (1,) or (K,), so that L_a stays as it was."""
        self.log_u.add_(divisor.to(self.log_u).log())

    def forward(
        self, logits_BK: Tensor, label_B: Tensor, adversarial_logits_BK: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the loss and its terms.

        Args:
            logits_BK: outputs for the original images.
            label_B: the labels.
            adversarial_logits_BK: outputs for the adversarial images, where there are any.

        Returns:
            Scalars ``loss``, ``loss_a``, ``loss_b``, ``loss_c``.
        """
        attacked_BK = logits_BK if adversarial_logits_BK is None else adversarial_logits_BK
        loss_a = F.cross_entropy(self.scaled(attacked_BK), label_B)
        loss_b = F.cross_entropy(
            (attacked_BK if self.adversarial_terms == "ab" else logits_BK) * self.log_v.exp(), label_B
        )
        loss_c = confidence_gap_loss(logits_BK, label_B, self.z)
        loss = loss_a + self.gamma * loss_b + self.omega * loss_c
        return {"loss": loss, "loss_a": loss_a, "loss_b": loss_b, "loss_c": loss_c}


class OffsetCrossEntropy(nn.Module):
    """Cross-entropy after the label's logit has been lowered: ``CE((y - u onehot) T) / T``.

    A sample whose gap is below the offset u still costs something, so u trades clean accuracy for certified accuracy
    at a radius of ``u / c``, where a difference of two logits moves at most c per unit of input. The temperature T
    sets how sharply; dividing by it keeps the gradient's size (Prach and Lampert, 2022).

    Args:
        offset: u, the gap that is asked for, >= 0.
        temperature: T, > 0.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> loss = OffsetCrossEntropy(offset=1.0, temperature=2.0)
        >>> loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))["loss"]  # log(2) / 2
        tensor(0.3466)
    """

    def __init__(self, offset: float, temperature: float) -> None:
        super().__init__()
        if not 0 <= offset < math.inf:
            raise ValueError(f"offset must be finite and at least 0, got {offset}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        self.offset, self.temperature = offset, temperature

    def forward(self, logits_BK: Tensor, label_B: Tensor) -> dict[str, Tensor]:
        """Compute the mean loss: (B, K), (B,) -> ``loss``."""
        onehot_BK = F.one_hot(label_B, logits_BK.shape[1]).to(logits_BK)
        lowered_BK = (logits_BK - self.offset * onehot_BK) * self.temperature
        return {"loss": F.cross_entropy(lowered_BK, label_B) / self.temperature}


class RadiusHinge(nn.Module):
    """Ask for a certified radius: ``mean(max(margin - r, 0))``, r being negative where another label wins.

    Args:
        margin: the radius that is asked for, in pixel units, > 0.

    Raises:
        ValueError: if the margin is not positive and finite.

    Example:
        >>> RadiusHinge(2.0)(torch.tensor([3.0, 1.5, -1.0]))["loss"]  # (0 + 0.5 + 3) / 3
        tensor(1.1667)
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        if not 0 < margin < math.inf:
            raise ValueError(f"margin must be positive and finite, got {margin}")
        self.margin = margin

    def forward(self, radius_B: Tensor) -> dict[str, Tensor]:
        """Compute the mean loss: signed radii (B,) -> ``loss``."""
        return {"loss": (self.margin - radius_B).relu().mean()}


class RadiusSigmoid(nn.Module):
    """Count the samples that are not certified at one radius, smoothly: ``mean(sigmoid((margin - r) T)) / T``.

    As T grows it tends to one minus the certified accuracy at the margin, over T. Unlike the hinge it gives up what is
    far out of reach, and asks for nothing beyond the margin.

    Args:
        margin: the radius that is asked for, in pixel units, > 0.
        temperature: T, per pixel unit, > 0.

    Raises:
        ValueError: if an argument is not positive and finite.

    Example:
        >>> RadiusSigmoid(2.0, 4.0)(torch.tensor([2.0, 9.0, -9.0]))["loss"]  # (1/2 + 0 + 1) / 3 / 4
        tensor(0.1250)
    """

    def __init__(self, margin: float, temperature: float) -> None:
        super().__init__()
        for name, value in (("margin", margin), ("temperature", temperature)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        self.margin, self.temperature = margin, temperature

    def forward(self, radius_B: Tensor) -> dict[str, Tensor]:
        """Compute the mean loss: signed radii (B,) -> ``loss``."""
        missed_B = torch.sigmoid((self.margin - radius_B) * self.temperature)
        return {"loss": missed_B.mean() / self.temperature}
