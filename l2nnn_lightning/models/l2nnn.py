"""A whole classifier: a nonexpansive trunk and a head."""

from collections.abc import Iterator

from torch import Tensor, nn

from l2nnn_lightning.nn.heads import MultiHead, SingleHead

__all__ = ["L2NNN"]


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

    @property
    def gap_lipschitz(self) -> float:
        """How much a difference of two logits can move per unit of input, when hard."""
        return self.head.gap_lipschitz

    def chain(self) -> Iterator[nn.Module]:
        """Iterate over the layers in the order in which a signal passes them."""
        yield from self.trunk
        yield from self.head.layers()

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.head(self.trunk(image))
        return logits
