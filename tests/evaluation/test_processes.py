"""Several processes share an evaluation, and the outcome is that of one."""

import csv
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from meeting_place import reserved_port

import l2nnn_lightning.__main__ as cli
from l2nnn_lightning.evaluation.measure.processes import Team, sharing_team

PROGRAM = Path(__file__).parents[2] / "evaluate.py"
OPTIONS = ["--limit", "10", "--batch_size", "3", "--attacks", "cw,pgd_l2", "--eps", "1.4", "--max_iter", "2,20"]
OPTIONS += ["--restarts", "2", "--jacobian", "7", "--device", "cpu"]


@pytest.mark.parametrize(("total", "batch_size", "size"), [(10, 3, 2), (7, 7, 3), (100, 8, 4), (5, 1, 8)])
def test_every_image_belongs_to_one_process_and_batches_stay_whole(total: int, batch_size: int, size: int) -> None:
    shares = [Team(rank, size).rows(total, batch_size).tolist() for rank in range(size)]
    assert sorted(row for share in shares for row in share) == list(range(total))
    whole = {tuple(range(start, min(start + batch_size, total))) for start in range(0, total, batch_size)}
    batches = {tuple(share[i : i + batch_size]) for share in shares for i in range(0, len(share), batch_size)}
    assert batches == whole
    counts = [len(share) for share in shares]
    assert max(counts) - min(counts) <= batch_size


def test_a_process_alone_needs_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with sharing_team() as team:
        assert team == Team(0, 1)
        assert team.gather(lambda: "all") == ["all"]


def run(checkpoint: str, output: str, *options: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    assert cli.evaluate(["--ckpt_path", checkpoint, "--output", output, *OPTIONS, *options]) == 0
    return read(Path(output))


def read(folder: Path) -> tuple[list[dict[str, str]], dict[str, Any]]:
    results = json.loads((folder / "results.json").read_text())
    for key in ("seconds", "command"):
        del results[key]
    with (folder / "records.csv").open(newline="") as file:
        return list(csv.DictReader(file)), results


def launched(rank: int, port: str, folder: str, args: list[str]) -> None:
    """What torchrun starts."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.chdir(folder)
    code = cli.evaluate(args)
    # Not the parent's exit handlers, which belong to its tests.
    os._exit(code)


def launch(folder: Path, args: list[str]) -> list[int | None]:
    # Forked, because a spawned process would import everything again.
    context = multiprocessing.get_context("fork")
    with reserved_port() as port, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking while torch's idle threads are there
        members = [context.Process(target=launched, args=(rank, port, str(folder), args)) for rank in (0, 1)]
        for member in members:
            member.start()
        for member in members:
            member.join(60)
    return [member.exitcode for member in members]


def program(args: list[str]) -> "subprocess.CompletedProcess[str]":
    # With torch's own number of threads, which these tests have set to one.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run([sys.executable, PROGRAM, *args], capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_processes_count_every_sample_once_and_find_what_one_finds(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "run")
    checkpoint = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    records, results = run(checkpoint, "alone")
    assert [int(row["index"]) for row in records] == list(range(10))
    assert [(a["name"], a["max_iter"], a["restarts"]) for a in results["attacks"]] == [
        ("cw", 2, 2),
        ("cw", 20, 2),
        ("pgd_l2", 2, 2),
        ("pgd_l2", 20, 2),
    ]
    assert 0 < results["attacks"][3]["accuracy"] < 1
    assert results["jacobian"]["n"] == 7
    capfd.readouterr()

    # As torchrun starts them.
    assert launch(tmp_path, ["--ckpt_path", checkpoint, "--output", "launched", *OPTIONS]) == [0, 0]
    assert read(Path("launched")) == (records, results)
    assert capfd.readouterr().out.count("launched/report.md") == 1

    # As --processes starts them: spawned by a program that uses this package, forked by evaluate.py.
    assert run(checkpoint, "spawned", "--processes", "2") == (records, results)
    assert not torch.distributed.is_initialized()
    args = ["--ckpt_path", checkpoint, "--output", "forked", *OPTIONS, "--processes", "2"]
    done = program(args)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("forked/report.md") == 1
    assert read(Path("forked")) == (records, results)

    # An error in any process ends them all and is said once, by the first.
    state = torch.load(checkpoint, weights_only=True)
    for key, value in state["state_dict"].items():
        if key.endswith("bias"):
            value.fill_(torch.inf)
    torch.save(state, "broken.ckpt")
    args = ["--ckpt_path", "broken.ckpt", "--output", "none", *OPTIONS]
    assert launch(tmp_path, args) == [2, 0]
    _, err = capfd.readouterr()
    assert err.count("error: ") == 1
    done = program([*args, "--processes", "2"])
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert done.stderr.count("\n") == 1
    assert not Path("none").exists()


def test_torchrun_and_processes_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "--processes starts processes of its own: leave it out under torchrun"
    with pytest.raises(ValueError, match=message), sharing_team(2, print):
        pass
