"""k-means, to place templates where the images are."""

import torch
from torch import Tensor

__all__ = ["kmeans"]

_CHUNK = 4096


@torch.no_grad()
def kmeans(points_NF: Tensor, count: int, generator: torch.Generator, iterations: int = 10) -> Tensor:
    """Find ``count`` centres by Lloyd's algorithm, starting at points drawn without replacement.

    A centre that loses all its points stays where it is. With fewer points than centres, points are used repeatedly.

    Args:
        points_NF: the points, N >= 1.
        count: the number of centres, >= 1.
        generator: of the draw, on the CPU; equal seeds give equal centres.
        iterations: of Lloyd's algorithm, >= 0.

    Shape:
        (N, F) -> (count, F).

    Example:
        >>> points = torch.tensor([[0.0], [0.2], [5.0], [5.2]])
        >>> kmeans(points, 2, torch.Generator().manual_seed(0)).flatten().sort().values
        tensor([0.1000, 5.1000])
    """
    order = torch.randperm(len(points_NF), generator=generator)
    order = order.repeat(-(-count // len(order)))[:count]
    centres_CF = points_NF[order.to(points_NF.device)].clone()
    if count >= len(points_NF):
        return centres_CF
    for _ in range(iterations):
        half_C = centres_CF.square().sum(1) / 2
        nearest_N = torch.cat([(part @ centres_CF.mT - half_C).argmax(1) for part in torch.split(points_NF, _CHUNK)])
        sizes_C = torch.bincount(nearest_N, minlength=count)
        sums_CF = torch.zeros_like(centres_CF).index_add_(0, nearest_N, points_NF)
        means_CF = sums_CF / sizes_C.clamp_min(1)[:, None]
        centres_CF = torch.where((sizes_C > 0)[:, None], means_CF, centres_CF)
    return centres_CF
