"""Options of networks by name, and what they allow."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

from torch import nn

from l2nnn_lightning.nn.activations import MaxMin, TwoSidedReLU

__all__ = ["Activation", "activation_of", "check_choice", "check_kernel"]

Activation = Literal["two_sided_relu", "maxmin", "relu"]


def activation_of(name: Activation, widths: Iterable[int] = ()) -> tuple[Callable[[], nn.Module], int]:
    """Look up an activation; of these, ReLU alone loses the gradient where its input is negative (table 3).

    Args:
        name: its name.
        widths: the numbers of channels it will be applied to.

    Returns:
        What builds it, and by what it multiplies the channels.

    Raises:
        ValueError: if the name is unknown, or MaxMin would meet an odd number of channels.
    """
    check_choice("activation", name, Activation)
    if min(widths := tuple(widths), default=1) < 1:
        raise ValueError(f"widths must be at least 1, got {min(widths)}")
    odd = next((width for width in widths if width % 2), None)
    if name == "maxmin" and odd is not None:
        raise ValueError(f"maxmin sorts pairs of channels: widths must be even, got {odd}")
    choices: dict[str, tuple[Callable[[], nn.Module], int]] = {
        "two_sided_relu": (TwoSidedReLU, 2),
        "maxmin": (MaxMin, 1),
        "relu": (nn.ReLU, 1),
    }
    return choices[name]


def check_choice(option: str, value: str, choices: Any) -> None:
    """Refuse a value that is none of a Literal's.

    Raises:
        ValueError: naming the choices.
    """
    if value not in get_args(choices):
        raise ValueError(f"{option} must be one of {', '.join(get_args(choices))}, got {value!r}")


def check_kernel(kernel_size: int, image_shape: Sequence[int], poolings: int) -> None:
    """Refuse an even kernel, and images that are too small to be halved so often.

    Raises:
        ValueError: saying which.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    _, height, width = image_shape
    if min(height, width) >> poolings == 0:
        raise ValueError(f"images of {height}x{width} are too small for {poolings} poolings")
