"""What a DataLoader of this package yields and every training or evaluation step receives."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch"]


class Batch(NamedTuple):
    """Images with their labels and, in adversarial training, their attacked copies.

    Args:
        image: uint8 in [0, 255] as loaded, float in [0, 1] once the DataModule has seen it on the device.
        label: int64, the label to learn from (noisy where label noise is on).
        adversarial: attacked copies of ``image``, or None.
        index: int64, the position of each sample in its split.

    Shape:
        - image, adversarial: (B, C, H, W)
        - label, index: (B,)
    """

    image: Tensor
    label: Tensor
    adversarial: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]  # hides tuple.index, which no one wants here
