"""The rough polar factor against numpy's singular value decomposition, and symmetric products by strips."""

import numpy as np
import pytest
import torch
from torch import Tensor

from l2nnn_lightning.nn.bjorck import bjorck_step
from l2nnn_lightning.nn.polar import near_polar, symmetric_product, turn_
from l2nnn_lightning.nn.retraction import retracted


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def polar(matrices: Tensor) -> Tensor:
    u, _, v = np.linalg.svd(matrices.double().numpy(), full_matrices=False)
    return torch.from_numpy(u @ v).to(matrices)


def test_every_singular_value_from_a_ninetieth_on_comes_near_one() -> None:
    """Beside a far larger one the bound of the norm is the norm itself, so this is the polynomial, point by point."""
    values = torch.logspace(0, -6, 3000, dtype=torch.float64)[:, None, None].expand(-1, 2, 2) * torch.eye(2)
    values[:, 0, 0] = 1
    update = near_polar(values.contiguous())[:, 1, 1].numpy()
    sigma = values[:, 1, 1].numpy()
    near = update[sigma >= 1 / 90]
    assert near.min() >= 0.549
    assert near.max() <= 1.3
    assert 0.9 < near.mean() < 1
    assert update.max() <= 1.3
    assert (update >= 0.9 * np.minimum(54 * sigma, 0.6)).all()
    assert (update <= 55 * sigma).all()


SHAPES = [(1, 5, 40), (1, 40, 5), (3, 8, 20), (3, 20, 8), (2, 6, 6), (1, 1, 1), (1, 300, 320), (2, 320, 260)]


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_what_they_are(shape: tuple[int, ...]) -> None:
    matrices = normal(*shape)
    update = near_polar(matrices)
    torch.testing.assert_close(polar(update), polar(matrices))
    square = np.linalg.matrix_power((matrices @ matrices.mT).numpy(), 2)
    bounds = np.linalg.norm(square, axis=(-2, -1)) ** 0.25
    before, after = (np.linalg.svd(m.numpy(), compute_uv=False) for m in (matrices, update))
    assert (before[:, 0] <= bounds).all()
    assert after.max() <= 1.3
    # Sorted alike or not, so many of them are large.
    assert ((after >= 0.549).sum(-1) >= (before >= bounds[:, None] / 90).sum(-1)).all()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shape", [(1, 64, 100), (1, 300, 280)])
def test_float32_and_the_scale_change_nothing_that_matters(shape: tuple[int, ...], scale: float) -> None:
    matrices = normal(*shape) * torch.logspace(0, -4, shape[2])
    found = near_polar((scale * matrices).float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), near_polar(matrices), rtol=0, atol=1e-3)


def test_nothing_comes_of_a_matrix_that_is_zero() -> None:
    zeros = torch.zeros(2, 3, 4)
    assert torch.equal(near_polar(zeros), zeros)
    both = torch.stack([torch.zeros(3, 4), torch.eye(3, 4)])
    assert torch.equal(near_polar(both)[0], zeros[0])  # beside one that is not


def test_a_turn_adds_so_much_of_it() -> None:
    weight, direction = normal(2, 5, 8), normal(2, 5, 8).flip(0)
    wanted = weight - 0.1 * near_polar(direction)
    turn_(weight, direction, -0.1)
    torch.testing.assert_close(weight, wanted)


@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 259, 300), (1, 300, 256)])
def test_symmetric_products_are_products(shape: tuple[int, ...]) -> None:
    matrix = normal(*shape)
    gram = matrix.numpy() @ matrix.mT.numpy()
    found = symmetric_product(matrix, matrix.mT)
    np.testing.assert_allclose(found, gram, atol=1e-10)
    square = symmetric_product(found, found, found, -0.5, 2.0)
    np.testing.assert_allclose(square, 2 * gram @ gram - 0.5 * gram, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 4, 6), (1, 6, 4), (2, 3, 5), (1, 260, 270), (1, 270, 260)])
def test_retraction_is_the_cubic_of_the_differentiable_step(shape: tuple[int, ...]) -> None:
    weight = 0.1 * normal(*shape)
    wanted = 1.3 * weight - 0.3 * weight @ weight.mT @ weight
    torch.testing.assert_close(retracted(weight, 0.3), wanted)
    torch.testing.assert_close(bjorck_step(weight, 0.3), wanted)
