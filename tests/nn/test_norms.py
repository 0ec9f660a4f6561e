"""Norms of layers, chains and heads: what certificates divide by."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import affine_norm
from torch import nn

from l2nnn_lightning.nn import LabelwiseLinear, chain_norm, harden, nonexpansive, tight_norm
from l2nnn_lightning.nn.heads import MultiHead, SingleHead


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    circular=st.booleans(),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_the_bound_of_a_convolution_lies_just_above_its_norm(kernel, stride, dilation, circular, groups, seed):
    torch.manual_seed(seed)
    padding = tuple(dilation * (k - 1) // 2 for k in kernel)
    mode = "circular" if circular else "zeros"
    conv = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups, padding_mode=mode, bias=False).double()
    layer = harden(nonexpansive(conv, "operator"))
    exact = affine_norm(layer, (2, 12, 11))
    bound = tight_norm(layer)
    assert exact <= bound * (1 + 1e-12)
    assert bound <= 1
    degrees = [dilation * (k - 1) for k in kernel]
    if stride == 1 and circular and max(degrees) < 5:
        # The map's own frequencies are a grid too, and miss the maximum by no more than this.
        missed = math.cos(math.pi * degrees[0] / 12) * math.cos(math.pi * degrees[1] / 11)
        assert bound <= 1.02 * exact / missed**0.5


def test_linear_layers_are_measured_exactly():
    torch.manual_seed(0)
    linear = harden(nonexpansive(nn.Linear(7, 5)))
    exact = torch.linalg.matrix_norm(linear.weight.detach().double(), 2)
    assert tight_norm(linear) == pytest.approx(float(exact), rel=1e-5)
    labelwise = harden(nonexpansive(LabelwiseLinear(3, 7, 5)))
    norms = torch.linalg.matrix_norm(labelwise.weight.double(), 2)
    assert tight_norm(labelwise) == pytest.approx(float(norms.max()), rel=1e-5)
    assert linear.parametrizations.weight[0].training


def test_only_hard_nonexpansive_layers_have_a_proved_norm():
    with pytest.raises(ValueError, match="not a nonexpansive layer"):
        tight_norm(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="call harden first"):
        tight_norm(nonexpansive(nn.Linear(2, 2)))


def test_a_chain_moves_at_most_by_the_product_of_its_norms():
    torch.manual_seed(0)
    parts = [nonexpansive(nn.Linear(6, 8)), nn.ReLU(), nn.Sequential(nonexpansive(nn.Linear(8, 5)))]
    trunk = harden(nn.Sequential(*parts)).eval()
    bound = chain_norm(trunk)
    exact = [float(torch.linalg.svdvals(layer.weight.detach().double())[0]) for layer in (trunk[0], trunk[2][0])]
    assert bound == pytest.approx(exact[0] * exact[1], rel=1e-6)
    assert exact[0] * exact[1] <= bound < 1
    x = torch.randn(200, 6)
    moved = (trunk(x[:100]) - trunk(x[100:])).norm(dim=1)
    assert bool((moved <= bound * (x[:100] - x[100:]).norm(dim=1) * (1 + 1e-5)).all())
    assert chain_norm(nn.Sequential(nn.Flatten())) == chain_norm(nn.ReLU()) == 1


def test_norms_are_those_of_the_weights_as_they_are():
    """A fused optimizer raises no version counter, and torch's cache knows layers by their address."""
    layer = harden(nonexpansive(nn.Linear(6, 6)))
    with nn.utils.parametrize.cached():
        first = tight_norm(layer)
        layer.parametrizations["weight"].original.data.copy_(torch.eye(6))
        assert first < tight_norm(layer) == pytest.approx(1, abs=1e-5)


def test_rows_on_shared_features_move_apart_by_their_distance() -> None:
    for head in (harden(MultiHead(5, 4)).eval(), harden(SingleHead(5, 4)).eval()):
        constants = head.pair_constants()
        z = torch.eye(5)
        rows = (head(z) - head(torch.zeros(1, 5))).detach().mT.double()  # the basis through the layer
        for i in range(4):
            for j in range(4):
                exact = float((rows[i] - rows[j]).norm())
                assert float(constants[i, j]) == pytest.approx(exact, abs=1e-6)
                assert float(constants[i, j]) <= 2


def test_stacks_and_features_of_their_own_move_apart_by_both_norms() -> None:
    head = harden(MultiHead(6, 3, hidden=(4,))).eval()
    matrices = [layer.weight.detach().double() for layer in head.stacks if hasattr(layer, "weight")]
    norms = [[float(torch.linalg.svdvals(matrix[k])[0]) for matrix in matrices] for k in range(3)]
    constants = head.pair_constants()
    for i in range(3):
        for j in range(3):
            expected = norms[i][0] * norms[i][1] + norms[j][0] * norms[j][1]
            assert float(constants[i, j]) == pytest.approx(min(2.0, expected), rel=1e-6)
    single = harden(MultiHead(6, 3)).eval()
    assert bool((single.pair_constants(shared=False) >= single.pair_constants()).all())
