"""What heads and trunks say about their Lipschitz constants."""

import pytest
import torch
from torch import nn

from l2nnn_lightning.nn import harden, nonexpansive
from l2nnn_lightning.nn.heads import MultiHead, SingleHead
from l2nnn_lightning.nn.trunk_norm import TrunkNorm


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


def test_trunk_norm_bounds_what_the_trunk_does_and_follows_its_weights() -> None:
    torch.manual_seed(0)
    layers = [nonexpansive(nn.Linear(6, 8)), nn.ReLU(), nn.Sequential(nonexpansive(nn.Linear(8, 5)))]
    trunk = harden(nn.Sequential(*layers)).eval()
    norm = TrunkNorm()
    first = norm(trunk)
    exact = [float(torch.linalg.svdvals(layer.weight.detach().double())[0]) for layer in (trunk[0], trunk[2][0])]
    assert first == pytest.approx(exact[0] * exact[1], rel=1e-6)
    assert first >= exact[0] * exact[1]
    assert first < 1
    x = torch.randn(200, 6)
    moved = (trunk(x[:100]) - trunk(x[100:])).norm(dim=1)
    assert bool((moved <= first * (x[:100] - x[100:]).norm(dim=1) * (1 + 1e-5)).all())
    assert norm(trunk) == first
    # A change that leaves no trace in version counters.
    raw = trunk[0].parametrizations["weight"].original.data
    raw.copy_(torch.eye(8, 6))
    assert norm(trunk) != first


def test_trunk_norm_without_layers_is_one() -> None:
    norm = TrunkNorm()
    assert norm(nn.Sequential(nn.Flatten())) == 1
    assert norm(nn.ReLU()) == 1
