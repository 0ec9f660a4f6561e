"""Arithmetic that certificates may rely on: float64 on every device, no autocast, no products that are shortened."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["full_precision", "to_double"]

# Where each library is told how to multiply float32: as itself, or as TF32 or bfloat16.
_SWITCHES = ("mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn", "cuda.matmul", "cudnn.conv", "cudnn.rnn")


def to_double(tensor: Tensor) -> Tensor:
    """Convert to float64; Apple's GPUs have none, so their tensors go by way of the CPU."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in the tensors' own precision, with sums of products as they are written.

    Autocast is off, and so are TF32 and bfloat16 within float32 products, on the CPU as on CUDA, by whichever switch
    they were turned on: they round products to 8 or 11 bits, a thousandth of a logit. NNPACK is off too, since its
    convolutions are not sums of products of what they are given. All settings are restored. Float64 knows none of this.
    """
    backends = [_operation(name) for name in _SWITCHES]
    modes = [_mode(name) for name in _SWITCHES]
    with torch.autocast(device.type, enabled=False), torch.backends.nnpack.flags(enabled=False), _older(device):
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, mode in zip(backends, modes, strict=True):
                backend.fp32_precision = mode


@contextmanager
def _older(device: torch.device) -> Iterator[None]:
    """Turn off CUDA's older switches, which must not contradict the others where products are computed."""
    if device.type != "cuda":
        yield
        return
    try:
        matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # they contradict the others already, or cannot say what these do
        yield
        return
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution


def _operation(name: str) -> Any:
    library, operation = name.split(".")
    return getattr(getattr(torch.backends, library), operation)


def _mode(name: str) -> str:
    """Read a switch; ``none`` where it says what its library says, or all of torch, which it then goes on to follow."""
    everything: Any = torch.backends
    library = getattr(everything, name.split(".")[0])
    mode: str = _operation(name).fp32_precision
    return "none" if mode in (getattr(library, "fp32_precision", None), everything.fp32_precision) else mode
