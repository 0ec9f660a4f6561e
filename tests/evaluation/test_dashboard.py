"""The saved W&B workspace, as wandb-workspaces would send it."""

import json
from pathlib import Path
from typing import Any

import pytest
from l2nnn_lightning.training.command_line import main
from terminal import Terminal

from l2nnn_lightning.evaluation.tracking.workspace import run_dashboard

# wandb-workspaces writes its models in the manner of an older pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def run(*args: str) -> int:
    return main(run_dashboard, args)


def test_gap_is_shown_against_accuracy_across_runs(tmp_path: Path) -> None:
    assert run("--project", "mine", "--entity", "us", "--json", str(tmp_path / "deep" / "a.json")) == 0
    described: dict[str, Any] = json.loads((tmp_path / "deep" / "a.json").read_text())
    assert (described["project"], described["entity"]) == ("mine", "us")
    assert described["displayName"] == "Gap against accuracy"
    sections = {s["name"]: s["panels"] for s in described["spec"]["section"]["panelBankConfig"]["sections"]}
    across = [panel["config"] for panel in sections["Gap against accuracy"] if panel["viewType"] == "Scatter Plot"]
    axes = {(config["xAxis"], config["yAxis"]) for config in across}
    for stage in ("train", "val", "evaluation"):
        assert (f"summary:{stage}/accuracy", f"summary:{stage}/gap_mean") in axes
    assert {config["zAxis"].removesuffix(".value") for config in across if "zAxis" in config} == {
        "config:omega",
        "config:v",
        "config:penalty_weight",
    }
    plotted = {metric for panel in sections["Training"] for metric in panel["config"].get("metrics", [])}
    assert {"val/accuracy", "val/gap_mean", "val/radius_mean", "train/penalty", "val/hard"} <= plotted


def test_without_an_account_nothing_is_sent_and_one_line_says_so(terminal: Terminal) -> None:
    assert "no W&B account is set up here: run wandb login first" in terminal.error_line(run_main)


def run_main(args: list[str]) -> int:
    return run(*args)


def test_bad_argument_is_refused_in_one_line(terminal: Terminal) -> None:
    assert "unknown argument --bogus" in terminal.error_line(run_main, "--bogus", "1")
