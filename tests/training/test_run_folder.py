"""The folder of a run: a new one each time, never overwritten, its metrics continued."""

import csv
from pathlib import Path

import pytest

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.run_folder import RunLogger, check_free, is_first_process, new_run_folder

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
    assert new_run_folder("mnist", tmp_path) == tmp_path / "mnist" / "version_11"
    assert new_run_folder("cifar", tmp_path) == tmp_path / "cifar" / "version_0"


def test_processes_of_one_training_share_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_run_folder("mnist", tmp_path)
    first.mkdir(parents=True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert new_run_folder("mnist", tmp_path) == first


def test_later_training_of_the_same_process_gets_its_own(tmp_path: Path) -> None:
    new_run_folder("mnist", tmp_path).mkdir(parents=True)
    assert new_run_folder("mnist", tmp_path).name == "version_1"


@pytest.mark.parametrize("sign", ["config.yaml", "metrics.csv", "checkpoints"])
def test_folder_with_a_run_is_refused(tmp_path: Path, sign: str) -> None:
    (tmp_path / sign).mkdir()
    with pytest.raises(
        UserError, match=r"already holds a run: choose another --run_dir, or resume it with .*last\.ckpt"
    ):
        check_free(tmp_path)


def test_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file: choose another --run_dir"):
        check_free(tmp_path / "file")


def test_missing_empty_or_unrelated_folder_is_free(tmp_path: Path) -> None:
    check_free(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    check_free(tmp_path)


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_two_epochs(folder: Path) -> None:
    logger = RunLogger(folder)
    for step in (3, 7):
        logger.log_metrics({"loss": step / 10, "epoch": step // 4}, step=step)
    logger.save()


def test_logger_writes_straight_into_the_folder(tmp_path: Path) -> None:
    write_two_epochs(tmp_path)
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [("3", "0.3"), ("7", "0.7")]


def test_resumed_logger_continues_and_drops_what_is_repeated(tmp_path: Path) -> None:
    write_two_epochs(tmp_path)
    logger = RunLogger(tmp_path, resumed_at=4)  # after the first epoch of four steps
    logger.log_metrics({"loss": 0.65, "accuracy": 0.5, "epoch": 1}, step=7)
    logger.save()
    assert [(row["step"], row["loss"], row["accuracy"]) for row in read(tmp_path)] == [
        ("3", "0.3", ""),
        ("7", "0.65", "0.5"),
    ]


def test_resumed_logger_without_a_file_begins_one(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, resumed_at=4)
    logger.log_metrics({"loss": 1.0}, step=7)
    logger.save()
    assert [row["step"] for row in read(tmp_path)] == ["7"]


def test_resumed_logger_keeps_the_rows_even_if_it_is_killed_before_the_next(tmp_path: Path) -> None:
    write_two_epochs(tmp_path)
    RunLogger(tmp_path, resumed_at=8).log_hyperparams({})  # touches the file, and no more comes
    assert [row["step"] for row in read(tmp_path)] == ["3", "7"]


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
