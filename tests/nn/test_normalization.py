"""Normalisation: norms by pushing the identity through, and what the batch's mean is in training and evaluation."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import affine_norm
from torch import Tensor

from l2nnn_lightning.nn import (
    BatchScaling,
    BoundedScaling,
    SubtractBatchMean,
    SubtractMean,
    SubtractSampleMean,
    SubtractSubsetMeans,
)

EXACT = 1 + 1e-12


def test_fixed_mean_is_subtracted_and_keeps_every_distance() -> None:
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(SubtractMean(0.5).double()(x), x - 0.5)
    per_channel = SubtractMean((0.1, 0.2, 0.3)).double()
    torch.testing.assert_close(per_channel(x)[:, 2], x[:, 2] - 0.3, rtol=0, atol=1e-7)
    torch.testing.assert_close(per_channel(x[:, :, 0, 0])[:, 1], x[:, 1, 0, 0] - 0.2, rtol=0, atol=1e-7)
    for layer in (SubtractMean(0.5).double(), per_channel):
        assert affine_norm(layer, (3, 4, 4)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dims", [None, 1, (2,), (2, 3), (1, 3)])
def test_sample_mean_is_an_orthogonal_projection(dims: Any) -> None:
    layer = SubtractSampleMean(dims)
    x = torch.randn(5, 3, 4, 2, dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(layer(y), y)
    over = dims or (1, 2, 3)
    torch.testing.assert_close(y.mean(over), torch.zeros_like(y.mean(over)))
    assert affine_norm(layer, (3, 4, 2)) == pytest.approx(1, abs=1e-12)


def test_batch_mean_is_a_projection_in_training_and_a_fixed_shift_in_evaluation() -> None:
    layer = SubtractBatchMean(3, momentum=0.5).double()
    batches = torch.randn(4, 6, 3, 2, 2, dtype=torch.float64) + 2
    running = torch.zeros(3, dtype=torch.float64)
    for batch in batches:
        y = layer(batch)
        mean = torch.stack([batch[:, c].mean() for c in range(3)])
        torch.testing.assert_close(y, batch - mean[:, None, None])
        running = 0.5 * running + 0.5 * mean
    torch.testing.assert_close(layer.running_mean, running)

    def whole_batch(flat_N: Tensor) -> Tensor:
        return torch.stack([layer(one.reshape(4, 3, 2, 2)) for one in flat_N])

    assert affine_norm(whole_batch, (48,)) == pytest.approx(1, abs=1e-12)
    layer.eval()
    kept = layer.running_mean.clone()
    assert affine_norm(layer, (3, 2, 2)) == pytest.approx(1, abs=1e-12)
    x = batches[0]
    torch.testing.assert_close(layer(x), x - kept[:, None, None])
    assert torch.equal(layer.running_mean, kept)
    # A sample's output no longer depends on its neighbours.
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


@settings(max_examples=25)
@given(st.integers(0, 999), st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), st.booleans())
def test_factors_never_leave_their_range(seed: int, scale: float, zeros: bool) -> None:
    torch.manual_seed(seed)
    layer = BoundedScaling(4)
    with torch.no_grad():
        layer.raw.copy_(scale * torch.randn(4) * (torch.rand(4) < (0.5 if zeros else 1)))
    factors = layer.factors().detach()
    assert float(factors.abs().max()) in (0.0, 1.0)
    assert affine_norm(layer.double(), (4, 3)) <= EXACT
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(layer.float()(x), x * factors[:, None])


def test_factors_are_trained_relative_to_the_largest() -> None:
    layer = BoundedScaling(3)
    assert layer.factors().tolist() == [1, 1, 1]
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.ones(1, 3))[0, 0].backward()
        optimizer.step()
    factors = layer.factors().tolist()
    assert factors[0] < 1
    assert max(factors) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SubtractMean(float("nan")), "mean must be one finite number, or one per channel, got nan"),
        (lambda: SubtractMean([]), "mean must be"),
        (lambda: SubtractSampleMean((0, 1)), r"dims must be positive, 0 is the batch's, got \(0, 1\)"),
        (lambda: SubtractSampleMean(()), "dims must be positive"),
        (lambda: SubtractBatchMean(3, momentum=0.0), r"momentum must be in \(0, 1\], got 0.0"),
        (lambda: SubtractMean([0.1, 0.2])(torch.zeros(2, 3)), r"made for 2 channels, got an input of \(2, 3\)"),
        (lambda: BoundedScaling(4)(torch.zeros(2, 3)), "made for 4 channels"),
        (lambda: SubtractBatchMean(4).eval()(torch.zeros(2, 3)), "made for 4 channels"),
    ],
)
def test_bad_input_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@settings(max_examples=30)
@given(st.integers(0, 999), st.booleans())
def test_means_of_any_subsets_are_projected_out(seed: int, on_maps: bool) -> None:
    torch.manual_seed(seed)
    order = torch.randperm(7).tolist()
    first, second = sorted(torch.randint(1, 7, (2,)).tolist())
    subsets = [part for part in (order[:first], order[first:second]) if part]
    layer = SubtractSubsetMeans(7, subsets).double()
    x = torch.randn(4, 7, *((3, 2) if on_maps else ()), dtype=torch.float64)
    y = layer(x)
    rest = [index for index in range(7) if index not in [i for subset in subsets for i in subset]]
    assert torch.equal(y[:, rest], x[:, rest])
    for subset in subsets:
        by_hand = x[:, subset] - torch.stack([sample[subset].mean() for sample in x]).reshape(-1, *[1] * (x.dim() - 1))
        torch.testing.assert_close(y[:, subset], by_hand)
    assert affine_norm(layer, tuple(x.shape[1:])) <= EXACT
    assert layer.state_dict() == {}


@settings(max_examples=30)
@given(st.integers(0, 999), st.sampled_from([1e-30, 1.0, 1e30]), st.sampled_from([1e-12, 1.0, 1e12]))
def test_factors_over_deviations_never_leave_their_range(seed: int, scale: float, spread: float) -> None:
    torch.manual_seed(seed)
    layer = BatchScaling(4)
    with torch.no_grad():
        layer.raw.copy_(scale * torch.randn(4))
        layer.running_variance.copy_(spread * torch.rand(4))
    layer.eval()
    factors = layer.factors().detach()
    assert float(factors.abs().max()) == 1
    # In the proportion of g / sigma, by float64.
    wanted = layer.raw.detach().double() / (layer.running_variance.double() + 1e-5).sqrt()
    torch.testing.assert_close(factors.double(), wanted / wanted.abs().max(), rtol=1e-5, atol=1e-6)
    assert affine_norm(layer.double(), (4, 3)) <= EXACT


def test_deviations_are_the_batchs_in_training_and_running_in_evaluation() -> None:
    layer = BatchScaling(3, momentum=0.5).double()
    x = torch.randn(50, 3, 2, 2, dtype=torch.float64) * torch.tensor([1.0, 2.0, 4.0])[:, None, None]
    deviation = torch.tensor([x[:, c].std(correction=0) for c in range(3)])
    y = layer(x)
    factors = deviation.min() / deviation
    torch.testing.assert_close(y, x * factors[:, None, None], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.running_variance, 0.5 + 0.5 * deviation.square())
    layer.eval()
    kept = layer.running_variance.clone()
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])
    assert torch.equal(layer.running_variance, kept)
    constant = BatchScaling(2)(torch.ones(3, 2))  # a deviation of 0
    assert constant.isfinite().all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SubtractSubsetMeans(3, []), "subsets must be one or more without an index in common"),
        (lambda: SubtractSubsetMeans(3, [[0, 1], [1]]), "without an index in common"),
        (lambda: SubtractSubsetMeans(3, [[0, 0]]), "without an index in common"),
        (lambda: SubtractSubsetMeans(3, [[]]), r"must hold indices in \[0, 2\], got \[\]"),
        (lambda: SubtractSubsetMeans(3, [[3]]), r"must hold indices in \[0, 2\], got \[3\]"),
        (lambda: SubtractSubsetMeans(3, [[-1]]), r"must hold indices in \[0, 2\]"),
        (lambda: SubtractSubsetMeans(3, [[0]])(torch.zeros(2, 4)), "made for 3 channels"),
        (lambda: BatchScaling(3, momentum=2.0), r"momentum must be in \(0, 1\]"),
        (lambda: BatchScaling(3, eps=0.0), r"eps in \(0, 1\)"),
        (lambda: BatchScaling(3).eval()(torch.zeros(2, 4)), "made for 3 channels"),
    ],
)
def test_bad_subsets_and_deviations_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
