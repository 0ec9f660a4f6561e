"""The folder of a run: a new one each time, never overwritten, its metrics continued, its checkpoints whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from run_files import rows

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.run_folder import (
    AtomicCheckpointIO,
    RunLogger,
    check_free,
    is_first_process,
    new_run_folder,
)

# A resumed logger finds its own file.
pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory")


@pytest.fixture(autouse=True)
def _fresh_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("L2NNN_RUN_DIR", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)


def test_new_folder_is_numbered_above_all_others(tmp_path: Path) -> None:
    assert new_run_folder("mnist", tmp_path) == tmp_path / "mnist" / "version_0"
    for name in ("version_0", "version_9", "version_10", "version_x", "notes"):
        (tmp_path / "mnist" / name).mkdir(parents=True)
    assert new_run_folder("mnist", tmp_path) == tmp_path / "mnist" / "version_11"  # also later in one process
    assert new_run_folder("cifar", tmp_path) == tmp_path / "cifar" / "version_0"


def test_processes_of_one_training_share_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_run_folder("mnist", tmp_path)
    first.mkdir(parents=True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert new_run_folder("mnist", tmp_path) == first


def test_only_a_folder_without_a_run_is_free(tmp_path: Path) -> None:
    check_free(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    check_free(tmp_path)
    with pytest.raises(UserError, match=r"notes.txt is a file: choose another --run_dir"):
        check_free(tmp_path / "notes.txt")
    for sign in ("config.yaml", "metrics.csv", "checkpoints"):
        (tmp_path / sign / sign).mkdir(parents=True)
        with pytest.raises(UserError, match=r"already holds a run: choose another --run_dir, or resume .*last\.ckpt"):
            check_free(tmp_path / sign)


def write_two_epochs(folder: Path) -> None:
    logger = RunLogger(folder)
    for step in (3, 7):
        logger.log_metrics({"loss": step / 10, "epoch": step // 4}, step=step)
    logger.save()


def test_resumed_logger_without_a_file_begins_one(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, resumed_at=4)
    logger.log_metrics({"loss": 1.0}, step=7)
    logger.save()
    assert [row["step"] for row in rows(tmp_path)] == ["7"]


def test_resumed_logger_keeps_the_rows_even_if_it_is_killed_before_the_next(tmp_path: Path) -> None:
    write_two_epochs(tmp_path)
    RunLogger(tmp_path, resumed_at=8).log_hyperparams({})  # touches the file, and no more comes
    assert [row["step"] for row in rows(tmp_path)] == ["3", "7"]


@pytest.mark.parametrize(
    ("environment", "is_first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),  # torchrun, first of the second node
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),  # Lightning's own launcher
        ({"NODE_RANK": "1"}, False),  # started by hand on another node
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True),
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # Lightning's launcher in an interactive job
        ({"RANK": ""}, True),
    ],
)
def test_one_process_is_the_first_however_they_are_started(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_first: bool
) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is is_first


class Unpicklable:
    def __reduce__(self) -> Any:
        raise OSError("the disk is full")


def test_checkpoint_is_replaced_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    for value in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"value": value}, path)
        assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    with pytest.raises(OSError, match="the disk is full"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.ones(10_000), "value": Unpicklable()}, path)
    assert torch.load(path, weights_only=True) == {"value": 2}
