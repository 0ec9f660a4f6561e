"""Certify any number of images."""

from collections.abc import Iterable

import torch
from torch import Tensor

from l2nnn_lightning.data import to_float
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.nn.certificates import Certificate

__all__ = ["certify_all", "device_of"]


def certify_all(
    certified: Certified, batches: Iterable[Tensor], *, in_box: bool = False
) -> tuple[Certificate, Tensor | None]:
    """Predict and prove, batch by batch.

    Args:
        certified: on its device.
        batches: uint8 (B, C, H, W), at least one, such as ``images.split(100)``.
        in_box: whether radii inside the image box are wanted too.

    Returns:
        What is proved of all images, in their order, on the CPU; the radii inside the image box, or None.
    """
    device = device_of(certified)
    certificates: list[Certificate] = []
    boxes: list[Tensor] = []
    for batch in batches:
        image = to_float(batch, device)
        certificate, box = certified.in_box(image) if in_box else (certified(image), None)
        certificates.append(Certificate(*(part.cpu() for part in certificate)))
        boxes += [] if box is None else [box.cpu()]
    whole = Certificate(*(torch.cat(parts) for parts in zip(*certificates, strict=True)))
    return whole, torch.cat(boxes) if boxes else None


def device_of(certified: Certified) -> torch.device:
    """Return where a network is."""
    return next(certified.parameters()).device
