"""The command: a study from its file to its table through train.py and evaluate.py, resumed."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from commands import study
from made_up_study import write_study
from terminal import Terminal

from l2nnn_lightning.__main__ import evaluate, train
from l2nnn_lightning.experiments.study import schedule
from l2nnn_lightning.experiments.study.schedule import Task
from l2nnn_lightning.training.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The dirpath has changed")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Run tasks in this process, which spares each the imports; the names of those that ran."""
    names: list[str] = []

    def run_here(tasks: Sequence[Task], jobs: int, say: Callable[[str], None]) -> list[str]:
        failed = []
        for task in sorted(tasks, key=lambda task: len(task.needs)):
            names.append(task.name)
            python, flag, code, *args = task.command()
            assert (python, flag) == (sys.executable, "-c")
            if {"train": train, "evaluate": evaluate}[re.findall(r"(\w+)\(\)\)$", code)[0]](args) == 0:
                task.finish(1.0)
            else:
                failed.append(task.name)
        return failed

    monkeypatch.setattr(schedule, "run_tasks", run_here)
    monkeypatch.setattr(sys, "argv", ["study"])
    monkeypatch.chdir(tmp_path)
    return names


def options(folder: Path, *more: str) -> list[str]:
    return ["table0", "--configs", str(folder), *more]


def test_study_runs_what_is_missing_and_fills_the_table(
    images: Path, tmp_path: Path, started: list[str], terminal: Terminal
) -> None:
    methods = {
        "L2NNN": {"config": "models/tiny.yaml", "evaluate": {"noisy": True}, "train": {"model.network.hard": True}},
        "tuned": {"config": "models/tiny.yaml", "rows": []},
    }
    tiers = {key: {"note": key, "minutes": "1", "seeds": [3]} for key in ("cpu", "gpu")}
    rows = {"50%": {"train": {"data.label_noise": 0.5, "trainer.max_epochs": 2}}}
    folder = write_study(tmp_path / "studies", images, methods=methods, tiers=tiers, rows=rows, paper={})
    assert study(options(folder, "--list")) == 0
    assert terminal.read()[0] == "l2nnn-50-s3: missing\n"
    assert study(options(folder)) == 0
    assert started == ["train l2nnn-50-s3", "evaluate l2nnn-50-s3"]
    stored = Path("results/study/table0/cpu/l2nnn-50-s3.json")
    values = json.loads(stored.read_text())
    assert values["config"]["network"]["init_args"]["hard"] is True
    assert values["study"]["overrides"]["data.label_noise"] == 0.5
    table = terminal.read()[0]
    assert f"| 50% | {100 * values['accuracy']:.1f} | {values['noisy']['train']['gap_mean']:.2f} |" in table
    assert Path("results/study/table0/cpu.md").read_text() in table

    assert study(options(folder)) == 0
    assert len(started) == 2  # nothing was left to do
    stored.unlink()
    assert study(options(folder, "--table")) == 0
    assert "| 50% | missing | missing |" in terminal.read()[0]
    assert len(started) == 2


def test_study_that_is_killed_goes_on_where_it_was(
    images: Path, tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    methods = {"L2NNN": {"config": "models/tiny.yaml", "minutes": {"cpu": 6}}, "tuned": {"config": "models/tiny.yaml"}}
    methods["tuned"]["rows"] = []  # type: ignore[assignment]
    tiers = {key: {"note": key, "minutes": "1", "seeds": [3]} for key in ("cpu", "gpu")}
    changes = {"methods": methods, "tiers": tiers, "rows": {"0%": {"train": {"trainer.max_epochs": 3}}}, "paper": {}}
    changes |= {"columns": {"acc": {"method": "L2NNN", "value": "accuracy"}}, "figure": None}
    folder = write_study(tmp_path / "studies", images, **changes)
    begun: list[int] = []

    def begin(model: Classifier) -> None:
        begun.append(model.current_epoch)
        if begun == [0, 1]:
            raise SystemExit(137)

    monkeypatch.setattr(Classifier, "on_train_epoch_start", begin)
    with pytest.raises(SystemExit):
        study(options(folder))
    assert terminal.read()[0].startswith("2 runs: about ")
    assert not list(Path("results").rglob("*.json"))
    assert study(options(folder)) == 0
    assert begun == [0, 1, 1, 2]  # the first epoch is not trained again
    assert started == ["train l2nnn-0-s3", "train l2nnn-0-s3", "evaluate l2nnn-0-s3"]
    assert [path.name for path in Path("results").rglob("*.json")] == ["l2nnn-0-s3.json"]


def test_failed_run_gives_exit_code_1_and_stays_missing(
    images: Path, tmp_path: Path, started: list[str], terminal: Terminal
) -> None:
    rows = {"0%": {"train": {"data.label_noise": 1.5}}}
    tiers = {key: {"note": key, "minutes": "1", "seeds": [0]} for key in ("cpu", "gpu")}
    folder = write_study(tmp_path / "studies", images, rows=rows, tiers=tiers, paper={})
    assert study(options(folder, "--only", "l2nnn-0-s0")) == 1
    out, err = terminal.read()
    assert "| 0% | missing | missing |" in out
    assert "label_noise must be in [0, 1], got 1.5" in err


def test_studies_are_listed(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    folder = write_study(tmp_path / "studies", images)
    assert study(["--list", "--configs", str(folder)]) == 0
    assert terminal.read()[0] == "table0: Table 0. Made up (cpu 1 minute, gpu 1 day)\n"
