"""What is claimed of each stage of a program, against exact operators and against what float32 really loses."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from boundaries import assert_no_claim_is_broken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_images import SHAPE
from oracles import affine_norm
from small_networks import L2NNNS, SHAPES, build, small, wild
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.models import Certified, Network
from l2nnn_lightning.models.parseval import ConvexAggregation
from l2nnn_lightning.nn import fold, harden
from l2nnn_lightning.nn.activations import MaxMin, ScaledSigmoid, TwoSided, TwoSidedReLU
from l2nnn_lightning.nn.blocked import BlockedLinear
from l2nnn_lightning.nn.labelwise import CenterCrop2d
from l2nnn_lightning.nn.layouts import layout_of
from l2nnn_lightning.nn.nonlinearities import INCREASING, NONLINEARITIES, UnitSlope
from l2nnn_lightning.nn.normalization import (
    BatchScaling,
    BoundedScaling,
    SubtractMean,
    SubtractSampleMean,
    SubtractSubsetMeans,
)
from l2nnn_lightning.nn.pooling import LpPool2d, NormPool2d, PixelUnshuffle
from l2nnn_lightning.nn.proof.arithmetic import Arithmetic
from l2nnn_lightning.nn.proof.heads import bound_features
from l2nnn_lightning.nn.proof.norms import absolute_norms, operator_norms, spectral_norms
from l2nnn_lightning.nn.proof.program import exact_copy, program_of
from l2nnn_lightning.nn.proof.signal import UnprovableError
from l2nnn_lightning.nn.recurrent import LastStep, Recurrent, RowsAsSteps
from l2nnn_lightning.nn.residual import Residual

MAP = (2, 8, 8)
SINGLE = Arithmetic.of(torch.float32)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e20]),
    seed=st.integers(0, 9999),
)
def test_norms_of_matrices_are_tight_and_never_below(rows: int, columns: int, scale: float, seed: int) -> None:
    matrix = np.random.default_rng(seed).standard_normal((1, rows, columns)).astype(np.float32) * scale
    exact = np.linalg.svd(matrix[0].astype(np.longdouble).astype(float), compute_uv=False)[0]
    found = float(spectral_norms(torch.from_numpy(matrix.astype(np.float64))))
    assert exact * (1 - 1e-14) <= found <= exact * (1 + 1e-9)


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_norms_of_convolutions_and_of_their_absolute_entries_are_upper_bounds(
    kernel: tuple[int, int], stride: int, dilation: int, groups: int, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(2, 4, kernel, stride, 1, dilation, groups, bias=False).double()
    assert affine_norm(conv, (2, 9, 8)) <= float(operator_norms(conv.weight, layout_of(conv)).max())
    bound = float(absolute_norms(conv.weight, layout_of(conv)).max())
    conv.weight.data.abs_()
    assert affine_norm(conv, (2, 9, 8)) <= bound


def stages() -> dict[str, Callable[[], nn.Module]]:
    """Each kind of module behind something that makes its input large, uneven and not a float16 number."""
    branch = lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), MaxMin())  # noqa: E731
    wide = lambda: nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), ScaledSigmoid(5, 2.0))  # noqa: E731
    flat = lambda *layers: nn.Sequential(nn.Flatten(), *layers)  # noqa: E731
    return {
        "dense": lambda: flat(nn.Linear(128, 30), TwoSidedReLU(), nn.Linear(60, 20)),
        "blocked": lambda: flat(BlockedLinear(nn.Linear(128, 30))),
        "conv": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), TwoSidedReLU(), nn.Conv2d(8, 3, 3)),
        "conv_dilated": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=2, dilation=2, groups=2), nn.ReLU()),
        "norm_pool": lambda: nn.Sequential(NormPool2d(3, 2, 1), NormPool2d(2)),
        "max_pool": lambda: nn.Sequential(SubtractMean([0.3, 7.0]), nn.MaxPool2d(2)),
        "mean": lambda: nn.Sequential(SubtractMean(1e4), SubtractSampleMean()),
        "scaling": lambda: nn.Sequential(BoundedScaling(2), CenterCrop2d(5)),
        "sigmoid": lambda: nn.Sequential(ScaledSigmoid(2, 3.0), PixelUnshuffle(2)),
        "centred": lambda: nn.Sequential(TwoSided(ScaledSigmoid(MAP, 0.1, centred=True)), ScaledSigmoid(4, 20.0)),
        "offset": lambda: nn.Sequential(TwoSided(ScaledSigmoid(2, 5.0)), TwoSided(torch.tanh)),
        "lp_pool_1": lambda: nn.Sequential(LpPool2d(1.0, 3, 2, 1), LpPool2d(1.5, 2)),
        "lp_pool_3": lambda: nn.Sequential(LpPool2d(3.0, (2, 3), 1), LpPool2d(40.0, 2)),
        "lp_pool_inf": lambda: nn.Sequential(LpPool2d(math.inf, 3, 1, 1), LpPool2d(2.0, 2, 1)),
        "subsets": lambda: nn.Sequential(
            SubtractMean(1e3), SubtractSubsetMeans(2, [[1]]), SubtractSubsetMeans(2, [[1, 0]])
        ),
        "batch_scaling": lambda: nn.Sequential(BatchScaling(2), BatchScaling(2)),
        "residual": lambda: nn.Sequential(Residual(branch(), "channel", 2), Residual(branch(), shared=False)),
        "wider": lambda: nn.Sequential(
            Residual(wide(), "entry", MAP, added=1, shared=False), Residual(nn.ReLU(), added=0)
        ),
        "share": lambda: nn.Sequential(Residual(nn.Conv2d(1, 3, 1), "channel", channels=(1, 2), added=1)),
        "aggregation": lambda: ConvexAggregation(branch()),
        "joint": lambda: nn.Sequential(RowsAsSteps(), Recurrent(16, 6, TwoSidedReLU(dim=1), "joint"), nn.Flatten()),
        "bent_steps": lambda: nn.Sequential(
            RowsAsSteps(), Recurrent(16, 6, TwoSided(ScaledSigmoid((6,), centred=True)), "joint"), nn.Flatten()
        ),
        "elu_steps": lambda: nn.Sequential(
            RowsAsSteps(), Recurrent(16, 6, UnitSlope(*NONLINEARITIES["elu"])), LastStep()
        ),
        "overlapping": lambda: nn.Sequential(RowsAsSteps(), Recurrent(16, 6, MaxMin(), "overlapping"), LastStep()),
    } | {name: partial(bend, name) for name in NONLINEARITIES}


def bend(name: str) -> nn.Module:
    """A function alone, and in its two-sided form where it has one."""
    f = UnitSlope(*NONLINEARITIES[name])
    return nn.Sequential(SubtractMean(0.25), TwoSided(f) if name in INCREASING else f, UnitSlope(f.f, 1.2))


@pytest.mark.parametrize("name", stages())
def test_a_stage_moves_no_further_and_loses_no_more_than_is_claimed(name: str) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        module = stages()[name]()
        for key, parameter in module.named_parameters():
            if "phase" not in key and "log_height" not in key:
                parameter.add_(torch.randn_like(parameter))
    program = program_of(fold(harden(module).eval()), torch.float32)
    features = bound_features([exact_copy(program)], MAP, SINGLE)
    exact = exact_copy(program)
    images = torch.rand(64, *MAP) * torch.logspace(-3, 3, 64)[:, None, None, None]
    wide = images.double()
    with torch.no_grad():
        lost = (program(images).double() - exact(wide)).flatten(1).norm(dim=1)
        length = exact(wide).flatten(1).norm(dim=1)
        step = torch.randn_like(wide) * torch.logspace(-2, 2, 64)[:, None, None, None]
        moved = (exact(wide + step) - exact(wide)).flatten(1).norm(dim=1)
    norm = wide.flatten(1).norm(dim=1)
    assert bool((lost <= features.error.slope * norm + features.error.offset).all())
    assert bool((length <= (features.norm.slope * norm + features.norm.offset) * (1 + 1e-12)).all())
    assert bool((moved <= features.lipschitz * step.flatten(1).norm(dim=1) * (1 + 1e-12)).all())
    if name not in ("max_pool", "scaling", "aggregation", "batch_scaling"):
        assert float(lost.max()) > 0  # float32 does lose something here


def split_apart() -> nn.Module:
    return nn.Sequential(RowsAsSteps(), Recurrent(16, 6, MaxMin(), "overlapping"), nn.Flatten())


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.Tanh()), "Tanh"),
        (nn.Sequential(UnitSlope(torch.sin, 1.0)), "a function of whose rounding nothing is known"),
        (nn.Sequential(UnitSlope(F.silu, 1.0)), "less than the largest slope"),
        (nn.Sequential(TwoSided(F.gelu)), "not known to increase"),
        (nn.Sequential(TwoSided(UnitSlope(F.silu, 2.0))), "not known to increase"),
        (nn.Sequential(LpPool2d(1e7, 2)), "loses all digits"),
        (nn.Sequential(RowsAsSteps(), Recurrent(16, 6, ScaledSigmoid(1))), "not 0 at 0"),
        (nn.Sequential(nn.MaxPool2d(3, 1)), "overlap"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")), "padding_mode"),
        (nn.Sequential(type("Linear", (nn.Linear,), {})(8, 8)), "Linear"),
        (nn.Sequential(SubtractMean(0.5)).train(), "training mode"),
        (split_apart(), "all steps"),
        (nn.Sequential(nn.ConstantPad2d(1, 3.0)), "ConstantPad2d"),
    ],
)
def test_what_is_not_known_is_named(module: nn.Module, said: str) -> None:
    module = module if said == "training mode" else module.eval()
    with pytest.raises(UnprovableError, match=said):
        bound_features([module.double()], MAP, SINGLE)


@pytest.mark.parametrize(
    "case", [SHAPES[i] for i in (1, 3, 5, 7, 8, 12, 15, 18, 21, 23, 27, 28)], ids=lambda case: case[0]
)
def test_nothing_is_claimed_beyond_a_boundary_of_either_program(case: Any) -> None:
    name, shape, options = case
    network = wild(build(name, shape, certificate="pairwise", **options), 0.3).float()
    check_boundaries(network, shape)


@pytest.mark.parametrize("trunk", ["identity", "conv"])
def test_nothing_is_claimed_beyond_a_boundary_of_templates(trunk: str) -> None:
    check_boundaries(wild(small("templates", trunk=trunk, channels=4), 0.3).float(), SHAPE)


def check_boundaries(network: Network, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    images = torch.cat([torch.rand(20, *shape), 4 * torch.randn(20, *shape)])
    with torch.no_grad():
        logits = network(images)
        bias = [parameter for key, parameter in network.head.named_parameters() if key.endswith("bias")]
        if bias:  # put all boundaries among the images
            bias[-1].sub_(logits.mean(0).view_as(bias[-1]))
    certified = Certified(network)
    label, _, radius = certified(images)
    assert float(radius.max()) > 0
    others = [i for i in range(40) if label[i] != label[0]]
    assert others
    for other in others[:1]:
        assert_no_claim_is_broken(network, images[:1], images[other : other + 1])


@pytest.mark.parametrize("name", L2NNNS)
def test_claims_cover_what_float32_loses_in_whole_networks(name: str) -> None:
    """What is lost is measured, between the logits of the program and exact ones."""
    network, images = wild(small(name, certificate="pairwise"), 0.3).float(), torch.rand(64, *SHAPE)
    images[:8] *= 1e3
    shipped = Certified(network, "float32")
    bounds = shipped.rule.bounds  # type: ignore[union-attr]
    exact = exact_copy(shipped.program)
    with torch.no_grad():
        off: Tensor = shipped.logits(images).double() - exact(images.double())
    apart = (off[:, :, None] - off[:, None]).abs()
    norm = images.double().flatten(1).norm(dim=1)[:, None, None]
    claimed = bounds.slope * norm + bounds.offset
    assert bool((apart <= claimed).all())
    assert float(apart.max()) > 0
