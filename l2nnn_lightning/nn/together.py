"""The scaled weights of a network, all computed before its first layer needs one."""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.parametrization import NonexpansiveWeight, nonexpansive_layers

__all__ = ["weights_together"]


@contextmanager
def weights_together(module: nn.Module) -> Iterator[None]:
    """Compute every scaled weight of a network now, those alike as one batch, and use them while the context lasts.

    Scaling takes some dozens of small operations. One layer after the other they find a processor's caches full of
    their own code; between the layers of a forward pass they find them full of images, and take twice as long.

    Args:
        module: the network; its raw weights and modes must stay as they are in the context.
    """
    alike: dict[Hashable, list[tuple[NonexpansiveWeight, Tensor]]] = defaultdict(list)
    for layer, scaling in nonexpansive_layers(module):
        parametrizations = layer.parametrizations["weight"]  # type: ignore[index]
        if len(parametrizations) == 1:
            raw: Tensor = parametrizations.original  # type: ignore[union-attr]
            alike[scaling.bound, scaling.layout, scaling.training, raw.shape, raw.dtype, raw.device].append(
                (scaling, raw)
            )
    try:
        for batch in alike.values():
            _compute(batch)
        yield
    finally:
        for batch in alike.values():
            for scaling, _ in batch:
                scaling.computed = None


def _compute(batch: list[tuple[NonexpansiveWeight, Tensor]]) -> None:
    first, raw = batch[0]
    if len(batch) == 1:
        first.computed = first(raw)
        return
    groups = first.layout.groups
    matrices_GOI = torch.cat([scaling.layout.matrices(weight) for scaling, weight in batch])
    hard_G = torch.stack([scaling.hard for scaling, _ in batch]).repeat_interleave(groups)
    scaled_GOI = first.scaled(matrices_GOI, hard_G, replace(first.layout, groups=len(matrices_GOI)))
    for (scaling, weight), part_GOI in zip(batch, torch.split(scaled_GOI, groups), strict=True):
        scaling.computed = part_GOI.view_as(weight)
