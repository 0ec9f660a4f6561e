"""The shortest move inside the image box, held against a general solver."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from l2nnn_lightning.nn.template_radius import move_in_box


def problems(count: int, features: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images with many entries at 0 and 1, directions, and amounts that the box can just about meet."""
    rng = torch.Generator().manual_seed(seed)
    image = (torch.rand(count, features, generator=rng, dtype=torch.float64) * 1.6 - 0.3).clamp(0, 1)
    direction = torch.randn(count, features, generator=rng, dtype=torch.float64)
    most = (direction * torch.where(direction > 0, 1 - image, -image)).sum(1)
    return image, direction, most * torch.rand(count, generator=rng, dtype=torch.float64)


def test_norm_agrees_with_a_general_solver_and_is_never_above_it() -> None:
    image, direction, needed = problems(6, 6, seed=0)
    step, norm, move = move_in_box(image, direction, needed)
    for k in range(len(image)):
        x, a, c = image[k].numpy(), direction[k].numpy(), float(needed[k])
        found = minimize(
            lambda d: d @ d / 2,
            np.where(a > 0, 1 - x, -x),  # the farthest corner is feasible
            jac=lambda d: d,
            bounds=list(zip(-x, 1 - x, strict=True)),
            constraints={"type": "ineq", "fun": lambda d, a=a, c=c: a @ d - c, "jac": lambda _, a=a: a},
            options={"ftol": 1e-14, "maxiter": 100},
        )
        assert found.success
        assert float(norm[k]) == pytest.approx(np.linalg.norm(found.x), rel=1e-5)
        assert float(norm[k]) <= np.linalg.norm(found.x) * (1 + 1e-6)
        np.testing.assert_allclose(move[k], found.x, atol=1e-4)
    torch.testing.assert_close(move, torch.clamp(step[:, None] * direction, -image, 1 - image))


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_every_iterate_is_a_lower_bound_and_the_last_one_meets_the_constraint(seed: int, iterations: int) -> None:
    image, direction, needed = problems(5, 9, seed)
    exact, early = move_in_box(image, direction, needed), move_in_box(image, direction, needed, iterations)
    assert bool((early.norm <= exact.norm * (1 + 1e-12)).all())
    assert bool(((direction * exact.move).sum(1) <= needed).all())
    torch.testing.assert_close((direction * exact.move).sum(1), needed, rtol=1e-7, atol=1e-12)
    assert bool(((image + exact.move >= 0) & (image + exact.move <= 1)).all())
    assert bool((exact.norm >= needed / direction.norm(dim=1) * (1 - 1e-8)).all())


def test_what_no_image_in_the_box_can_meet_is_infinitely_far_and_what_each_meets_is_no_way() -> None:
    image, direction = torch.tensor([[0.2, 1.0]]), torch.tensor([[1.0, 1.0]])
    assert move_in_box(image, direction, torch.tensor([0.81])).norm.item() == math.inf
    assert move_in_box(image, direction, torch.tensor([0.79])).norm.item() == pytest.approx(0.79, rel=1e-6)
    assert move_in_box(image, torch.zeros(1, 2), torch.tensor([1e-3])).norm.item() == math.inf
    assert move_in_box(image, direction, torch.tensor([-2.0])).norm.item() == 0


def test_an_image_outside_the_box_keeps_at_least_the_freedom_of_the_box() -> None:
    # From -0.2 an attacker may go up to 1 and need not come back; from 1.3 down to 0.
    result = move_in_box(torch.tensor([[-0.2, 1.3]]), torch.tensor([[1.0, -1.0]]), torch.tensor([2.4]))
    torch.testing.assert_close(result.move, torch.tensor([[1.2, -1.2]]), rtol=1e-5, atol=0)
