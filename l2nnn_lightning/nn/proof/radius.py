"""The radius within which a program, with all that it rounds, keeps its label."""

import torch
from torch import Tensor

from l2nnn_lightning.nn.precision import to_double
from l2nnn_lightning.nn.proof.heads import PairBounds

__all__ = ["image_norm", "proven_radius"]

# The few float64 operations of the formula, each off by 2^-53 of its result.
_DOWN, _UP = 1 - 2.0**-48, 1 + 2.0**-48
# What squares lose that underflow.
_TINY = 1e-140


def image_norm(image: Tensor) -> Tensor:
    """Compute the norm of each image in float64, rounded up: (B, ...) -> (B,)."""
    flat = to_double(image.flatten(1))
    norm_B: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norm_B * (1 + (flat.shape[1] + 16) * 2.0**-52) + _TINY


def proven_radius(logits_BK: Tensor, image: Tensor, bounds: PairBounds, least: float = 0.0) -> Tensor:
    """Prove a radius for what the program computed: no image x' nearer to x gets another label **from the program**.

    With f the exact logits and y those of the program, ``|(y_i - y_j) - (f_i - f_j)| <= e(|x|) = slope |x| + offset``.
    At x', at distance r, ``|x'| <= |x| + r``, so

    ``y_i(x') - y_j(x') >= y_i(x) - y_j(x) - e(|x|) - c_ij r - e(|x| + r) > 0``

    if ``r < (y_i - y_j - 2 e(|x|)) / (c_ij + slope)``, for all j; and as long as nothing overflows. The formula is
    computed in float64, rounded down.

    Args:
        logits_BK: of the program, in its format.
        image: (B, C, H, W), as they were given.
        bounds: of the program.
        least: a constant that no ``c_ij`` falls below, as the paper's rules have it.

    Returns:
        (B,), float64; 0 where nothing is proved.
    """
    exact_BK = to_double(logits_BK)
    norm_B1 = image_norm(image).to(exact_BK.device)[:, None]
    if logits_BK.dtype != bounds.program or tuple(image.shape[1:]) != bounds.image_shape:
        return torch.zeros_like(norm_B1[:, 0])
    label_B1 = exact_BK.argmax(1, keepdim=True)
    constant_BK, slope_BK, offset_BK = (
        part.to(exact_BK.device)[label_B1[:, 0]] for part in (bounds.constant.clamp_min(least), *bounds[2:4])
    )
    lead_BK = exact_BK.gather(1, label_B1) - exact_BK
    left_BK = lead_BK * _DOWN - 2 * (slope_BK * norm_B1 + offset_BK) * _UP
    radius_BK = left_BK.clamp_min(0) / (constant_BK + slope_BK) * _DOWN
    radius_B = radius_BK.scatter(1, label_B1, torch.inf).amin(1)
    # Beyond that, something might overflow.
    slope, offset = bounds.peak
    radius_B = torch.minimum(radius_B, ((1 - offset) / slope * _DOWN - norm_B1[:, 0]).clamp_min(0))
    proved_B = exact_BK.isfinite().all(1) & norm_B1[:, 0].isfinite() & ~radius_B.isnan()
    return torch.where(proved_B, radius_B, 0)
