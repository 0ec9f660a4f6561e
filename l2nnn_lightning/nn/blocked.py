"""A dense layer that adds its products up in blocks, and the blocks pair by pair: fewer roundings meet in a sum."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BlockedLinear", "sum_in_blocks"]

_BLOCK = 64


class BlockedLinear(nn.Module):
    """``y = W x + b`` as a tree of sums: a product takes part in ``64 + log2(I / 64) + 1`` additions, and not in I.

    Within a block of 64 products the order is the library's, whatever it is; between the blocks it is written out.

    Args:
        layer: the dense layer.

    Shape:
        (B, I) -> (B, O).
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features = layer.in_features
        blocks = -(-layer.in_features // _BLOCK)
        self.missing = blocks * _BLOCK - layer.in_features
        weight_NMO = F.pad(layer.weight.detach(), (0, self.missing)).mT.reshape(blocks, _BLOCK, layer.out_features)
        self.weight = nn.Parameter(weight_NMO.contiguous())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        #: The most additions that a product takes part in, its block's and then those of the tree and the bias.
        self.depth = _BLOCK + (blocks - 1).bit_length() + 1

    def matrix(self) -> Tensor:
        """Return the weight, (O, I)."""
        return self.weight.flatten(0, 1)[: self.in_features].mT

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map."""
        blocks, size, _ = self.weight.shape
        x_NBM = F.pad(x, (0, self.missing)).reshape(-1, blocks, size).transpose(0, 1)
        parts = list(torch.bmm(x_NBM, self.weight).unbind(0))
        while len(parts) > 1:
            paired = [one + other for one, other in zip(parts[::2], parts[1::2], strict=False)]
            parts = paired + parts[2 * len(paired) :]
        return parts[0] if self.bias is None else parts[0] + self.bias


def sum_in_blocks(network: nn.Module) -> None:
    """Replace the wide dense layers of a folded network's sequences, in place."""
    for chain in [module for module in network.modules() if type(module) is nn.Sequential]:
        for name, layer in chain.named_children():
            if type(layer) is nn.Linear and layer.in_features > 2 * _BLOCK:
                setattr(chain, name, BlockedLinear(layer).train(layer.training))
