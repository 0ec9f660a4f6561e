"""train.py resumed and stopped: a killed run goes on bit for bit, and a stopped one says how."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_up_images import part, write_config
from run_files import ELSEWHERE, assert_same_state, copy, rows, tensors

from l2nnn_lightning.__main__ import train
from l2nnn_lightning.training.command import TrainCLI
from l2nnn_lightning.training.run_folder import AtomicCheckpointIO

pytestmark = ELSEWHERE


class Sender(pl.Callback):
    """Send the process a signal in mid-epoch; SIGKILL ends it as a power cut does: no handler runs."""

    def __init__(self, number: signal.Signals, step: int) -> None:
        self.number, self.step = number, step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def train_until(number: signal.Signals, step: int, args: list[str]) -> tuple[int, str]:
    """Run the program in a forked process, which spares it the imports, until it sends itself a signal.

    Returns:
        The exit code, or minus the signal; standard error. No process of its group is left.
    """
    child = os.fork()
    if child == 0:
        code: Any = 77  # it should never come to this
        try:
            os.setsid()
            os.dup2(os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            build = TrainCLI.instantiate_trainer

            def with_sender(self: TrainCLI, **kwargs: Any) -> pl.Trainer:
                trainer = build(self, **kwargs)
                assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
                trainer.callbacks.insert(0, Sender(number, step))  # type: ignore[attr-defined]
                return trainer

            TrainCLI.instantiate_trainer = with_sender  # type: ignore[method-assign]
            sys.argv = ["train.py", *args]
            code = train()
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(child, 0)
    return os.waitstatus_to_exitcode(status), Path("stderr.txt").read_text()


@pytest.mark.parametrize("step", [6, 10], ids=["before the switch", "after the switch"])
@pytest.mark.parametrize("augment", ["none", "shift"])
def test_killed_run_is_resumed_bit_for_bit(images: Path, tmp_path: Path, step: int, augment: str) -> None:
    changes: dict[str, Any] = {"data__augment": augment, "data__label_noise": 0.2}
    config = write_config(tmp_path / "a.yaml", images, **changes)
    assert train(["--config", config, "--run_dir", "whole"]) == 0
    assert train_until(signal.SIGKILL, step, ["--config", config, "--run_dir", "torn"])[0] == -signal.SIGKILL
    last = torch.load("torn/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == step // 4 * 4
    torch.rand(7)  # what the generators hold must not matter
    assert train(["--ckpt_path", "torn/checkpoints/last.ckpt"]) == 0  # its own config is found
    assert_same_state(Path("torn"), Path("whole"))
    keys = list(rows(Path("whole"))[0])
    whole = [[row[key] for key in keys] for row in rows(Path("whole"))]
    assert [[row[key] for key in keys] for row in rows(Path("torn"))] == whole
    assert len(whole) == 8  # a row of training and one of validation for each epoch
    best = [torch.load(f"{run}/checkpoints/best.ckpt", weights_only=True)["state_dict"] for run in ("torn", "whole")]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[1])


def test_killed_run_keeps_its_momentum(images: Path, tmp_path: Path) -> None:
    """Resumed at step 8, between two updates of the matrices, which come at every third step."""
    chosen = part("training.optimizers.OrthogonalMomentum", every=3)
    config = write_config(tmp_path / "a.yaml", images, model__optimizer=chosen, model__network__head_hidden=[4])
    assert train(["--config", config, "--run_dir", "whole"]) == 0
    assert train_until(signal.SIGKILL, 10, ["--config", config, "--run_dir", "torn"])[0] == -signal.SIGKILL
    assert torch.load("torn/checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    assert train(["--ckpt_path", "torn/checkpoints/last.ckpt"]) == 0
    assert_same_state(Path("torn"), Path("whole"))
    assert sum(key.endswith("momentum") for key in tensors(Path("torn"))) == 3
    keys = list(rows(Path("whole"))[0])
    first, second = ([[row[key] for key in keys] for row in rows(Path(run))] for run in ("torn", "whole"))
    assert first == second  # learning rates too


def test_resumed_run_drops_the_rows_of_an_epoch_that_it_repeats(finished: Path, tmp_path: Path) -> None:
    """A run may be killed after an epoch's rows are written and before its checkpoint is."""
    run, last = tmp_path / "run", copy(finished, tmp_path / "run")
    before = rows(run)
    with (run / "metrics.csv").open("a") as file:
        file.write(",".join("99" if key in ("epoch", "step") else "" for key in before[0]) + "\n")
    assert torch.load(last, weights_only=True)["global_step"] == 16
    assert train(["--ckpt_path", str(last), "--trainer.max_epochs=5"]) == 0
    after = rows(run)
    assert [row["step"] for row in after] == [row["step"] for row in before] + ["19", "19"]
    shared = before[0].keys()
    assert [{key: row[key] for key in shared} for row in after[:8]] == before
    # Its config says nothing of what it was resumed from.
    assert train(["--config", "run/config.yaml", "--run_dir", "new"]) == 0
    assert torch.load("new/checkpoints/last.ckpt", weights_only=True)["global_step"] == 20
    assert [row["epoch"] for row in rows(Path("new"))] == list("0011223344")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [1, 6])
def test_stopped_run_says_how_to_go_on(images: Path, tmp_path: Path, number: Any, code: int, step: int) -> None:
    config = write_config(tmp_path / "a.yaml", images)
    ended, err = train_until(number, step, ["--config", config, "--run_dir", "torn"])
    assert ended == code, err
    lines = [line for line in err.splitlines() if line.startswith("stopped")]
    assert err.splitlines()[-1:] == lines, err
    todo = "resume with: python train.py --ckpt_path torn/checkpoints/last.ckpt"
    assert lines == [f"stopped; run folder: torn; {todo if step > 4 else 'no epoch was finished: start again'}"], err
    if step > 4:
        assert train(todo.split()[4:]) == 0
        assert torch.load("torn/checkpoints/last.ckpt", weights_only=True)["global_step"] == 16


def test_bug_in_the_middle_of_a_training_keeps_its_traceback(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the user's fault, so it must not look like bad input."""

    def broken(*_: object) -> None:
        raise ValueError("operands could not be broadcast")

    monkeypatch.setattr("l2nnn_lightning.training.callbacks.EpochLines.on_train_epoch_end", broken)
    with pytest.raises(ValueError, match="operands could not be broadcast"):
        train(["--config", write_config(tmp_path / "a.yaml", images)])
