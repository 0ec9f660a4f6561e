"""Convolutions in float64 on a CPU, where PyTorch has no fast ones: patches of a few images, as one product."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PatchConv2d", "read_patches"]

# Images whose patches fit in a core's cache, and rows of a patch that are worth copying in one piece.
_IMAGES, _ROW = 8, 16


class PatchConv2d(nn.Conv2d):
    """A convolution as a product of its patches with its weight, with channels last; the same sums, in another order.

    Elsewhere than on a CPU, and in a graph, it is what it is made of.

    Args:
        layer: a convolution without groups, dilation and other padding than zeros.
    """

    stride: tuple[int, int]
    padding: tuple[int, int]

    def __init__(self, layer: nn.Conv2d) -> None:
        (rows, columns), (down, right) = layer.kernel_size, layer.stride
        sides: tuple[Any, ...] = tuple(layer.padding)
        padding = (int(sides[0]), int(sides[1]))
        super().__init__(layer.in_channels, layer.out_channels, (rows, columns), (down, right), padding, bias=False)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        matrix_PO = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        parts = [self._multiply(part, matrix_PO) for part in torch.split(x.permute(0, 2, 3, 1), _IMAGES)]
        y_BHWO = torch.cat(parts)
        return (y_BHWO if self.bias is None else y_BHWO + self.bias).permute(0, 3, 1, 2)

    def _multiply(self, x_BHWC: Tensor, matrix_PO: Tensor) -> Tensor:
        (down, right), (rows, columns) = self.padding, self.kernel_size
        padded = F.pad(x_BHWC, (0, 0, right, right, down, down)).contiguous()
        batch, height, width, channels = padded.shape
        image, row, pixel, _ = padded.stride()
        high, wide = (height - rows) // self.stride[0] + 1, (width - columns) // self.stride[1] + 1
        # A row of a patch lies in one piece.
        size = (batch, high, wide, rows, columns * channels)
        patches = padded.as_strided(size, (image, row * self.stride[0], pixel * self.stride[1], row, 1))
        products = patches.reshape(batch * high * wide, len(matrix_PO)) @ matrix_PO
        return products.view(batch, high, wide, self.out_channels)


def read_patches(network: nn.Module) -> None:
    """Replace the plain convolutions of a folded network, in place."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Conv2d and layer.groups == 1 and layer.dilation == (1, 1):
                wide = layer.in_channels * layer.kernel_size[1] >= _ROW
                if wide and layer.padding_mode == "zeros" and layer.padding not in ("same", "valid"):
                    setattr(parent, name, PatchConv2d(layer).train(layer.training))
