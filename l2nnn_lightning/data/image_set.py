"""Images held in memory as bytes and batched by index, so that no worker process is needed."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from l2nnn_lightning.data.batch import Batch

__all__ = ["ImageSet"]


class ImageSet(Dataset[Batch]):
    """A whole split as one uint8 tensor.

    A DataLoader hands all indices of a batch to ``__getitems__`` at once; with a ``collate_fn`` that returns its
    argument, a batch costs one ``index_select`` instead of B Python calls.

    Args:
        images: (N, C, H, W), uint8 in [0, 255].
        labels: (N,), int64, what a training step sees.
        clean_labels: (N,), int64, the labels before label noise; ``labels`` where there is none.

    Raises:
        ValueError: if types or sizes do not fit.
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
