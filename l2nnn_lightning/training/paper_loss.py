"""The paper's loss (3) with its terms (4), (5) and (6); the scales u and v belong to it."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.data import Batch
from l2nnn_lightning.models import Network
from l2nnn_lightning.training.objectives import Objective, Terms, check_positive

__all__ = ["PaperLoss", "confidence_gap_loss", "log1m_softmax"]


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
            check_positive(name, scale)
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


def log1m_softmax(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """Compute ``log(1 - softmax(logits)_label)`` without cancellation.

    With S the log-sum-exp of the other labels, ``1 - p_y = 1 / (1 + e^{y - S})``, so it is ``-softplus(y - S)``, which
    keeps a margin of 100 as well as one of 1e-6.

    Shape:
        (B, K), (B,) -> (B,), K >= 2, values <= 0.

    Example:
        >>> log1m_softmax(torch.tensor([[100.0, 0.0]]), torch.tensor([0]))
        tensor([-100.])
    """
    others_BK = logits_BK.scatter(1, label_B[:, None], -torch.inf)
    return -F.softplus(logits_BK.gather(1, label_B[:, None])[:, 0] - others_BK.logsumexp(1))


def confidence_gap_loss(logits_BK: Tensor, label_B: Tensor, z: float) -> Tensor:
    """Reward the confidence gap, equation (6): ``mean(log(1 - softmax(z y)_label)) / z``.

    As the sharpness z > 0 grows it tends to minus the mean gap over the correct predictions; wrong ones cost nothing.

    Shape:
        (B, K), (B,) -> ().
    """
    return log1m_softmax(z * logits_BK, label_B).mean() / z
