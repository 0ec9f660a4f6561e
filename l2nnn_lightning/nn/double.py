"""Double precision on every device."""

from torch import Tensor

__all__ = ["to_double"]


def to_double(tensor: Tensor) -> Tensor:
    """Convert to float64; Apple's GPUs have none, so their tensors go by way of the CPU."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()
