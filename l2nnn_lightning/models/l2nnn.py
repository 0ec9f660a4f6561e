"""A whole classifier: a nonexpansive trunk and a head."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.heads import MultiHead, SingleHead
from l2nnn_lightning.nn.labelwise import RepeatPerLabel
from l2nnn_lightning.nn.norms import chain_norm

__all__ = ["L2NNN"]

_TINY = 1e-6


class L2NNN(nn.Module):
    """A trunk whose features are nonexpansive in the image, and a head that turns them into logits.

    Args:
        trunk: images (B, C, H, W) to features (B, F), or (B, K, F) with a trunk per label.
        head: features to logits.

    Shape:
        (B, C, H, W) in [0, 1] -> (B, K).
    """

    def __init__(self, trunk: nn.Sequential, head: MultiHead | SingleHead) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self._convolves = any(isinstance(module, nn.Conv2d) for module in trunk.modules())

    @property
    def gap_lipschitz(self) -> float:
        """How much a difference of two logits can move per unit of input, when hard."""
        return self.head.gap_lipschitz

    @property
    def shares_trunk(self) -> bool:
        """Whether all labels see the same features."""
        return not any(isinstance(module, RepeatPerLabel) for module in self.trunk)

    def pair_constants(self, *, quick: bool = False) -> Tensor:
        """Bound how much each difference of two logits moves per unit of input, when hard: (K, K), float64.

        Args:
            quick: take 1 for the norm of the trunk, which takes a while to compute tightly.
        """
        return self.head.pair_constants(self.shares_trunk) * (1.0 if quick else chain_norm(self.trunk))

    def signed_radius(self, logits_BK: Tensor, label_B: Tensor, *, pairwise: bool) -> Tensor:
        """Measure the certified radius of the true label, negative where another one wins; for training.

        Args:
            logits_BK: the outputs.
            label_B: the true labels.
            pairwise: divide by the distance of each pair of rows instead of one constant for all.

        Returns:
            (B,), differentiable, also through the rows.
        """
        lead_BK = logits_BK.gather(1, label_B[:, None]) - logits_BK
        rows_KF = self.head.rows() if pairwise and self.shares_trunk else None
        if rows_KF is None:
            lead_BK = lead_BK / self.gap_lipschitz
        else:
            own_BF = rows_KF[label_B]
            apart_BK = torch.stack([torch.linalg.vector_norm(own_BF - row_F, dim=1) for row_F in rows_KF], dim=1)
            # The label's own distance is 0, and its derivative is not a number.
            own_BK = torch.zeros_like(lead_BK, dtype=torch.bool).scatter(1, label_B[:, None], True)
            lead_BK = lead_BK / torch.where(own_BK, 1, apart_BK).clamp_min(_TINY)
        return lead_BK.scatter(1, label_B[:, None], torch.inf).amin(1)

    def chain(self) -> Iterator[nn.Module]:
        """Iterate over the layers in the order in which a signal passes them."""
        yield from self.trunk
        yield from self.head.layers()

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        if self._convolves and image.device.type == "cpu":
            image = _channels_last(image)
        logits: Tensor = self.head(self.trunk(image))
        return logits


def _channels_last(image: Tensor) -> Tensor:
    """Lay images out with their channels last: maps then pool a good deal faster on a CPU. Gradients are as before."""
    # A clone, because an image of one channel counts as either layout and would be left as it is.
    laid_out = image.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
    if laid_out.requires_grad:
        # Attacks of other libraries view gradients as vectors.
        laid_out.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call]
    return laid_out
