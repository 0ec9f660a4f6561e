"""Images held in memory as bytes and batched by index, so that no worker process is needed; and their batches."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["Batch", "ImageSet", "even_batch_size", "stratified_mask", "to_float"]


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


class ImageSet(Dataset[Batch]):
    """A whole split as one uint8 tensor.

    A DataLoader hands all indices of a batch to ``__getitems__`` at once; with a ``collate_fn`` that returns its
    argument, a batch costs one ``index_select`` instead of B Python calls.

    Args:
        images: (N, C, H, W), uint8 in [0, 255].
        labels: (N,), int64, what a training step sees.
        clean_labels: (N,), int64, the labels before label noise; ``labels`` where there is none.
    """

    def __init__(self, images: Tensor, labels: Tensor, clean_labels: Tensor | None = None) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
        clean_labels = labels if clean_labels is None else clean_labels
        for name, value in (("labels", labels), ("clean_labels", clean_labels)):
            if value.dtype != torch.int64 or value.shape != images.shape[:1]:
                raise ValueError(f"{name} must be int64 ({len(images)},), got {value.dtype} {tuple(value.shape)}")
        self.images, self.labels, self.clean_labels = images, labels, clean_labels

    @property
    def is_mislabeled(self) -> Tensor:
        """Bool (N,): where label noise changed the label."""
        return self.labels != self.clean_labels

    @property
    def num_bytes(self) -> int:
        """The size of the images in memory."""
        return self.images.nbytes

    def to(self, device: torch.device) -> "ImageSet":
        """Copy the split to a device; its batches are then put together there."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.clean_labels.to(device))

    def subset(self, indices: Tensor) -> "ImageSet":
        """Copy the samples at ``indices`` into a split of their own."""
        return ImageSet(self.images[indices], self.labels[indices], self.clean_labels[indices])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.images[index], self.labels[index], None, torch.tensor(index))

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.tensor(indices, dtype=torch.int64, device=self.images.device)
        return Batch(self.images.index_select(0, chosen), self.labels.index_select(0, chosen), None, chosen)


def to_float(images: Tensor, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn bytes, which travel as they are, into numbers in [0, 1] on a device, or where they are.

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
    collective operation (a wrapped model synchronises its buffers in every forward) that the others never enter. With
    fewer samples than processes, a ValueError: an idle one would wait for the others for ever.

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


def stratified_mask(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Choose a random ``round(fraction * N_c)`` of the ``N_c`` samples of each label, as a mask (N,).

    Example:
        >>> stratified_mask(torch.tensor([0, 0, 1, 1]), 0.5, seed=0).sum()
        tensor(2)
    """
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        mask[members[order[: round(fraction * len(members))]]] = True
    return mask
