"""Random starts that belong to the image, not to its place in a batch."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["NoisePerImage"]


class NoisePerImage(TorchFunctionMode):
    """Let in-place uniform and normal noise depend on a seed and on each image alone.

    torchattacks draws the random starts of a whole batch from the global generator, so that what it finds for an image
    changes with the size of the batch and with the images before it. While this mode is on, every image has a generator
    of its own, seeded by its pixels: an evaluation gives the same result in whatever parts it is done.

    Args:
        images: (B, ...), one per row of the tensors that will be filled.
        seed: chooses among the patterns that an image can get, >= 0.

    Example:
        >>> images = torch.rand(3, 4)
        >>> with NoisePerImage(images, seed=0):
        ...     whole = torch.empty(3, 4).normal_()
        >>> with NoisePerImage(images[1:], seed=0):
        ...     part = torch.empty(2, 4).normal_()
        >>> torch.equal(whole[1:], part)
        True
    """

    def __init__(self, images: Tensor, seed: int) -> None:
        super().__init__()
        pixels = images.detach().cpu().contiguous().numpy()
        # The generator of the CPU knows seeds of 32 bits only.
        seeds = [zlib.crc32(row.tobytes(), seed & 0xFFFFFFFF) for row in pixels]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Fill noise row by row; pass everything else through."""
        kwargs = kwargs or {}
        if func not in (Tensor.uniform_, Tensor.normal_):
            return func(*args, **kwargs)
        target: Tensor = args[0]
        noise = torch.empty(target.shape, dtype=target.dtype)
        for row, generator in zip(noise, self.generators, strict=True):
            func(row, *args[1:], **{**kwargs, "generator": generator})
        return target.copy_(noise)
