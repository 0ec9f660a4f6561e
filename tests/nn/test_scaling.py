"""The divisors are compared with one another; that what they scale is nonexpansive is tested with the layers."""

from typing import get_args

import pytest
import torch
from oracles import affine_norm
from torch import nn

from l2nnn_lightning.nn import harden, nonexpansive
from l2nnn_lightning.nn.layouts import Layout
from l2nnn_lightning.nn.scaling import Bound, divisor


def layout_of(layer):
    return layer.parametrizations.weight[0].layout


@pytest.fixture(params=[(1, 1), (2, 1), (2, 2)], ids=str)
def conv(request):
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, padding=1, stride=request.param).double()


def test_one_factor_a_channel_is_never_smaller_than_one_for_all(conv):
    nonexpansive(conv)
    weight, layout = conv.parametrizations.weight.original.detach(), layout_of(conv)
    for apart, bounds in [("rows", "gram"), ("rows_power", "power"), ("operator_columns", "operator")]:
        divisors = divisor(apart, weight, layout)
        largest = divisor(bounds, weight, layout).max()
        assert divisors.std() > 0
        if apart != "rows":
            assert divisors.mean() < largest * (1 + 1e-9)
    minimum = divisor("minimum", weight, layout)
    for uniform in ("gram", "power", "operator"):
        assert (minimum <= divisor(uniform, weight, layout) * (1 + 1e-12)).all()


@pytest.mark.parametrize("bound", get_args(Bound))
def test_a_random_convolution_keeps_more_of_its_norm_than_with_the_papers_bound(conv, bound):
    kept = {}
    for name in ("gram", bound):
        copy = nn.Conv2d(4, 6, 3, padding=1, stride=conv.stride).double()
        copy.load_state_dict(conv.state_dict())
        kept[name] = affine_norm(harden(nonexpansive(copy, name)), (4, 8, 8))
    assert kept["gram"] <= kept[bound] + 1e-9 or bound.startswith(("rows", "columns"))
    assert kept[bound] > 0.2


def test_linear_maps_are_scaled_along_the_shorter_side():
    tall, wide = torch.randn(5, 3), torch.randn(3, 5)
    assert divisor("operator_columns", tall, Layout(1, 5)).shape == (1, 1, 3)
    assert divisor("operator_columns", wide, Layout(1, 3)).shape == (1, 3, 1)
    assert divisor("operator_rows", tall, Layout(1, 5)).shape == (1, 5, 1)


def test_orthogonal_weights_are_left_alone():
    weight = nn.init.orthogonal_(torch.empty(4, 9))
    for bound in ("gram", "power", "rows", "rows_power", "operator", "operator_columns", "minimum"):
        torch.testing.assert_close(divisor(bound, weight, Layout(1, 4)).amax(), torch.tensor(1.0))
