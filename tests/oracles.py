"""Exact Lipschitz constants, by pushing the identity basis through; shares no code with the package."""

from collections.abc import Callable

import torch
from torch import Tensor


def affine_norm(layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> float:
    """Largest singular value of an affine map, from its values at 0 and at the unit vectors."""
    size = int(torch.Size(shape).numel())
    with torch.no_grad():
        zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten(1)
        basis = layer(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1)
    return float(torch.linalg.matrix_norm((basis - zero).double(), 2))


def jacobian_norm(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Largest singular value of the Jacobian at one input, (C, ...) without batch."""
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v[None])[0].flatten(), x)
    return float(torch.linalg.matrix_norm(jacobian.reshape(jacobian.shape[0], -1), 2))
