import json

import pytest
import torch

from l2nnn_lightning.benchmark import main, time_together


def test_tasks_take_turns_and_are_warmed_up():
    calls: list[str] = []
    tasks = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = time_together(tasks, 3, torch.device("cpu"))
    assert calls == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert [len(runs) for runs in seconds.values()] == [3, 3]


def test_the_benchmark_writes_ratios(tmp_path):
    output = tmp_path / "benchmark.json"
    assert main(["--networks", "mlp", "--batch_size", "8", "--repeats", "3", "--output", str(output)]) == 0
    results = json.loads(output.read_text())
    assert {row["what"] for row in results["rows"]} == {"training step, hard / plain", "inference, folded / plain"}
    for row in results["rows"]:
        assert row["ratio"] > 0
        assert row["ratio_quartiles"][0] <= row["ratio"] <= row["ratio_quartiles"][1]


def test_an_unknown_network_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--networks", "none"])
    assert stop.value.code == 2
    assert "unknown network 'none'" in capsys.readouterr().err
