"""Activations by name."""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

from torch import nn

from l2nnn_lightning.nn.activations import MaxMin, TwoSidedReLU

__all__ = ["Activation", "activation_of"]

Activation = Literal["two_sided_relu", "maxmin"]


def activation_of(name: Activation, widths: Iterable[int] = ()) -> tuple[Callable[[], nn.Module], int]:
    """Look up an activation that loses no gradient where its input has one sign pattern, or order.

    Args:
        name: its name.
        widths: the numbers of channels it will be applied to.

    Returns:
        What builds it, and by what it multiplies the channels.

    Raises:
        ValueError: if the name is unknown, or MaxMin would meet an odd number of channels.
    """
    if name not in get_args(Activation):
        raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {name!r}")
    if min(widths := tuple(widths), default=1) < 1:
        raise ValueError(f"widths must be at least 1, got {min(widths)}")
    odd = next((width for width in widths if width % 2), None)
    if name == "maxmin" and odd is not None:
        raise ValueError(f"maxmin sorts pairs of channels: widths must be even, got {odd}")
    return (TwoSidedReLU, 2) if name == "two_sided_relu" else (MaxMin, 1)
