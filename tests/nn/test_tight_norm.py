import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import affine_norm
from torch import nn

from l2nnn_lightning.nn import LabelwiseLinear, harden, nonexpansive
from l2nnn_lightning.nn.norms import tight_norm


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


def test_the_bound_tends_to_the_norm_as_the_map_grows():
    torch.manual_seed(0)
    layer = harden(nonexpansive(nn.Conv1d(2, 2, 5, padding=2, bias=False).double()))
    exact = affine_norm(layer, (2, 300))
    assert exact <= tight_norm(layer) <= 1.03 * exact


def test_linear_layers_are_measured_exactly():
    torch.manual_seed(0)
    linear = harden(nonexpansive(nn.Linear(7, 5)))
    assert tight_norm(linear) == pytest.approx(float(torch.linalg.matrix_norm(linear.weight.double(), 2)), rel=1e-5)
    labelwise = harden(nonexpansive(LabelwiseLinear(3, 7, 5)))
    norms = torch.linalg.matrix_norm(labelwise.weight.double(), 2)
    assert tight_norm(labelwise) == pytest.approx(float(norms.max()), rel=1e-5)
    assert linear.parametrizations.weight[0].training


def test_only_hard_nonexpansive_layers_have_a_proved_norm():
    with pytest.raises(ValueError, match="not a nonexpansive layer"):
        tight_norm(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="call harden first"):
        tight_norm(nonexpansive(nn.Linear(2, 2)))
