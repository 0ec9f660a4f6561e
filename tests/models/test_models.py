"""Whole networks: no logit of a hard one moves faster than its input, whatever the weights; copies say the same."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import SHAPE
from oracles import jacobian_norm
from small_networks import EXACT, L2NNNS, PLAIN, SMALL, Case, all_shapes, build, derivatives, small, wild
from torch import Tensor
from torch.nn.utils import parametrize

from l2nnn_lightning.models import NETWORKS, ConvL2NNN, RowsRNN
from l2nnn_lightning.nn import fold, harden, is_hard, soften
from l2nnn_lightning.nn.certificates import PairRule
from l2nnn_lightning.nn.scaling import BOUNDS, Bound

#: Names and shapes of the weights of every small network, as the first version with it saved them.
STATE_DICTS: dict[str, dict[str, list[int]]] = json.loads(
    (Path(__file__).parent / "state_dicts.json").read_text(encoding="utf-8")
)


def test_every_registered_network_is_tested() -> None:
    assert set(SMALL) == set(NETWORKS) == set(STATE_DICTS)


@pytest.mark.parametrize("name", SMALL)
def test_weights_have_the_names_that_old_checkpoints_have(name: str) -> None:
    named = [(key, list(value.shape)) for key, value in small(name).state_dict().items()]
    assert named == list(STATE_DICTS[name].items())


@all_shapes
@pytest.mark.parametrize("scale", [0.02, 2.0])
def test_hard_network_is_nonexpansive(case: Case, scale: float) -> None:
    name, shape, options = case
    network = build(name, shape, certificate="pairwise", **options)
    wild(network, scale).train()(torch.rand(4, *shape, dtype=torch.float64))  # moves a running mean, where there is one
    rule, quick = network.eval().rule(), network.rule(quick=True)
    assert isinstance(rule, PairRule)
    assert isinstance(quick, PairRule)
    assert rule.constant_KK.dtype == torch.float64
    assert bool((rule.constant_KK <= quick.constant_KK).all())
    assert float(quick.constant_KK.max()) <= network.head.gap_lipschitz * (1 + 1e-8)
    for image in torch.rand(3, *shape, dtype=torch.float64):
        rows = derivatives(network, image)
        assert 1e-6 < float(rows.norm(dim=1).max()) <= EXACT  # a constant network would prove everything
        assert bool(((rows[:, None] - rows[None, :]).norm(dim=2) <= rule.constant_KK * (1 + 1e-9)).all())
        if network.head.gap_lipschitz < 2:
            assert network.head.gap_lipschitz == pytest.approx(math.sqrt(2))
            assert jacobian_norm(network, image) <= EXACT
        if network.shares_trunk:
            assert 1e-6 < jacobian_norm(network.trunk, image) <= EXACT
        in_float32 = derivatives(copy.deepcopy(network).float(), image.float()).double()
        # A dozen sums of some hundred terms, each rounded to 6e-8.
        assert float(in_float32.norm(dim=1).max()) <= 1 + 1e-5
    one, other = torch.rand(2, 64, *shape, dtype=torch.float64)
    one[:8] = 0  # where the norm of a window has a kink
    moved = (network(one) - network(other)).detach().abs().amax(1)
    assert bool((moved <= (one - other).flatten(1).norm(dim=1) * EXACT).all())


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_tight", {"channels": [4, 6]}),
        ("cifar_tight", {"channels": [4, 6], "activation": "two_sided_relu", "depth": 1}),
        ("conv_tight", {"channels": [3, 4], "kernel_size": 3}),
    ],
)
def test_hard_network_is_nonexpansive_with_every_bound(name: str, options: dict[str, Any], bound: str) -> None:
    network = build(name, (2, 4, 8), dense=[6], bound=bound, **options)
    wild(network)
    image = torch.rand(2, 4, 8, dtype=torch.float64)
    assert 1e-6 < jacobian_norm(network.trunk, image) <= EXACT
    assert float(derivatives(network, image).norm(dim=1).max()) <= EXACT


def test_fresh_network_is_soft_and_almost_nonexpansive_and_may_become_expansive() -> None:
    network, image = build("mlp", (1, 5, 6), dense=[7, 6]).double().eval(), torch.rand(1, 5, 6, dtype=torch.float64)
    assert not network.is_hard
    # Orthonormal rows: b(W) = 1, so the penalty has nothing to do yet.
    assert float(derivatives(network, image).norm(dim=1).max()) <= 1 + 1e-5
    assert float(derivatives(soften(wild(network)), image).norm(dim=1).max()) > 2
    assert not is_hard(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_registered_network_runs_at_its_own_size(name: str) -> None:
    shape = (3, 32, 32) if name.startswith("cifar") else (1, 28, 28)
    options = {"channels": (2, 2, 4)} if name == "cifar_paper" else {}  # its orthogonal start takes seconds
    network = NETWORKS[name](shape, 10, **options)
    network.harden()
    network.eval()
    assert network.is_hard == network.can_prove == (name not in PLAIN)
    image = torch.rand(2, *shape)
    with torch.no_grad():
        logits = network(image)
        torch.testing.assert_close(fold(network)(image), logits)
        assert network(image[:0]).shape == (0, 10)
    assert logits.shape == (2, 10)
    assert bool(logits.isfinite().all())
    assert float(logits.std()) > 0


@pytest.mark.parametrize("bound", ["gram", "rows_power", "operator_columns", "minimum", "bjorck", "bjorck_rows"])
def test_hard_network_lends_itself_to_function_transforms(bound: Bound) -> None:
    network = harden(ConvL2NNN((3, 8, 8), 4, channels=[2], dense=[6], bound=bound)).double().eval()
    image = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    one_by_one = torch.stack([derivatives(network, x).view(4, 3, 8, 8) for x in image])
    of_one = torch.func.jacrev(lambda x: network(x[None])[0])
    torch.testing.assert_close(torch.func.vmap(of_one)(image), one_by_one)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(lambda x: network(x[None])[0]))(image), one_by_one)

    def largest(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(network, weights, (x[None],)).amax()

    weights = dict(network.named_parameters())
    per_sample = torch.func.vmap(torch.func.grad(largest), in_dims=(None, 0))(weights, image)
    for x, *gradients in zip(image, *per_sample.values(), strict=True):
        expected = torch.autograd.grad(network(x[None]).amax(), list(weights.values()))
        torch.testing.assert_close(tuple(gradients), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_have_their_channels_last_on_a_cpu_and_gradients_do_not(channels: int) -> None:
    network = ConvL2NNN((channels, 8, 8), 4, channels=[2, 3], dense=[6])
    maps: list[Tensor] = []
    network.trunk[1].register_forward_hook(lambda *arguments: maps.append(arguments[2]))
    image = torch.rand(5, channels, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image).sum(), image)
    assert maps[0].is_contiguous(memory_format=torch.channels_last)
    assert not maps[0].is_contiguous()
    assert gradient.is_contiguous()
    network.layout = None
    torch.testing.assert_close(torch.autograd.grad(network(image).sum(), image)[0], gradient)


@pytest.mark.parametrize("name", L2NNNS)
def test_copies_folding_caching_and_state_keep_the_function(name: str) -> None:
    network = wild(small(name), 0.3).float()
    images = torch.rand(4, *SHAPE)
    logits = network(images)
    assert float(logits.detach().std()) > 0
    fresh = small(name).eval()
    fresh.load_state_dict(network.state_dict())
    assert is_hard(fresh)
    plain = fold(network)
    assert not any("parametrizations" in key for key in plain.state_dict())
    for twin in (fresh, copy.deepcopy(network), plain):
        torch.testing.assert_close(twin(images), logits)
    with parametrize.cached():
        torch.testing.assert_close(network(images), logits)
        torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize("name", L2NNNS)
@pytest.mark.parametrize("bound", ["gram", "operator_columns", "bjorck"])
def test_function_is_kept_at_the_switch_or_left_alone(name: str, bound: str) -> None:
    images = torch.rand(4, *SHAPE, dtype=torch.float64)
    network = soften(wild(small(name, bound=bound), 0.3))
    before, weights = network(images), {key: value.clone() for key, value in network.named_parameters()}
    divisor = network.harden()
    assert network.is_hard
    # Residual, recurrent and aggregating layers are not positively homogeneous; columns are no single number.
    understood = bound == "gram" and name not in ("cifar_resnet", "rows_rnn", "parseval_mnist")
    assert (divisor is not None) == understood
    if divisor is not None:
        torch.testing.assert_close(network(images) * divisor, before)
    else:
        assert all(torch.equal(value, weights[key]) for key, value in network.named_parameters())


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("mlp", (1, 8, 8), {"certificate": "tight"}, "certificate must be one of paper, pairwise, got 'tight'"),
        ("mlp", (1, 8, 8), {"init": "zeros"}, "init must be one of principal, orthogonal, got 'zeros'"),
        ("mnist_small", (1, 8, 8), {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ("mnist_small", (1, 3, 8), {}, "images of 3x8 are too small for 2 poolings"),
        ("mnist_small", (1, 8, 8), {"activation": "tan"}, "activation must be one of two_sided_relu, maxmin, relu"),
        ("mnist_small", (1, 8, 8), {"pooling": "mean"}, "pooling must be one of norm, max, unshuffle"),
        ("mnist_small", (1, 8, 8), {"head": "none"}, "head must be one of multi, single"),
        ("mnist_small", (1, 8, 8), {"bound": "tight"}, "bound must be one of gram"),
        ("mnist_small", (1, 8, 8), {"activation": "maxmin", "dense": [3]}, "widths must be even, got 3"),
        ("cifar_tight", (3, 10, 8), {}, "images of 10x8: 2 unshuffles need sides divisible by 4"),
        ("cifar_tight", (3, 8, 8), {"depth": 0}, "depth must be at least 1, got 0"),
        ("mnist_small", (1, 8, 8), {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ("mnist_small", (1, 8, 8), {"norm_order": 0.5}, "p must be at least 1, got 0.5"),
        ("cifar_tight", (3, 8, 8), {"channels": [4, 0]}, "widths must be at least 1, got 0"),
        ("cifar_paper", (3, 8, 8), {}, r"crop must be in \[1, 8\] for images of 8x8, got 28"),
        ("cifar_paper", (3, 8, 8), {"crop": 2}, "images of 2x2 are too small for 2 poolings"),
        ("cifar_resnet", (3, 8, 8), {"depth": 0}, "depth must be at least 1 and channels not empty, got 0"),
        ("cifar_resnet", (3, 8, 8), {"channels": [3]}, "maxmin sorts pairs of channels: widths must be even, got 3"),
        ("cifar_resnet", (3, 8, 8), {"t": "pixel"}, "t must be one of block, channel, entry"),
        ("cifar_resnet", (3, 8, 8), {"initial_t": 2.0}, r"the initial t must be in \[0, 1\], got 2.0"),
        ("shift", (3, 8, 8), {"widths": [8, 6]}, r"widths of 8 and more, depth of 0 and more: got \(8, 6\) and 3"),
        ("shift", (3, 8, 8), {"depth": -1}, "depth of 0 and more"),
        ("shift", (3, 8, 8), {"moving": 1.5}, r"moving is a share of the channels, in \[0, 1\], got 1.5"),
        ("shift", (3, 8, 8), {"activation": "relu"}, "activation must be one of absolute, maxmin, two_sided_relu"),
        ("shift", (3, 8, 8), {"downsampling": "max"}, "downsampling must be one of unshuffle, norm, got 'max'"),
        ("cifar_resnet", (3, 8, 8), {"channels": [4], "added": 5}, r"added in \[0, 4\] or null, got 0 and 5"),
        ("cifar_resnet", (3, 8, 8), {"channels": [4], "grown": -2}, "grown must be at least 0"),
        ("cifar_resnet", (3, 8, 8), {"channels": [4], "grown": 1}, "grown must be even, got 1"),
        ("cifar_resnet", (3, 8, 8), {"normalize": "layer"}, "normalize must be one of none, batch, batch_std, sample"),
        (
            "cifar_resnet",
            (3, 8, 8),
            {"channels": [4], "normalize": "sample", "mean_groups": 3},
            "mean_groups must divide the 4 outputs of a branch, got 3",
        ),
        ("rows_rnn", (1, 5, 6), {"readout": "first"}, "readout must be one of last, all, got 'first'"),
        ("rows_rnn", (1, 5, 6), {"hidden": []}, "hidden must name at least one recurrent layer"),
        ("rows_rnn", (1, 5, 6), {"t": "entry"}, "t must be 'block' or 'channel'"),
        ("templates", (1, 8, 8), {"templates_per_label": 0}, "templates_per_label must be at least 1"),
        ("templates", (1, 8, 8), {"trunk": "resnet"}, "trunk must be one of identity, conv, got 'resnet'"),
        ("templates", (1, 8, 8), {"trunk": "conv", "channels": 3}, "channels must be even for MaxMin, got 3"),
        ("templates", (1, 5, 8), {"trunk": "conv"}, "even sides, got 5x8"),
        ("madry_mnist", (1, 3, 8), {}, "images of 3x8 are too small"),
        ("cifar_resnet_plain", (3, 8, 8), {"width": 0}, "width must be at least 1, got 0"),
        ("cifar_resnet_plain", (3, 8, 8), {"blocks": [1, 0]}, "blocks must hold"),
    ],
)
def test_bad_description_is_refused(
    name: str, shape: tuple[int, int, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NETWORKS[name](shape, 4, **options)


def test_a_mean_for_each_channel_fits_the_image() -> None:
    with pytest.raises(ValueError, match="made for 2 channels"):
        small("cifar_resnet", mean=[0.5, 0.5])(torch.rand(1, *SHAPE))


@pytest.mark.parametrize("readout", ["last", "all"])
def test_rows_are_all_read_and_nothing_is_lost_where_one_state_is_used(readout: Any) -> None:
    network = harden(RowsRNN((1, 5, 6), 4, hidden=[16, 16], dense=[6], readout=readout)).eval()
    image = torch.rand(1, 1, 5, 6, requires_grad=True)
    network(image)[0, 0].backward()
    assert image.grad is not None
    assert bool((image.grad.abs().amax((0, 1, 3)) > 0).all())
    # Where all states are used, they are split in two.
    assert [layer.split is not None for layer in network.trunk[1:3]] == [True, readout == "all"]
