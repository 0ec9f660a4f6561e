"""Norms computed once, tightly and from above in float64, of a layer and a hard chain: what certificates divide by."""

import math

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.parametrization import fold, scaling_of

__all__ = ["chain_norm", "layer_norms", "tight_norm"]

# Far above the rounding of a singular value in float64, far below what a radius is read to.
_ROUNDING = 1e-9
_FREQUENCIES = 64
# Squares of what is beyond may overflow.
_LARGEST = 1e100


def chain_norm(module: nn.Module) -> float:
    """Bound the Lipschitz constant of a hard trunk by the product of its layers' norms: in [0, 1], rounded up.

    A hard layer's norm is often well below 1, because its bound is not tight; then features move less than the images,
    and a radius is larger by that factor. Layers in a sequence multiply. Every other module of a trunk (an
    activation, pooling, a residual block) is nonexpansive as a whole and counts as 1.
    """
    if isinstance(module, nn.Sequential):
        # A product of n rounded numbers is off by n ulp at most.
        return min(1.0, math.prod(chain_norm(part) for part in module) * (1 + 1e-12))
    return 1.0 if scaling_of(module) is None else tight_norm(module)


def tight_norm(layer: nn.Module) -> float:
    """Bound the Lipschitz constant of a hard layer from above, nearly exactly, and by 1, which hard scaling proves.

    Args:
        layer: a layer made by :func:`nonexpansive`, hard.

    Raises:
        ValueError: if the layer is not nonexpansive or not hard.
    """
    scaling = scaling_of(layer)
    if scaling is not None and not scaling.hard:
        raise ValueError("the layer is not hard: call harden first")
    return min(1.0, float(layer_norms(layer).max()))


@torch.no_grad()
def layer_norms(layer: nn.Module) -> Tensor:
    """Bound the norm of each matrix of a layer from above, nearly exactly, with the weight that it has, soft or hard.

    For a matrix it is the largest singular value. A convolution on the infinite grid is a matrix at each frequency, the
    kernel's symbol, and its norm is the largest norm of these; zero padding restricts the operator and circular
    padding the frequencies. Between the points of a grid of N frequencies the squared norm of the symbol along a
    fixed direction is a real trigonometric polynomial of degree m = taps - 1 in each coordinate, which at a point
    within pi / N of its maximum is still ``cos(m pi / N)`` times it (M. Riesz, 1914): dividing the largest squared
    norm on the grid by that cosine, once a side, bounds it everywhere.

    Args:
        layer: a layer made by :func:`nonexpansive`.

    Returns:
        The norms, (G,) in float64 on the CPU, the Lipschitz constant of the layer being the largest of them; of a
        convolution only that, (1,). Infinite where the weight is not finite.

    Raises:
        ValueError: if the layer is not nonexpansive.
    """
    scaling = scaling_of(layer)
    if scaling is None:
        raise ValueError(f"{type(layer).__name__} is not a nonexpansive layer: it has no norm that is proved")
    layout = scaling.layout
    weight: Tensor = fold(layer).weight.cpu().double()  # type: ignore[assignment]
    if not bool((weight.abs() < _LARGEST).all()):  # a comparison with nan is false
        return torch.full((layout.groups if layout.conv is None else 1,), torch.inf, dtype=torch.float64)
    if layout.conv is None:
        norm_G: Tensor = torch.linalg.matrix_norm(layout.matrices(weight), 2)
    else:
        norm_G = _symbol_norm(layout.kernels(weight))[None]
    return norm_G * (1 + _ROUNDING)


def _symbol_norm(kernel_GOIHW: Tensor) -> Tensor:
    """Bound the norm of the convolution's symbol over all frequencies: (G, O, I, H, W) -> ()."""
    symbols = kernel_GOIHW
    correction = 1.0
    for side in (3, 4):
        degree = kernel_GOIHW.shape[side] - 1
        count = max(_FREQUENCIES, 16 * degree) if degree else 1
        # A real kernel's symbol at the opposite frequency is its conjugate: half of one side is enough.
        symbols = torch.fft.rfft(symbols, count, side) if side == 3 else torch.fft.fft(symbols, count, side)
        correction *= math.cos(math.pi * degree / count)
    symbols = symbols.movedim((1, 2), (3, 4))
    if symbols.shape[-2] > symbols.shape[-1]:
        symbols = symbols.mT
    # The largest eigenvalue of the smaller product is much faster to find than a singular value, and as accurate.
    squares = torch.linalg.eigvalsh(symbols @ symbols.mH)[..., -1].amax().clamp_min(0)
    bound: Tensor = (squares / correction).sqrt()
    return bound
