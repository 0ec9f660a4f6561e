"""The certified radius of templates: the distance to every cell that a rival template could win.

Scores are ``s_n(z) = w_n . z + b_n`` and the label is that of the largest. To change it, some template n of another
label must beat *every* own template m: ``(w_n - w_m) . delta >= s_m(z) - s_n(z) =: c_m`` for all own m. With any
``p_m >= 0`` that add up to one, the combined constraint ``a . delta >= c``, ``a = sum_m p_m (w_n - w_m)`` and
``c = sum_m p_m c_m``, is implied, so

    ``|delta| >= c / |a|``,

and inside the image box the shortest move of :func:`move_in_box` for the same a and c. Both hold for **every** p: one
own template (p = 1 for one m) is the distance to a bisecting hyperplane; the best p gives, by the duality of
quadratic programs, the exact distance to the rival's cell (Voracek and Hein, 2022, for nearest prototypes). The
radius is the minimum over all rivals of these lower bounds; only the rivals whose simplest bound is below the minimum
so far need a better one.

Rounding. Whatever the order of its sums, a network computes a score of F features with an error of at most
``g (|w| |z| + |b|)``, ``g = gamma_(F + 2)`` (Higham, 2002, section 3.1). It counts for both scores at the attacked
image, where ``|z'| <= |z| + r``; and for both at the image, as the certificate computes them itself, in float64. So c
is reduced by ``4 e (max|w| |z| + max|b|)`` and ``|a|`` enlarged by ``2 e max|w|``, where e is g of the network's format
plus ``2 gamma_(F + 16)`` of float64: more than the few further sums of the certificate can be off by.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from l2nnn_lightning.nn.precision import to_double
from l2nnn_lightning.nn.proof.arithmetic import DOUBLE, Arithmetic

__all__ = ["BoxMove", "TemplateRadius", "certify_templates", "combine_constraints", "move_in_box"]

# Own templates that are combined, rivals looked at together, and most rivals that get more than the simplest bound.
_OWN, _ROUND, _RIVALS = 12, 4, 128
# Entries of the largest intermediate tensor, 64 MiB in float64.
_ENTRIES = 2**23
# A box radius is not followed beyond this multiple of the radius in the whole space.
_FARTHEST = 4.0
_TINY = 1e-30
# The last operations on a radius, each off by 2^-53 of its result.
_DOWN = 1 - 2.0**-48
# Far above the rounding of a sum of float64 products, far below anything that a radius shows.
_MARGIN = 1e-9


class TemplateRadius(NamedTuple):
    """What templates prove of each image.

    Attributes:
        radius: in the whole space, float64 (B,); 0 proves nothing.
        radius_box: for images in [0, 1], float64 (B,), never below ``radius``; None where not asked for.
    """

    radius: Tensor
    radius_box: Tensor | None


class _Problem(NamedTuple):
    """Templates in float64 and the allowances for rounding."""

    weight: Tensor
    offset: Tensor
    slope: Tensor
    error: Tensor
    apart: float
    farthest: Tensor


@torch.no_grad()
def certify_templates(
    features_BF: Tensor,
    label_B: Tensor,
    weight_KMF: Tensor,
    offset_KM: Tensor,
    *,
    box: bool = False,
    quick: bool = False,
) -> TemplateRadius:
    """Compute the radius within which no rival template wins, in float64.

    Args:
        features_BF: what the templates see; with ``box`` the images themselves.
        label_B: the predicted labels; where a rival is not below the label's best template nothing is proved.
        weight_KMF: the templates, as the network computes with them, and in its format.
        offset_KM: what is added to their scores.
        box: whether to compute the radius inside [0, 1] too.
        quick: whether the bisecting hyperplanes with the best own template will do, a few percent less.

    Returns:
        Radii, 0 where nothing is proved, as where a number is not finite.
    """
    _, count, features = weight_KMF.shape
    weight_NF, offset_N = to_double(weight_KMF).flatten(0, 1), to_double(offset_KM).flatten()
    program, own_error = Arithmetic.of(weight_KMF.dtype), DOUBLE.gamma(features + 16)
    unit = program.gamma(features + 2) + 2 * own_error
    largest = torch.linalg.vector_norm(weight_NF, dim=1).max() * (1 + own_error)
    size = torch.stack([largest, offset_N.abs().max()])
    # What underflows is off by the smallest normal number, of every term.
    error = torch.cat([4 * unit * size, 8 * program.tiny * (features + 2) * (1 + largest[None])])
    # Features beyond that might overflow.
    farthest = (program.largest / 4 - size[1]) / (size[0] + 1)
    problem = _Problem(weight_NF, offset_N, 2 * unit * largest, error, 4 * own_error, farthest)
    own = min(_OWN, count)
    chunk = max(1, _ENTRIES // (_ROUND * own * features))
    parts = []
    for features_CF, label_C in zip(torch.split(features_BF, chunk), torch.split(label_B, chunk), strict=True):
        z_CF = to_double(features_CF)
        parts.append(_certify(problem, z_CF, label_C.to(z_CF.device), count, own, 0 if quick else _RIVALS, box))
    boxes = [part.radius_box for part in parts if part.radius_box is not None]
    return TemplateRadius(torch.cat([part.radius for part in parts]), torch.cat(boxes) if box else None)


def combine_constraints(direction_PMF: Tensor, needed_PM: Tensor, sweeps: int = 20) -> Tensor:
    """Find weights p that nearly maximise ``(p . c) / |p . A|``, by coordinate ascent on the dual.

    The dual of ``min |delta|^2 / 2`` with ``A delta >= c`` is ``max p . c - |p A|^2 / 2`` over p >= 0; a coordinate's
    best value is known in closed form. Any result is a valid choice.

    Shape:
        A (P, M, F), c (P, M) -> (P, M), >= 0, adding up to one.
    """
    gram_PMM = direction_PMF @ direction_PMF.mT
    diagonal_PM = gram_PMM.diagonal(dim1=1, dim2=2).clamp_min(_TINY)
    p_PM = torch.zeros_like(needed_PM)
    for _ in range(sweeps):
        for m in range(needed_PM.shape[1]):
            slope_P = needed_PM[:, m] - (gram_PMM[:, m] * p_PM).sum(1)
            p_PM[:, m] = (p_PM[:, m] + slope_P / diagonal_PM[:, m]).clamp_min_(0)
    total_P = p_PM.sum(1, keepdim=True)
    first_PM = torch.zeros_like(p_PM).index_fill_(1, torch.tensor([0], device=p_PM.device), 1)
    return torch.where((total_P > 0) & total_P.isfinite(), p_PM / total_P, first_PM)


def _certify(
    problem: _Problem, z_BF: Tensor, label_B: Tensor, count: int, own: int, rivals: int, box: bool
) -> TemplateRadius:
    scores_BN = z_BF @ problem.weight.mT + problem.offset
    is_finite_B = scores_BN.isfinite().all(1)
    labelwise_BKM = scores_BN.view(len(z_BF), scores_BN.shape[1] // count, count)
    rows_B = torch.arange(len(z_BF), device=z_BF.device)
    own_score_BM, own_BM = labelwise_BKM[rows_B, label_B].nan_to_num(nan=-torch.inf).topk(own, dim=1)
    own_BM = own_BM + count * label_B[:, None]
    norm_B = torch.linalg.vector_norm(z_BF, dim=1)
    error_B = problem.error[0] * norm_B + problem.error[1:].sum() * (1 + norm_B * problem.error[2])

    # The simplest bound, for every rival: the bisecting hyperplane with the own template that scores highest.
    best_BF = problem.weight[own_BM[:, 0]]
    squared_N = problem.weight.square().sum(1)
    sums_BN = squared_N[own_BM[:, 0], None] + squared_N
    # The difference of two squares loses digits where templates are close, so its error is added.
    apart_BN = (sums_BN - 2 * best_BF @ problem.weight.mT + problem.apart * sums_BN).clamp_min(0).sqrt()
    simple_BN = (own_score_BM[:, :1] - scores_BN - error_B[:, None]) / (apart_BN + problem.slope + _TINY)
    simple_BN.view_as(labelwise_BKM)[rows_B, label_B] = torch.inf
    is_won_B = (simple_BN > 0).all(1) & is_finite_B
    looked_at = min(rivals, simple_BN.shape[1] - count)
    # One more than are looked at; where there is none, one of the label's own, whose distance is infinite.
    nearest_BR, rival_BR = simple_BN.topk(looked_at + 1, dim=1, largest=False)

    radius_B = torch.full_like(error_B, torch.inf)
    radius_box_B = radius_B.clone()
    limit_B = radius_box_B if box else radius_B
    for first in range(0, looked_at, _ROUND):
        columns = slice(first, min(first + _ROUND, looked_at))
        active = torch.nonzero(is_won_B & (nearest_BR[:, first] < limit_B))[:, 0]
        if len(active) == 0:
            break
        rival_P = rival_BR[active, columns].flatten()
        sample_P = active.repeat_interleave(columns.stop - first)
        needed_PM = own_score_BM[sample_P] - scores_BN[sample_P, rival_P][:, None] - error_B[sample_P, None]
        image_PF = z_BF[sample_P] if box else None
        pair_P, pair_box_P = _pair_radius(problem, own_BM[sample_P], rival_P, needed_PM, image_PF)
        pair_P = torch.maximum(pair_P, nearest_BR[active, columns].flatten())
        radius_B[active] = torch.minimum(radius_B[active], pair_P.view(len(active), -1).amin(1))
        pair_box_P = torch.maximum(pair_P, pair_box_P)
        radius_box_B[active] = torch.minimum(radius_box_B[active], pair_box_P.view(len(active), -1).amin(1))
    # Rivals that were not looked at are no nearer than the next simple bound.
    radius_B = torch.minimum(radius_B, nearest_BR[:, -1])
    radius_box_B = torch.minimum(radius_box_B, nearest_BR[:, -1])
    # A label that no rival can take keeps a finite radius: records hold finite numbers.
    most_B = (problem.farthest - norm_B).clamp(0, torch.finfo(torch.float32).max)
    proved_B = is_won_B & ~radius_B.isnan() & ~radius_box_B.isnan() & (most_B > 0)
    radius_B, radius_box_B = (
        torch.where(proved_B, torch.minimum(radius * _DOWN, most_B), 0) for radius in (radius_B, radius_box_B)
    )
    return TemplateRadius(radius_B, radius_box_B if box else None)


def _pair_radius(
    problem: _Problem, own_PM: Tensor, rival_P: Tensor, needed_PM: Tensor, image_PF: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Bound the distance to one rival's cell from below, in the whole space and (given images) in the box."""
    own_PMF, rival_PF = problem.weight[own_PM], problem.weight[rival_P]
    direction_PMF = rival_PF[:, None] - own_PMF
    radius_P = (needed_PM / (torch.linalg.vector_norm(direction_PMF, dim=2) + problem.slope + _TINY)).amax(1)
    p_PM = combine_constraints(direction_PMF, needed_PM)
    direction_PF = torch.einsum("pm,pmf->pf", p_PM, direction_PMF)
    needed_P = (p_PM * needed_PM).sum(1)
    length_P = torch.linalg.vector_norm(direction_PF, dim=1) + problem.slope + _TINY
    radius_P = torch.maximum(radius_P, needed_P / length_P)
    if image_PF is None:
        return radius_P, radius_P
    # At a distance of r the scores may be off by r * slope more; beyond the farthest r nothing is claimed.
    farthest_P = _FARTHEST * radius_P
    box_P = move_in_box(image_PF, direction_PF, needed_P - problem.slope * farthest_P).norm
    return radius_P, torch.minimum(box_P, farthest_P)


class BoxMove(NamedTuple):
    """The smallest move of an image inside the box, from below.

    Attributes:
        step: the number t, (P,).
        norm: the move's length, (P,); infinite where no image in the box meets the constraint.
        move: ``clip(t a, -x, 1 - x)``, (P, F).
    """

    step: Tensor
    norm: Tensor
    move: Tensor


@torch.no_grad()
def move_in_box(image_PF: Tensor, direction_PF: Tensor, needed_P: Tensor, iterations: int = 30) -> BoxMove:
    """Find the shortest ``delta`` with ``a . delta >= c`` that keeps ``x + delta`` inside [0, 1].

    It is ``delta = clip(t a, -x, 1 - x)`` (the constraint's multiplier is t), so only t is to be found. The function
    ``f(t) = a . clip(t a, -x, 1 - x)`` is increasing and concave with f(0) = 0: every entry grows linearly and then
    stands still. A tangent therefore lies above f, and Newton's method from t = 0 never oversteps f(t) = c: every
    iterate gives a norm that is a lower bound, and after as many steps as f has kinks on the way it is exact.

    Rounding: all terms of f are >= 0, so f is known up to a relative error of some F ulp; the method aims at
    ``c (1 - 1e-9)``, which in float64 is more than that.

    Args:
        image_PF: the images x; an entry outside [0, 1] may stay where it is or move up to the far side of the box.
        direction_PF: the direction a.
        needed_P: the amount c; where it is not positive the move is 0.
        iterations: most steps of Newton's method, >= 1; with fewer the result is smaller, and still a lower bound.

    Example:
        >>> x, a = torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, 1.0]])
        >>> move_in_box(x, a, torch.tensor([0.4])).move  # the second pixel cannot go beyond 1
        tensor([[0.3000, 0.1000]])
    """
    size_PF = direction_PF.abs()
    limit_PF = torch.where(direction_PF > 0, 1 - image_PF, image_PF).clamp_min(0)
    target_P = needed_P.clamp_min(0) * (1 - _MARGIN)
    step_P = torch.zeros_like(target_P)
    unreachable_P = torch.zeros_like(target_P, dtype=torch.bool)
    for _ in range(iterations):
        reach_PF = step_P[:, None] * size_PF
        is_free_PF = reach_PF < limit_PF
        missing_P = target_P - (size_PF * torch.minimum(reach_PF, limit_PF)).sum(1)
        slope_P = (size_PF.square() * is_free_PF).sum(1)
        is_short_P = missing_P > _MARGIN * target_P
        unreachable_P |= is_short_P & (slope_P == 0)
        is_short_P &= ~unreachable_P
        if not is_short_P.any():
            break
        step_P = torch.where(is_short_P, step_P + missing_P / slope_P, step_P)
    size_PF = torch.minimum(step_P[:, None] * size_PF, limit_PF)
    norm_P = torch.linalg.vector_norm(size_PF, dim=1) * (1 - _MARGIN)
    return BoxMove(step_P, torch.where(unreachable_P, torch.inf, norm_P), size_PF * direction_PF.sign())
