"""Two processes that share each batch train, switch and measure as one process does."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_up_images import StripesDataModule
from made_up_training import make_classifier, make_trainer
from meeting_place import reserved_port
from torch import Tensor

from l2nnn_lightning.training.callbacks import BestCheckpoint, EpochSeed, HardScalingSwitch, LastCheckpoint
from l2nnn_lightning.training.optimizers import OrthogonalMomentum
from l2nnn_lightning.training.schedule import CosineAfterSwitch


class Notes(pl.Callback):
    """Write what each process saw of every epoch, and its weights in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs: list[dict[str, float]] = []
        self.adversarial: list[Tensor] = []
        self.labels: list[Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.labels.append(torch.stack([batch.index, batch.label]))
        if batch.adversarial is not None:
            self.adversarial.append((batch.adversarial - batch.image).abs().amax())

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.epochs.append(metrics | {"is_hard": float(pl_module.is_hard), "step": trainer.global_step})

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.on_train_epoch_start(trainer, pl_module)
        self._write(trainer, pl_module, "fit")

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.epochs = [{name: float(value) for name, value in trainer.callback_metrics.items()}]
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        values = {
            "epochs": self.epochs,
            "state": {key: value.clone() for key, value in pl_module.state_dict().items()},
            "adversarial": self.adversarial,
            "labels": self.labels,
            "start": [config.scheduler.start for config in trainer.lr_scheduler_configs],
        }
        torch.save(values, self.folder / f"{stage}{trainer.global_rank}.pt")


def fit_and_test(folder: Path, processes: int, *more: pl.Callback, **options: Any) -> list[dict[str, Any]]:
    """Train on batches of 20 in all and test; return what each process noted of ``stage``."""
    folder.mkdir()
    torch.manual_seed(3)
    # 51 training, 9 validation and 17 of the test images: shared unevenly, in several uneven batches.
    sizes = {"batch_size": 20 // processes, "eval_batch_size": 6 // processes, "val_size": 9}
    data = StripesDataModule(**sizes, **options.pop("data", {}))
    data.setup("test")
    assert data.test_set is not None
    data.test_set = data.test_set.subset(torch.arange(17))
    notes = Notes(folder)
    more = (EpochSeed(0), *more, BestCheckpoint(folder, "val/radius_mean"), LastCheckpoint(folder), notes)
    several = {"devices": processes, "strategy": "ddp_fork"} if processes > 1 else {}
    trainer = make_trainer(folder, *more, **several)
    model = make_classifier(**options)
    with warnings.catch_warnings(), reserved_port() as port, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of Lightning: one worker, a random port, metrics that need no reduction
        patch.setenv("MASTER_PORT", port)
        trainer.fit(model, data)
        trainer.test(model, data, verbose=False)
    return [
        {stage: torch.load(folder / f"{stage}{rank}.pt", weights_only=True) for stage in ("fit", "test")}
        for rank in range(processes)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Noisy labels, principal initialisation, adversarial batches, the switch after two of four epochs."""
    folder = tmp_path_factory.mktemp("agree")
    noise = {"label_noise": 0.3, "adversarial": True, "attack": {"random_start": False, "eps": 0.05}}
    runs: dict[str, Any] = {"folder": folder}
    for processes in (1, 2):
        switch = HardScalingSwitch(switch_epoch=2)
        runs[str(processes)] = fit_and_test(folder / str(processes), processes, switch, data=noise)
    return runs


def test_same_global_batch_gives_the_same_weights(trained: dict[str, Any]) -> None:
    """Sums over a batch in another order: differences of float32 rounding, which Adam carries on for 8 steps."""
    (one,), (first, second) = trained["1"], trained["2"]
    for key, expected in one["fit"]["state"].items():
        assert torch.equal(first["fit"]["state"][key], second["fit"]["state"][key]), key
        torch.testing.assert_close(first["fit"]["state"][key], expected, rtol=1e-3, atol=1e-5, msg=key)


def test_each_step_sees_the_same_images_and_noisy_labels(trained: dict[str, Any]) -> None:
    (one,), (first, second) = trained["1"], trained["2"]
    assert len(one["fit"]["labels"]) == 8
    for whole, *shares in zip(one["fit"]["labels"], first["fit"]["labels"], second["fit"]["labels"], strict=True):
        assert [share.shape[1] for share in shares] == [10, 10]
        together = torch.cat(shares, dim=1)
        assert torch.equal(together[:, together[0].argsort()], whole[:, whole[0].argsort()])


def test_every_process_attacks_its_batches(trained: dict[str, Any]) -> None:
    for process in trained["2"]:
        sizes = process["fit"]["adversarial"]
        assert len(sizes) == 8
        assert all(0.01 < float(size) <= 0.05 + 1e-6 for size in sizes)


def test_all_processes_switch_at_the_step_of_a_single_one(trained: dict[str, Any]) -> None:
    for processes in ("1", "2"):
        for process in trained[processes]:
            assert process["fit"]["start"] == [4]
            assert [epoch["is_hard"] for epoch in process["fit"]["epochs"]] == [0, 0, 1, 1, 1]
            assert [epoch["step"] for epoch in process["fit"]["epochs"]] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_metrics_are_those_of_a_single_process(trained: dict[str, Any], stage: str) -> None:
    """A sample that is left out or counted twice would show; sums of floats are the same up to their order."""
    images = {"train": 40, "val": 9, "test": 17}  # of the training images only whole batches are used
    (one,) = trained["1"]
    for process in trained["2"]:
        for expected, found in zip(one[stage]["epochs"], process[stage]["epochs"], strict=True):
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                if "accuracy" in name or "certified" in name:
                    # Of exactly so many images; rounding may carry one of them over a threshold.
                    count = images[name.partition("/")[0]]
                    assert count * found[name] == pytest.approx(round(count * found[name]), abs=1e-5), name
                    assert found[name] == pytest.approx(value, abs=1.01 / count), name
                else:
                    assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert one[stage]["epochs"][-1][f"{'val' if stage == 'fit' else 'test'}/certified_0_5"] > 0.2


def test_best_and_last_checkpoint_are_written_once_and_are_the_same(trained: dict[str, Any]) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        one, two = (torch.load(trained["folder"] / n / name, weights_only=True) for n in ("1", "2"))
        assert one["epoch"] == two["epoch"]
        assert one["global_step"] == two["global_step"]
        assert one["state_dict"].keys() == two["state_dict"].keys()


def test_matrices_turn_alike(tmp_path: Path) -> None:
    """Orthogonalised momentum multiplies small singular values by 55 at most, and rounding with them."""
    own = {"optimizer": OrthogonalMomentum, "scheduler": partial(CosineAfterSwitch, warmup_steps=2)}
    network = {"dense": [8], "head_hidden": [6], "hard": True}
    (one,), (first, second) = (fit_and_test(tmp_path / str(n), n, **own, **network) for n in (1, 2))
    assert len(one["fit"]["labels"]) == 8
    for key, expected in one["fit"]["state"].items():
        assert torch.equal(first["fit"]["state"][key], second["fit"]["state"][key]), key
        torch.testing.assert_close(first["fit"]["state"][key], expected, rtol=1e-3, atol=1e-4, msg=key)


class Disagreeing(pl.Callback):
    """Each process sees another metric: the first never improves, the other always does."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = [1.0, 1.0 - trainer.current_epoch / 10][trainer.global_rank]
        pl_module.log("val/scripted", value, sync_dist=False)


@pytest.mark.parametrize("averaged", [False, True])
def test_processes_that_disagree_switch_together(tmp_path: Path, averaged: bool) -> None:
    more: list[pl.Callback] = [Disagreeing(), HardScalingSwitch("val/scripted", patience=2, latest=1.0)]
    if averaged:
        more.append(pl.callbacks.EMAWeightAveraging(decay=0.5))
    first, second = fit_and_test(tmp_path / "two", 2, *more)
    for process in (first, second):
        assert process["fit"]["start"] == [6]
        assert process["fit"]["state"]["network.trunk.1.parametrizations.weight.0.hard"].item() is True
        assert process["test"]["epochs"][0]["test/hard"] == 1
        assert process["test"]["epochs"][0]["test/certified_0_5"] > 0
    for key, value in first["test"]["state"].items():
        assert torch.equal(value, second["test"]["state"][key]), key
