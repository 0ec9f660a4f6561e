"""No evaluation overwrites another, and attacks that were cut short go on where they stopped."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from terminal import Terminal

from l2nnn_lightning.__main__ import evaluate
from l2nnn_lightning.attacks import ImageAttack
from l2nnn_lightning.evaluation.report.folder import whole_folder

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time."""
    for name in ("accuracy_by_radius", "accuracy_by_gap", "gap_histogram", "gallery", "iterations", "history"):
        monkeypatch.setattr(f"l2nnn_lightning.evaluation.report.report.plot_{name}", lambda *_: None)


@pytest.fixture
def checkpoint(finished: Path, tmp_path: Path) -> str:
    shutil.copytree(finished, tmp_path / "run")
    return str(tmp_path / "run" / "checkpoints" / "best.ckpt")


def count(folder: str) -> int:
    return int(json.loads(Path(folder, "results.json").read_text(encoding="utf-8"))["n"])


def test_a_smoke_test_does_not_replace_an_evaluation(checkpoint: str) -> None:
    """``--limit 20`` after hours of attacks left the figures of 20 images."""
    for limit in ("12", "5", "6"):
        assert evaluate(["--ckpt_path", checkpoint, "--limit", limit]) == 0
    assert [count(f"run/evaluation{kept}") for kept in ("", "_1", "_2")] == [6, 12, 5]
    for kept in ("", "_1", "_2"):
        names = {path.name for path in Path(f"run/evaluation{kept}").iterdir()}
        assert names >= {"results.json", "records.csv", "report.md", "figures"}


def test_a_folder_of_something_else_is_refused(checkpoint: str, terminal: Terminal) -> None:
    """The files of an evaluation were scattered among others."""
    Path("notes").mkdir()
    Path("notes/mine.txt").write_text("mine", encoding="utf-8")
    line = terminal.error_line(evaluate, "--ckpt_path", checkpoint, "--output", "notes")
    assert "--output notes holds other files: choose a folder of its own, such as notes/new" in line
    assert evaluate(["--ckpt_path", checkpoint, "--output", "notes/new", "--limit", "4"]) == 0
    assert sorted(path.name for path in Path("notes").iterdir()) == ["mine.txt", "new"]


def test_what_cannot_be_written_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.json").write_text("{}", encoding="utf-8")

    def write() -> None:
        with whole_folder(tmp_path / "old") as folder:
            (folder / "records.csv").write_text("half", encoding="utf-8")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "results.json"]


def test_attacks_that_were_cut_short_go_on_where_they_stopped(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    """Hours of attacks were lost with the process that ran them."""
    options = ["--ckpt_path", checkpoint, "--limit", "12", "--batch_size", "4", "--attacks", "cw,fgsm", "--eps", "0.5"]
    options += ["--max_iter", "2,5", "--attack_proven"]
    assert evaluate([*options, "--output", "whole"]) == 0
    run, calls = ImageAttack.run, []

    def counted(self: ImageAttack, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.name if hasattr(self, "name") else type(self).__name__)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return run(self, *args, **kwargs)

    monkeypatch.setattr(ImageAttack, "run", counted)
    stop = 3
    assert evaluate([*options, "--output", "again"]) == 130
    assert not Path("again").exists()
    (kept,) = Path("again.part").iterdir()
    files = sorted(path.name for path in kept.iterdir())
    assert files == ["cw_2-0.pt", "cw_2-4.pt"]
    (kept / files[1]).write_bytes(b"torn")  # as by a machine that lost its power
    stop = 0
    calls.clear()
    terminal.read()
    assert evaluate([*options, "--output", "again"]) == 0
    assert "1 batches were attacked before, by the same command: taken from again.part/" in terminal.read()[1]
    again = len(calls)
    calls.clear()
    assert evaluate([*options, "--output", "third"]) == 0
    assert again == len(calls) - 1
    assert not Path("again.part").exists()
    assert Path("again/records.csv").read_bytes() == Path("whole/records.csv").read_bytes()


def test_what_other_settings_found_is_not_taken(checkpoint: str, terminal: Terminal) -> None:
    options = ["--ckpt_path", checkpoint, "--limit", "4", "--attacks", "fgsm", "--attack_proven", "--output", "out"]
    assert evaluate([*options, "--eps", "0.5"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l2nnn_lightning.evaluation.command.write_evaluation", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate([*options, "--eps", "0.25"])
    terminal.read()
    assert evaluate([*options, "--eps", "0.5"]) == 0
    assert "attacked before" not in terminal.read()[1]
    assert Path("out.part").is_dir()
    assert evaluate([*options, "--eps", "0.25"]) == 0
    assert "1 batches were attacked before" in terminal.read()[1]
    assert not Path("out.part").exists()
