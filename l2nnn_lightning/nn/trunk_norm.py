"""The Lipschitz constant of a trunk, computed tightly once for as long as its weights stay what they are."""

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.norms import tight_norm
from l2nnn_lightning.nn.parametrization import nonexpansive_layers

__all__ = ["TrunkNorm"]


class TrunkNorm:
    """Multiply the exact norms of a chain's layers, in float64, rounded up: an upper bound of its Lipschitz constant.

    A hard layer's norm is often well below 1, because its bound is not tight; then features move less than the images,
    and a radius is larger by that factor. Layers in a sequence multiply. Every other module of a trunk (an
    activation, pooling, a residual block) is nonexpansive as a whole and counts as 1.

    The last result is kept together with a copy of the weights that it belongs to, and is used again only where these
    are equal entry for entry. (A weight's version counter would not do: a fused optimizer leaves it alone.)
    """

    def __init__(self) -> None:
        self._weights: list[Tensor] = []
        self._norm = 1.0

    @torch.no_grad()
    def __call__(self, trunk: nn.Module) -> float:
        """Bound the Lipschitz constant of a hard trunk.

        Args:
            trunk: a layer, or a sequence of them; every layer with a bound must be hard.

        Returns:
            A number in [0, 1].
        """
        weights = [*trunk.parameters(), *trunk.buffers()]
        if not self._holds(weights):
            self._weights = [weight.detach().clone() for weight in weights]
            self._norm = _chain_norm(trunk)
        return self._norm

    def _holds(self, weights: list[Tensor]) -> bool:
        if len(weights) != len(self._weights) or not weights:
            return False
        return all(
            kept.shape == weight.shape and kept.device == weight.device and torch.equal(kept, weight)
            for kept, weight in zip(self._weights, weights, strict=True)
        )


def _chain_norm(module: nn.Module) -> float:
    if isinstance(module, nn.Sequential):
        product = 1.0
        for part in module:
            product *= _chain_norm(part)
        # A product of n rounded numbers is off by n ulp at most.
        return min(1.0, product * (1 + 1e-12))
    is_layer = any(layer is module for layer, _ in nonexpansive_layers(module))
    return tight_norm(module) if is_layer else 1.0
