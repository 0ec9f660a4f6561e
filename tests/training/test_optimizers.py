"""Orthogonalised momentum on the manifold of orthonormal rows."""

import copy
from functools import partial

import pytest
import torch
from made_up_images import StripesDataModule
from made_up_training import make_trainer
from torch import Tensor, nn

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.models import ConvL2NNN
from l2nnn_lightning.nn import largest_bound, nonexpansive
from l2nnn_lightning.nn.labelwise import LabelwiseLinear
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight
from l2nnn_lightning.training.optimizers import OrthogonalMomentum, parameter_groups
from l2nnn_lightning.training.schedule import CosineAfterSwitch


def polar(matrices: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    return u @ v


LAYERS = [
    nn.Linear(12, 5),
    nn.Linear(5, 12),
    nn.Conv2d(4, 6, 3, groups=2, padding=1),
    nn.Conv2d(8, 2, 1),
    LabelwiseLinear(3, 9, 4),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{type(layer).__name__}{list(layer.weight.shape)}")
def test_every_matrix_turns_by_the_rate_and_stays_orthonormal(layer: nn.Module) -> None:
    layer = nonexpansive(copy.deepcopy(layer))
    raw, scaling = raw_weight(layer), next(iter(nonexpansive_layers(layer)))[1]
    for matrix in scaling.matrices(raw.data):
        nn.init.orthogonal_(matrix)
    before = scaling.matrices(raw.detach().clone())
    optimizer = OrthogonalMomentum(parameter_groups(layer), matrix_lr=0.02)
    raw.grad = torch.randn(raw.shape, generator=torch.Generator().manual_seed(0))
    wanted = before - 0.02 * polar(scaling.matrices(raw.grad))
    optimizer.step()
    after = scaling.matrices(raw.detach())
    # The update's singular values are off by 0.5 at most, and the Bjorck step takes off what leaves the manifold.
    assert float(torch.linalg.matrix_norm(after - wanted, 2).max()) < 0.02
    assert float((torch.linalg.svdvals(after) - 1).abs().max()) < 2e-3


def test_kernels_may_lie_channels_last_in_memory() -> None:
    dense = nonexpansive(nn.Conv2d(4, 6, 3))
    last = copy.deepcopy(dense).to(memory_format=torch.channels_last)
    assert not raw_weight(last).is_contiguous()
    for layer in (dense, last):
        raw_weight(layer).grad = torch.linspace(-1, 1, 216).sin().view(6, 4, 3, 3)
        OrthogonalMomentum(parameter_groups(layer)).step()
    torch.testing.assert_close(raw_weight(last), raw_weight(dense))


def test_biases_and_scalars_are_left_to_adam() -> None:
    for build in (partial(LabelwiseLinear, 3, 8, 1), partial(nn.Linear, 1, 1)):
        ours, theirs = (nonexpansive(build()) for _ in range(2))
        theirs.load_state_dict(ours.state_dict())
        is_scalar = raw_weight(ours).numel() == 1
        theirs_trained = theirs.parameters() if is_scalar else [theirs.bias]
        optimizers = (
            OrthogonalMomentum(parameter_groups(ours), 0.01),
            torch.optim.Adam(theirs_trained, 0.01, (0.9, 0.99)),
        )
        for _ in range(3):
            for optimizer in optimizers:
                optimizer.zero_grad()
            inputs = torch.ones(2, 1 if is_scalar else 8)
            ours(inputs).square().sum().backward()
            theirs(inputs).square().sum().backward()
            theirs.bias.grad.copy_(ours.bias.grad)  # their rows stay what they were
            for optimizer in optimizers:
                optimizer.step()
        torch.testing.assert_close(ours.bias, theirs.bias)
        if is_scalar:
            torch.testing.assert_close(raw_weight(ours), raw_weight(theirs))


def test_single_rows_turn_towards_the_gradient_as_unit_vectors() -> None:
    layer = nonexpansive(LabelwiseLinear(3, 8, 1, bias=False))
    raw = raw_weight(layer)
    with torch.no_grad():
        raw.copy_(torch.nn.functional.normalize(raw, dim=2))
    before = raw.detach().clone()
    raw.grad = torch.randn(3, 1, 8) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1)
    OrthogonalMomentum(parameter_groups(layer), matrix_lr=0.01).step()
    torch.testing.assert_close(raw.norm(dim=2), torch.ones(3, 1), atol=1e-3, rtol=0)
    along = torch.nn.functional.cosine_similarity(raw - before, -raw.grad, dim=2)
    assert (along > 0.5).all()  # most of it, whatever the gradient's size: the rest is the way back to the sphere
    moved = (raw - before).norm(dim=2)
    assert ((moved > 0.003) & (moved < 0.02)).all()


def test_training_keeps_the_bound_at_one_and_learns(tmp_path) -> None:
    network = partial(ConvL2NNN, channels=[], dense=[16], head_hidden=[6], activation="maxmin", hard=True)
    classifier = L2NNNClassifier(
        network,
        optimizer=OrthogonalMomentum,
        scheduler=partial(CosineAfterSwitch, warmup_steps=2),
        image_shape=StripesDataModule().image_shape,
        num_labels=3,
    )
    trainer = make_trainer(tmp_path, max_epochs=40)
    trainer.fit(classifier, datamodule=StripesDataModule(batch_size=20))
    assert largest_bound(classifier.network) < 1.02
    assert float(trainer.callback_metrics["train/accuracy"]) > 0.9


def test_state_goes_on_where_it_was() -> None:
    layer = nonexpansive(nn.Linear(6, 4))
    twin = copy.deepcopy(layer)
    first, second = (OrthogonalMomentum(parameter_groups(module)) for module in (layer, twin))

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        optimizer.zero_grad()
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
        module(x).square().sum().backward()
        optimizer.step()

    for seed in range(3):
        step(layer, first, seed)
    twin.load_state_dict(layer.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step(layer, first, 9)
    step(twin, second, 9)
    for mine, other in zip(layer.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 0.0), ("momentum", 1.0), ("matrix_lr", -1.0), ("retract", -1), ("every", 0)]
)
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is out of range"):
        OrthogonalMomentum([nn.Parameter(torch.zeros(1))], **{name: value})
