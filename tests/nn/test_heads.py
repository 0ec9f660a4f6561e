"""What heads say about their Lipschitz constants."""

import pytest
import torch

from l2nnn_lightning.nn import harden
from l2nnn_lightning.nn.heads import MultiHead, SingleHead


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
