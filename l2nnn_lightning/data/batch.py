"""What a DataLoader of this package yields and every training or evaluation step receives."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "even_batch_size", "to_float"]


class Batch(NamedTuple):
    """Images with their labels and, in adversarial training, their attacked copies.

    Args:
        image: (B, C, H, W), uint8 in [0, 255] as loaded, float in [0, 1] once the DataModule has seen it on the device.
        label: (B,), int64, the label to learn from (noisy where label noise is on).
        adversarial: attacked copies of ``image``, or None.
        index: (B,), int64, the position of each sample in its split.
    """

    image: Tensor
    label: Tensor
    adversarial: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]  # hides tuple.index, which no one wants here


def to_float(images: Tensor, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn bytes into numbers in [0, 1], on a device.

    Args:
        images: uint8, in [0, 255]. They travel as bytes.
        device: where they go; None leaves them where they are.
        dtype: what they become.

    Raises:
        ValueError: if the images are no bytes: they would be divided twice.

    Example:
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, got {images.dtype}")
    # In place: a second float batch would cost more time than everything else here.
    return images.to(device).to(dtype).div_(255)


def even_batch_size(size: int, num_replicas: int, batch_size: int) -> int:
    """Find the smallest batch size >= ``batch_size`` for which all processes have the same number of batches.

    Shards differ by up to one sample; if that one needs a batch of its own, the processes that have it wait for a
    collective operation (a wrapped model synchronises its buffers in every forward) that the others never enter.

    Raises:
        ValueError: if there are fewer samples than processes: an idle process would wait for the others for ever.

    Example:
        >>> even_batch_size(9, 2, 4)
        5
    """
    if size < num_replicas:
        raise ValueError(f"{size} images cannot be shared by {num_replicas} processes: use fewer")
    shortest, longest = size // num_replicas, -(-size // num_replicas)
    while -(-shortest // batch_size) != -(-longest // batch_size):
        batch_size += 1
    return batch_size
