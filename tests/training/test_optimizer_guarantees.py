"""OrthogonalMomentum as torch and Lightning use optimizers: closures, scalers, clipping, checkpoints, precision."""

import io
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from made_up_images import StripesDataModule
from made_up_training import QUIET_TRAINING, make_classifier, make_trainer
from torch import Tensor, nn

from l2nnn_lightning.nn import harden, nonexpansive, weight_bound
from l2nnn_lightning.nn.labelwise import LabelwiseLinear
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight
from l2nnn_lightning.nn.polar import near_polar
from l2nnn_lightning.training.optimizers import OrthogonalMomentum, parameter_groups
from l2nnn_lightning.training.schedule import CosineAfterSwitch

pytestmark = QUIET_TRAINING


def make_network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Matrices, a stack of them, a stack of rows and biases, from one seed."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 6), LabelwiseLinear(3, 6, 4), LabelwiseLinear(3, 4, 1)]
    network = nn.Sequential(*(nonexpansive(layer) for layer in layers)).to(dtype)
    for layer, scaling in nonexpansive_layers(network):
        for matrix in scaling.matrices(raw_weight(layer).data):
            nn.init.orthogonal_(matrix)
    return harden(network)


def batch(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(10, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def loss_of(network: nn.Module, x: Tensor) -> Tensor:
    loss: Tensor = (network(x) - 1).square().mean()
    return loss


def advance(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for seed in steps:
        optimizer.zero_grad()
        loss_of(network, batch(seed, next(network.parameters()).dtype)).backward()
        optimizer.step()


def prepared(**options: Any) -> tuple[nn.Sequential, OrthogonalMomentum]:
    network = make_network()
    return network, OrthogonalMomentum(parameter_groups(network), **options)


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other), name


def test_closure_is_called_once_with_gradients_and_hooks_run_once() -> None:
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # hooks are looked for in every class that was built once
    (network, optimizer), (twin, other) = prepared(), prepared()
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure() -> Tensor:
        calls.append("closure")
        optimizer.zero_grad()
        loss = loss_of(network, batch(0))
        loss.backward()
        return loss

    assert torch.equal(optimizer.step(closure), loss_of(twin, batch(0)))
    assert calls == ["before", "closure", "after"]
    advance(twin, other, range(1))
    assert_equal(network, twin)


def test_gradients_are_left_as_they_are() -> None:
    """A callback may log them after the step; zero_grad(set_to_none=False) goes on with the same tensors."""
    (network, optimizer), (twin, other) = prepared(), prepared()
    loss_of(network, batch(0)).backward()
    before = [weight.grad.clone() for weight in network.parameters()]
    optimizer.step()
    for weight, gradient in zip(network.parameters(), before, strict=True):
        assert torch.equal(weight.grad, gradient)
    optimizer.zero_grad(set_to_none=False)
    assert not any(weight.grad.any() for weight in network.parameters())
    loss_of(network, batch(1)).backward()
    optimizer.step()
    advance(twin, other, range(2))
    assert_equal(network, twin)


@pytest.mark.parametrize("frozen", [False, True])
def test_weight_without_a_gradient_stays(frozen: bool) -> None:
    network = make_network()
    kept = [raw_weight(network[0]), network[1].bias]
    for weight in kept:
        weight.requires_grad_(not frozen)
    optimizer = OrthogonalMomentum(parameter_groups(network))
    before = {weight: weight.detach().clone() for weight in network.parameters()}
    loss_of(network, batch(0)).backward()
    for weight in kept:
        weight.grad = None
    optimizer.step()
    for weight, value in before.items():
        is_kept = any(weight is one for one in kept)
        assert torch.equal(weight, value) == is_kept
        assert (weight in optimizer.state) != is_kept


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    (network, optimizer), (twin, other) = prepared(), prepared()
    for seed in range(3):
        optimizer.zero_grad()
        for half in batch(seed).chunk(2):
            (loss_of(network, half) / 2).backward()
        optimizer.step()
    advance(twin, other, range(3))
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("every", [1, 2])
def test_state_travels_through_a_file_to_an_optimizer_with_other_rates(every: int) -> None:
    (network, optimizer), (twin, other) = prepared(every=every), prepared(every=every, lr=1.0, matrix_lr=0.9)
    advance(network, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"weights": network.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin.load_state_dict(saved["weights"])
    other.load_state_dict(saved["optimizer"])
    for mine, theirs in zip((network, twin), (optimizer, other), strict=True):
        advance(mine, theirs, range(3, 6))
    assert_equal(network, twin)


def test_matrices_may_wait_while_their_momentum_takes_up_every_gradient() -> None:
    """The third of every three steps, by hand; Adam goes on at each."""
    network, optimizer = prepared(every=3, matrix_lr=0.01, retract=0)
    raw, bias = raw_weight(network[0]), network[0].bias
    momentum, start = torch.zeros_like(raw), raw.detach().clone()
    for seed in range(6):
        last = bias.detach().clone()
        before = raw.detach().clone()
        advance(network, optimizer, range(seed, seed + 1))
        assert not torch.equal(bias, last)
        momentum = 0.95 * momentum + raw.grad
        if seed % 3 < 2:
            assert torch.equal(raw, before)
        else:
            wanted = before - 0.03 * near_polar((raw.grad + 0.95 * momentum)[None])[0]
            torch.testing.assert_close(raw.detach(), wanted)
    assert not torch.equal(raw, start)


def test_float64_weights_have_a_float64_state() -> None:
    network = make_network(torch.float64)
    optimizer = OrthogonalMomentum(parameter_groups(network), matrix_lr=1e-3)
    advance(network, optimizer, range(3))
    assert {value.dtype for state in optimizer.state.values() for key, value in state.items() if key != "step"} == {
        torch.float64
    }
    values = np.linalg.svd(raw_weight(network[0]).detach().numpy(), compute_uv=False)
    # One Bjorck step leaves 3/2 e^2 of e <= 1.3e-3: float32 would leave no such order.
    assert np.abs(values - 1).max() < 4e-6


def test_groups_that_name_no_layout_are_left_to_adam() -> None:
    weights = [nn.Parameter(torch.ones(4, 5)) for _ in range(2)]
    columns = [{"params": [weights[0]], "columns": 5}]  # as a group of ScaledAdam
    optimizers = OrthogonalMomentum(columns, lr=0.01), torch.optim.Adam([weights[1]], 0.01, (0.9, 0.99))
    for seed in range(3):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
            optimizer.step()
    torch.testing.assert_close(*weights)


def test_scaler_unscales_before_the_step_and_skips_what_overflowed() -> None:
    """A fused step would be left to do so by itself; it would turn matrices along infinite gradients."""
    (network, optimizer), (twin, other) = prepared(), prepared()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # a power of two rounds nothing
    for seed in range(2):
        optimizer.zero_grad()
        scaler.scale(loss_of(network, batch(seed))).backward()
        scaler.step(optimizer)
        scaler.update()
    advance(twin, other, range(2))
    assert_equal(network, twin)
    scaler.scale(loss_of(network, batch(2) * 1e30)).backward()
    scaler.step(optimizer)
    assert_equal(network, twin)
    assert all(value.isfinite().all() for state in optimizer.state.values() for value in state.values())


def test_autocast_rounds_no_step() -> None:
    (network, optimizer), (twin, other) = prepared(), prepared()
    for module, chosen, precision in ((network, optimizer, True), (twin, other, False)):
        loss_of(module, batch(0)).backward()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision):
            chosen.step()
    assert_equal(network, twin)


class Gradients(pl.Callback):
    """Note the norm of the gradients that each step sees."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        found = [weight.grad.flatten() for weight in pl_module.parameters() if weight.grad is not None]
        if found:
            self.norms.append(float(torch.cat(found).norm()))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_clips_and_trains_in_mixed_precision_with_a_float32_state(tmp_path: Path, precision: Any) -> None:
    seen = Gradients()
    own = {"optimizer": OrthogonalMomentum, "scheduler": partial(CosineAfterSwitch, warmup_steps=2)}
    classifier = make_classifier(dense=[16], head_hidden=[6], hard=True, **own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning: worker processes
        trainer = make_trainer(tmp_path, seen, precision=precision, gradient_clip_val=0.5, max_epochs=3)
        trainer.fit(classifier, datamodule=StripesDataModule(batch_size=10, val_size=10))
    assert max(seen.norms) <= 0.5 + 1e-4
    assert len(seen.norms) > 10
    optimizer = trainer.optimizers[0]
    values = [value for state in optimizer.state.values() for value in state.values()]
    assert {value.dtype for value in (*values, *classifier.parameters())} == {torch.float32}
    assert len(optimizer.state) == len(list(classifier.parameters()))
    bounds = [
        float(weight_bound(matrix))
        for layer, scaling in nonexpansive_layers(classifier.network)
        for matrix in scaling.matrices(raw_weight(layer).detach())
        if len(matrix) > 1  # single rows are Adam's
    ]
    assert bounds == pytest.approx([1.0] * 4, abs=1e-3)


@pytest.mark.slow
def test_compiled_network_is_trained_alike() -> None:
    """The optimizer meets the same weights; a backend without a compiler differs in rounding, if at all."""
    (network, optimizer), (twin, other) = prepared(), prepared()
    network.compile(backend="aot_eager")
    for module, chosen in ((network, optimizer), (twin, other)):
        advance(module, chosen, range(3))
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
