"""The Parseval network: orthonormal after each step, nonexpansive by a bound that does not rest on that."""

from pathlib import Path

import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import make_classifier, make_trainer
from torch import Tensor, nn

from l2nnn_lightning.models import ConvexAggregation, parseval_mnist, parseval_retraction_
from l2nnn_lightning.nn import harden, nonexpansive
from l2nnn_lightning.training.callbacks import ParsevalRetraction

OPTIONS = {"channels": [3, 4], "kernel_size": 3, "dense": [5]}


def raw_matrices(network: nn.Module) -> list[Tensor]:
    return [p.detach().flatten(1) for name, p in network.named_parameters() if name.endswith("original")]


def distance_from_orthonormal(matrix: Tensor) -> float:
    """How far the singular values are from 1, by a decomposition that the retraction does not use."""
    return float((torch.linalg.svdvals(matrix.double()) - 1).abs().max())


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (7, 7)])
def test_retraction_finds_the_nearest_orthonormal_matrix(shape: tuple[int, int]) -> None:
    layer = nonexpansive(nn.Linear(shape[1], shape[0]))
    raw = layer.parametrizations.weight.original
    with torch.no_grad():
        nn.init.orthogonal_(raw)
        raw += 0.03 * torch.randn_like(raw)
    u, _, v = torch.linalg.svd(raw.detach(), full_matrices=False)
    before = distance_from_orthonormal(raw.detach())
    parseval_retraction_(layer, steps=1)
    # Newton's step maps s to 1.5 s - 0.5 s^3, so an error e becomes at most 1.5 e^2 + 0.5 e^3.
    assert distance_from_orthonormal(raw.detach()) <= 1.5 * before**2 + 0.5 * before**3 + 1e-5
    parseval_retraction_(layer, steps=4)
    assert torch.allclose(raw.detach(), u @ v, atol=1e-5)


def test_small_beta_goes_a_part_of_the_way() -> None:
    layer = nonexpansive(nn.Linear(1, 1))
    raw = layer.parametrizations.weight.original
    raw.data.fill_(1.2)
    parseval_retraction_(layer, beta=0.1, steps=1)
    assert raw.item() == pytest.approx(1.1 * 1.2 - 0.1 * 1.2**3)


def test_hard_network_is_jointly_nonexpansive_whatever_its_weights() -> None:
    network = parseval_mnist((2, 8, 9), 4, **OPTIONS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(2 * torch.randn_like(parameter) + 0.3)
    network = harden(network).double().eval()
    assert network.gap_lipschitz == pytest.approx(2**0.5)
    for image in torch.rand(4, 2, 8, 9, dtype=torch.float64):
        rows = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image).flatten(1)
        assert 1e-6 < float(torch.linalg.matrix_norm(rows, 2)) <= 1 + 1e-6


def test_aggregation_is_a_convex_combination() -> None:
    layer = ConvexAggregation(nn.ReLU())
    layer.logit.data.fill_(torch.logit(torch.tensor(0.25)))
    assert torch.allclose(layer(torch.tensor([-4.0, 4.0])), torch.tensor([-1.0, 4.0]))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="must be odd, got 4"):
        parseval_mnist((1, 8, 8), 3, kernel_size=4)
    with pytest.raises(ValueError, match="too small for 2 poolings"):
        parseval_mnist((1, 3, 8), 3)
    with pytest.raises(ValueError, match=r"beta must be in \(0, 0.5\]"):
        ParsevalRetraction(beta=0.7)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        ParsevalRetraction(steps=0)


def test_training_keeps_filters_orthonormal_and_the_certificate(tmp_path: Path) -> None:
    def trained(*callbacks: ParsevalRetraction) -> list[float]:
        torch.manual_seed(0)
        model = make_classifier(
            network="parseval_mnist", network_args=OPTIONS, start_hard=True, omega=0.0, gamma=0.0, init="orthogonal"
        )
        make_trainer(tmp_path, *callbacks, max_epochs=2).fit(model, StripesDataModule(batch_size=10, val_size=6))
        assert model.radius_kind == "gap/sqrt(2)"
        _, gap, radius = model.certify(torch.rand(5, *SHAPE))
        assert torch.allclose(radius, gap / 2**0.5, atol=1e-5)
        assert bool((radius > 0).any())
        return [distance_from_orthonormal(matrix) for matrix in raw_matrices(model.network)]

    assert max(trained(ParsevalRetraction())) < 1e-3
    assert max(trained()) > 1e-2
