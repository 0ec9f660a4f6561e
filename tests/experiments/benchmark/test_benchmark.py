"""The benchmark: timings in turns, its parts, what it writes and what it refuses."""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from terminal import Terminal

from l2nnn_lightning.experiments.benchmark import PARTS, Row, compare, main, time_together
from l2nnn_lightning.experiments.benchmark import memory as memory_part

CPU = torch.device("cpu")


def test_tasks_take_turns_and_are_warmed_up() -> None:
    calls: list[str] = []
    tasks: dict[str, Callable[[], object]] = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = time_together(tasks, 3, CPU)
    assert calls == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert [len(runs) for runs in seconds.values()] == [3, 3]


def test_a_comparison_holds_medians_of_neighbouring_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"ours": [1.0, 2.0, 30.0], "other": [1.0, 4.0, 10.0]}
    monkeypatch.setattr("l2nnn_lightning.experiments.benchmark.timing.time_together", lambda *_: runs)
    row = compare("step", "net", "a / b", lambda: None, lambda: None, repeats=3, device=CPU)
    assert (row.ours, row.other, row.ratio, row.unit) == (2.0, 4.0, 1.0, "s")
    assert row.quartiles == (0.75, 2.0)
    fed = compare("data", "x", "a / b", lambda: None, lambda: None, repeats=3, device=CPU, images=60)
    assert (fed.ours, fed.other, fed.ratio, fed.unit) == (30.0, 15.0, 1.0, "images/s")


def test_step_and_inference_of_every_bound_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "benchmark.json"
    args = ["step", "inference", "--networks", "mlp", "--bounds", "gram,operator_columns", "--image_shape", "1,8,8"]
    assert main([*args, "--batch_size", "8", "--repeats", "3", "--output", str(output)]) == 0
    results = json.loads(output.read_text())
    assert {"hardware", "threads", "versions", "batch_size", "repeats"} <= results.keys()
    assert [(row["part"], row["subject"]) for row in results["rows"]] == [
        ("step", "mlp, gram"),
        ("step", "mlp, operator_columns"),
        ("inference", "mlp, gram"),
        ("inference", "mlp, operator_columns"),
    ]
    for row in results["rows"]:
        assert row["ratio"] > 0
        assert row["quartiles"][0] <= row["ratio"] <= row["quartiles"][1]


def test_the_data_path_outruns_the_data_loader(tmp_path: Path) -> None:
    output = tmp_path / "benchmark.json"
    args = ["data", "--epoch_size", "600", "--batch_size", "128", "--repeats", "2", "--output", str(output)]
    assert main(args) == 0
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == 4
    # Far below what is asked of a quiet machine, far above what a bug that decodes image by image would reach.
    assert all(row["ratio"] > 2 and row["unit"] == "images/s" for row in rows)


def test_the_libraries_are_measured_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("orthogonium")
    output = tmp_path / "benchmark.json"
    assert main(["libraries", "--batch_size", "2", "--repeats", "2", "--output", str(output)]) == 0
    subjects = [row["subject"] for row in json.loads(output.read_text())["rows"]]
    assert subjects == ["ours, gram", "deel-torchlip", "orthogonium"]


def test_peak_memory_is_what_the_system_counts() -> None:
    counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # getrusage may include a parent's peak from before this process was started, never less.
    assert 0.2 * counted < memory_part._peak_resident() < 1.1 * counted


def test_every_part_keeps_the_interface() -> None:
    assert {"step", "inference", "data", "libraries", "memory", "evaluation", "attacks"} <= PARTS.keys()
    assert all(callable(part.add_arguments) and callable(part.run) for part in PARTS.values())
    assert Row("p", "s", "w", 1.0, None, "MiB").ratio is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--networks", "none"], "unknown network 'none'"),
        (["frob"], "unknown part 'frob'"),
        (["step", "--repeats", "1"], "--repeats must be at least 2"),
        (["step", "--threads", "0"], "--threads must be at least 1"),
        (["step", "--networks", "mlp", "--bounds", "frob"], "bound must be one of"),
        (["step", "--image_shape", "3,32"], "--image_shape must be channels,height,width"),
        (["step", "--device", "warp"], "--device warp is not available here"),
        (["data", "--epoch_size", "1"], "--epoch_size must be at least --batch_size"),
        (["memory", "--memory_images", "0"], "--memory_images must be at least 1"),
        (["evaluation", "--processes", "1"], "--processes at least 2"),
        (["step", "--batch_size", "many"], "--help"),
    ],
)
def test_bad_input_is_one_line(args: list[str], message: str, terminal: Terminal) -> None:
    assert message in terminal.error_line(main, *args)
