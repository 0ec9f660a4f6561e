"""Tasks side by side: needs first, failures take along what needs them, and nothing outlives its study."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from l2nnn_lightning.experiments.study.schedule import Task, run_tasks


def task(folder: Path, name: str, code: str, *needs: str) -> Task:
    command = [sys.executable, "-c", code]
    return Task(
        name,
        lambda: command,
        folder / f"{name}.log",
        lambda _: (folder / f"{name}.finished").touch(),
        needs=frozenset(needs),
    )


def test_tasks_wait_for_what_they_need(tmp_path: Path) -> None:
    lines: list[str] = []
    first = tmp_path / "a.finished"
    tasks = [
        task(tmp_path, "a", "import os; print('threads', os.environ['OMP_NUM_THREADS'])"),
        task(tmp_path, "b", f"import pathlib; assert pathlib.Path({str(first)!r}).exists()", "a"),
        task(tmp_path, "c", "", "met long ago"),
    ]
    assert run_tasks(tasks, 2, lines.append) == []
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
    assert run_tasks(tasks, 1, lines.append) == ["bad", "after", "later"]
    assert not (tmp_path / "bad.finished").exists()
    assert (tmp_path / "good.finished").exists()
    assert f"failed bad with exit code 3: see {tmp_path / 'bad.log'}" in lines
    assert "skipped after: bad failed" in lines
    assert (tmp_path / "bad.log").read_text() == "why\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_what_runs_and_starts_nothing_more(tmp_path: Path, number: signal.Signals) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    tasks = [task(tmp_path, name, code) for name in "abc"]
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    before = signal.getsignal(signal.SIGTERM)

    def interrupt() -> None:
        while not all(log.is_file() and log.read_text().endswith("\n") for log in logs):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, 2, lambda _: None)
    for log in logs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(log.read_text()), 0)
    assert not (tmp_path / "c.log").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot ask for it")
def test_what_runs_ends_with_a_study_that_is_killed(tmp_path: Path) -> None:
    """Its orphans would go on in folders that the study, started again, trains in."""
    code = f"""
import sys
from pathlib import Path
from l2nnn_lightning.experiments.study.schedule import Task, run_tasks
child = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
run_tasks([Task("a", lambda: child, Path({str(tmp_path / "a.log")!r}), lambda _: None)], 1, lambda _: None)
"""
    study = subprocess.Popen([sys.executable, "-c", code])
    log = tmp_path / "a.log"
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert study.poll() is None
        time.sleep(0.01)
    study.kill()
    study.wait()
    child = int(log.read_text())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        # Ended, it waits for whoever takes in orphans to ask how.
        if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        time.sleep(0.01)
    pytest.fail("the task outlived its study")
