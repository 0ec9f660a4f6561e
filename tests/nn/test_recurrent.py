"""Recurrent layers: Lipschitz constants of whole sequences, in both readings, against the full Jacobian."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import affine_norm, jacobian_norm
from torch import nn

from l2nnn_lightning.nn import MaxMin, Recurrent, TwoSidedReLU, harden
from l2nnn_lightning.nn.recurrent import LastStep, Reading, RowsAsSteps

EXACT = 1 + 1e-6


def wild(reading: Reading, activation: nn.Module | None, scale: float = 3.0, **options: Any) -> Recurrent:
    """A hard layer with raw weights that are anything but nonexpansive, and any t."""
    layer = Recurrent(3, 4, activation, reading, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return harden(layer).double().eval()


def activations() -> list[nn.Module | None]:
    return [None, MaxMin(), TwoSidedReLU(), nn.Tanh()]


@settings(max_examples=15)
@given(st.integers(0, 999), st.sampled_from(range(4)), st.sampled_from(["block", "channel"]))
def test_joint_reading_is_nonexpansive_as_a_whole(seed: int, which: int, t: str) -> None:
    torch.manual_seed(seed)
    layer = wild("joint", activations()[which], t=t)
    x = torch.randn(5, 3, dtype=torch.float64)
    assert jacobian_norm(layer, x) <= EXACT
    y = x + torch.randn_like(x)
    assert float((layer(x[None]) - layer(y[None])).detach().norm()) <= float((x - y).norm()) * EXACT


@settings(max_examples=15)
@given(st.integers(0, 999), st.sampled_from(range(4)))
def test_each_overlapping_output_is_nonexpansive_in_the_whole_sequence(seed: int, which: int) -> None:
    torch.manual_seed(seed)
    layer = wild("overlapping", activations()[which])
    x = torch.randn(4, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0], x).flatten(2)
    for step in jacobian:
        assert float(torch.linalg.matrix_norm(step.reshape(step.shape[0], -1), 2)) <= EXACT


def remembering(reading: Reading, **options: Any) -> Recurrent:
    """The weight chosen against the proof: one state adds up what comes in, the others hand it out as well."""
    layer = Recurrent(3, 4, None, reading, **options)
    with torch.no_grad():
        raw = layer.linear.parametrizations["weight"].original
        raw.zero_()
        raw[0, 0] = raw[0, 4] = raw[2, 5] = raw[3, 6] = 1
    return harden(layer).double().eval()


def test_all_overlapping_outputs_together_are_not_nonexpansive_but_joint_ones_are() -> None:
    """A state that is both handed on and given out is counted twice without the split (9)."""
    torch.manual_seed(0)
    assert affine_norm(remembering("overlapping"), (6, 3)) > 1.2
    for initial in (0.0, 0.3, 0.7, 0.99, 1.0):
        assert affine_norm(remembering("joint", initial=initial), (6, 3)) <= 1 + 1e-9


def test_layer_is_the_usual_recursion() -> None:
    layer = wild("overlapping", nn.Tanh())
    joint = wild("joint", nn.Tanh(), t="channel")
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    for module in (layer, joint):
        recurs, gives = (torch.ones(4), torch.ones(4)) if module.split is None else module.split()
        weight, bias = module.linear.weight, module.linear.bias
        state = torch.zeros(2, 4, dtype=torch.float64)
        for step in range(5):
            state = torch.tanh(torch.cat((recurs * state, x[:, step]), 1) @ weight.mT + bias)
            torch.testing.assert_close(module(x)[:, step], gives * state)


def test_rows_and_last_step_only_rearrange() -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    rows = RowsAsSteps()(image)
    assert rows.shape == (1, 3, 8)
    assert rows[0, 1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert affine_norm(RowsAsSteps(), (2, 3, 4)) == pytest.approx(1, abs=1e-12)
    assert torch.equal(LastStep()(rows), rows[:, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "both"}, "reading must be one of overlapping, joint, got 'both'"),
        ({"t": "entry"}, "t must be 'block' or 'channel', got 'entry'"),
        ({"activation": MaxMin(), "hidden_size": 5}, "must be even, got 5"),
        ({"reading": "joint", "initial": -0.1}, "the initial t must be in"),
    ],
)
def test_bad_description_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recurrent(**({"input_size": 3, "hidden_size": 4} | options))


@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3), (2, 4, 5)])
def test_unfit_sequence_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a sequence must be \(batch, steps, 3\)"):
        Recurrent(3, 4)(torch.zeros(shape))
