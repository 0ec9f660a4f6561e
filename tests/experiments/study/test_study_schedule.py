"""Tasks side by side: needs first, failures take along what needs them, and everything has its core."""

import sys
from pathlib import Path

from l2nnn_lightning.experiments.study.schedule import Task, run_tasks


def task(folder: Path, name: str, code: str, *needs: str) -> Task:
    def finish() -> None:
        (folder / f"{name}.finished").touch()

    return Task(name, lambda: [sys.executable, "-c", code], folder / f"{name}.log", finish, frozenset(needs))


def test_tasks_wait_for_what_they_need(tmp_path: Path) -> None:
    lines: list[str] = []
    first = tmp_path / "a.finished"
    tasks = [
        task(tmp_path, "b", f"import pathlib; assert pathlib.Path({str(first)!r}).exists()", "a"),
        task(tmp_path, "a", "import os; print('threads', os.environ['OMP_NUM_THREADS'])"),
        task(tmp_path, "c", "", "met long ago"),
    ]
    assert run_tasks(tasks, 2, lines.append, poll=0.01) == []
    assert {path.name for path in tmp_path.glob("*.finished")} == {"a.finished", "b.finished", "c.finished"}
    assert (tmp_path / "a.log").read_text() == "threads 1\n"
    assert lines.index("started b") > [line.startswith("done a, ") for line in lines].index(True)


def test_failure_is_told_and_takes_along_only_what_needs_it(tmp_path: Path) -> None:
    lines: list[str] = []
    tasks = [
        task(tmp_path, "bad", "import sys; print('why'); sys.exit(3)"),
        task(tmp_path, "after", "", "bad"),
        task(tmp_path, "later", "", "after"),
        task(tmp_path, "good", ""),
    ]
    assert run_tasks(tasks, 1, lines.append, poll=0.01) == ["bad", "after", "later"]
    assert not (tmp_path / "bad.finished").exists()
    assert (tmp_path / "good.finished").exists()
    assert f"failed bad with exit code 3: see {tmp_path / 'bad.log'}" in lines
    assert "skipped after: bad failed" in lines
    assert (tmp_path / "bad.log").read_text() == "why\n"
