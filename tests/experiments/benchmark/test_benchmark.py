"""The benchmark: timings in turns, its parts, and what it writes."""

import itertools
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import benchmark

from l2nnn_lightning.experiments.benchmark.memory import peak_resident
from l2nnn_lightning.experiments.benchmark.timing import compare

CPU = torch.device("cpu")


def measured(folder: Path, *args: str) -> dict[str, Any]:
    output = folder / "benchmark.json"
    assert benchmark([*args, "--repeats", "3", "--output", str(output)]) == 0
    results: dict[str, Any] = json.loads(output.read_text())
    return results


def test_tasks_take_turns_and_are_warmed_up() -> None:
    calls: list[str] = []
    compare("step", "net", "a / b", lambda: calls.append("a"), lambda: calls.append("b"), repeats=3, device=CPU)
    assert calls == ["a", "a", "b", "b"] + ["a", "b"] * 3


def test_a_comparison_holds_medians_of_neighbouring_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = itertools.cycle([1.0, 1.0, 2.0, 4.0, 30.0, 10.0])  # ours and the other in turns
    monkeypatch.setattr("l2nnn_lightning.experiments.benchmark.timing.seconds_of", lambda *_: next(runs))
    row = compare("step", "net", "a / b", list, list, repeats=3, device=CPU)
    assert (row.ours, row.other, row.ratio, row.unit) == (2.0, 4.0, 1.0, "s")
    assert row.quartiles == (0.75, 2.0)
    fed = compare("data", "x", "a / b", list, list, repeats=3, device=CPU, images=60)
    assert (fed.ours, fed.other, fed.ratio, fed.unit) == (30.0, 15.0, 1.0, "images/s")


def test_step_and_inference_of_every_bound_asked_for(tmp_path: Path) -> None:
    args = ["step", "inference", "--networks", "mlp", "--bounds", "gram,operator_columns", "--image_shape", "1,8,8"]
    results = measured(tmp_path, *args, "--batch_size", "8")
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


def test_optimizers_are_measured_over_as_many_steps_as_an_update_takes(tmp_path: Path) -> None:
    rows = measured(tmp_path, "optimizers", "--batch_size", "2")["rows"]
    assert [row["subject"] for row in rows[::2]] == ["mnist_quick", "784, stacks of 64, 64, 64", "mnist_small"]
    assert [row["what"].split()[-3] for row in rows] == ["1", "2"] * 3
    for row in rows:
        assert row["quartiles"][0] <= row["ratio"] <= row["quartiles"][1]


def test_the_data_path_is_measured_against_the_data_loader(tmp_path: Path) -> None:
    rows = measured(tmp_path, "data", "--epoch_size", "60", "--batch_size", "16")["rows"]
    assert [row["subject"].split()[-1] for row in rows] == ["none", "shift", "none", "flip_crop"]
    assert all(row["ratio"] > 0 and row["unit"] == "images/s" for row in rows)


def test_the_libraries_are_measured_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("orthogonium")
    rows = measured(tmp_path, "libraries", "--batch_size", "2")["rows"]
    assert [row["subject"] for row in rows] == ["ours, gram", "deel-torchlip", "orthogonium"]


def test_peak_memory_is_what_the_system_counts() -> None:
    statm = Path("/proc/self/statm")
    now = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else 0
    # The system counts in batches; getrusage may include a parent's peak from before this process was started.
    assert 0.9 * now <= peak_resident() <= 1.1 * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
