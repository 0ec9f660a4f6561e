"""The saved W&B workspace, as wandb-workspaces would send it."""

import json
from pathlib import Path
from typing import Any

import pytest

from l2nnn_lightning.__main__ import main

# wandb-workspaces writes its models in the manner of an older pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_gap_is_shown_against_accuracy_across_runs(tmp_path: Path) -> None:
    assert main(["dashboard", "--project", "mine", "--entity", "us", "--json", str(tmp_path / "deep" / "a.json")]) == 0
    described: dict[str, Any] = json.loads((tmp_path / "deep" / "a.json").read_text())
    assert (described["project"], described["entity"]) == ("mine", "us")
    assert described["displayName"] == "Gap against accuracy"
    sections = {s["name"]: s["panels"] for s in described["spec"]["section"]["panelBankConfig"]["sections"]}
    across = [panel["config"] for panel in sections["Gap against accuracy"] if panel["viewType"] == "Scatter Plot"]
    axes = {(config["xAxis"], config["yAxis"]) for config in across}
    for stage in ("train", "val", "evaluation"):
        assert (f"summary:{stage}/accuracy", f"summary:{stage}/gap_mean") in axes
    assert {config["zAxis"] for config in across if "zAxis" in config} == {
        "config:objective.value.init_args.omega",
        "config:objective.value.init_args.v",
        "config:penalty_weight.value",
    }
    plotted = {metric for panel in sections["Training"] for metric in panel["config"].get("metrics", [])}
    assert {"val/accuracy", "val/gap_mean", "val/radius_mean", "train/penalty", "val/hard"} <= plotted
