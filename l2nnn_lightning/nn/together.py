"""The scaled weights of a network, all computed before its first layer needs one."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from l2nnn_lightning.nn.nonexpansive import nonexpansive_layers

__all__ = ["weights_together"]


@contextmanager
def weights_together(module: nn.Module) -> Iterator[None]:
    """Compute every scaled weight of a network now, one after the other, and use them while the context lasts.

    Scaling takes some dozens of small operations a layer. One layer after the other they find a processor's caches full
    of their own code; between the layers of a forward pass they find them full of images, and take twice as long.

    Args:
        module: the network; its raw weights and modes must stay as they are in the context.
    """
    layers = list(nonexpansive_layers(module))
    try:
        for layer, scaling in layers:
            scaling.computed = layer.weight  # type: ignore[assignment]
        yield
    finally:
        for _, scaling in layers:
            scaling.computed = None
