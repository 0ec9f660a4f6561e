"""Space to channels: a permutation of an image's entries, hence nonexpansive."""

from torch import Tensor, nn

__all__ = ["PixelUnshuffle"]


class PixelUnshuffle(nn.PixelUnshuffle):
    """Turn each block of ``factor x factor`` pixels into channels, also of an empty batch (torch's leaves it as it is).

    Shape:
        (B, C, factor H, factor W) -> (B, C factor^2, H, W).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Permute the entries."""
        if len(x) > 0:
            return super().forward(x)
        batch, channels, height, width = x.shape
        factor = self.downscale_factor
        return x.reshape(batch, channels * factor**2, height // factor, width // factor)
