"""The classifier that reads rows: nonexpansive from the whole image to each logit, in both readings."""

from typing import Any

import pytest
import torch
from oracles import jacobian_norm

from l2nnn_lightning.models import L2NNN, L2NNNS, build_network
from l2nnn_lightning.nn import Recurrent, harden

EXACT = 1 + 1e-6
CASES: list[dict[str, Any]] = [
    {"readout": "last"},
    {"readout": "all"},
    {"readout": "last", "hidden": [4, 6], "t": "block", "activation": "two_sided_relu"},
    {"readout": "all", "hidden": [4, 6], "dense": [], "head_hidden": [3], "bound": "gram"},
]


def build(shape: tuple[int, int, int] = (1, 5, 6), **options: Any) -> L2NNN:
    network = build_network(L2NNNS, "rows_rnn", shape, 4, {"hidden": [6], "dense": [6]} | options)
    assert isinstance(network, L2NNN)
    return network


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 3, 4)])
def test_hard_network_is_nonexpansive_as_a_whole(options: dict[str, Any], shape: tuple[int, int, int]) -> None:
    for scale in (0.02, 2.0):
        network = build(shape, **options)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(scale * torch.randn_like(parameter))
        harden(network).double().eval()
        image, other = torch.rand(2, *shape, dtype=torch.float64)
        assert 1e-6 < jacobian_norm(network.trunk, image) <= EXACT
        rows = torch.autograd.functional.jacobian(lambda x, net=network: net(x[None])[0], image).flatten(1)
        assert float(rows.norm(dim=1).max()) <= EXACT
        moved = (network(image[None]) - network(other[None])).detach().abs().max()
        assert float(moved) <= float((image - other).norm()) * EXACT


def test_readings_follow_what_is_used() -> None:
    def readings(**options: Any) -> list[bool]:
        return [layer.split is not None for layer in build(**options).trunk if isinstance(layer, Recurrent)]

    assert readings(readout="all", hidden=[4, 4]) == [True, True]
    assert readings(readout="last", hidden=[4, 4]) == [True, False]


@pytest.mark.parametrize("readout", ["last", "all"])
def test_every_row_counts(readout: str) -> None:
    network = harden(build(readout=readout, hidden=[16])).eval()
    image = torch.rand(1, 1, 5, 6, requires_grad=True)
    network(image)[0, 0].backward()
    assert bool((image.grad.abs().amax((0, 1, 3)) > 0).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "first"}, "readout must be 'last' or 'all', got 'first'"),
        ({"hidden": []}, "hidden must name at least one recurrent layer"),
        ({"hidden": [5]}, "widths must be even, got 5"),
        ({"activation": "tanh"}, "activation must be one of"),
        ({"t": "entry"}, "t must be 'block' or 'channel'"),
    ],
)
def test_bad_description_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
