"""Arithmetic that certificates may rely on: float64 on every device, no autocast, no TF32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["full_precision", "to_double"]


def to_double(tensor: Tensor) -> Tensor:
    """Convert to float64; Apple's GPUs have none, so their tensors go by way of the CPU."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in the tensors' own precision: both shortcuts round products to 8 or 11 bits, a thousandth of a logit.

    The settings of CUDA are changed, and restored, only where the device is one of its.
    """
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            torch.backends.cudnn.allow_tf32 = convolution
