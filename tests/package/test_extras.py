"""What an extra brings is asked for in one line where it is missing, before anything is written."""

import sys
from pathlib import Path

import pytest
from made_up_images import write_config
from terminal import Terminal

from l2nnn_lightning.__main__ import evaluate, main, train

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_without_wandb_its_commands_say_how_to_get_it(
    images: Path, finished: Path, tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wandb", "wandb_workspaces"):
        monkeypatch.setitem(sys.modules, name, None)
    config = write_config(tmp_path / "a.yaml", images)
    said = "wandb is not installed: pip install wandb, or 'l2nnn-lightning[wandb]'"
    assert said in terminal.error_line(train, "--config", config, "--config", "logger/wandb", "--run_dir", "run")
    assert said in terminal.error_line(evaluate, "--ckpt_path", str(finished / "checkpoints/last.ckpt"), "--wandb")
    assert "wandb_workspaces is not installed" in terminal.error_line(main, "dashboard", "--json", "a.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml"]


def test_tensorboard_logs_into_the_run_folder(images: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = ["--config", write_config(tmp_path / "a.yaml", images), "--config", "logger/tensorboard"]
    assert train([*options, "--run_dir", "run"]) == 0
    events = accumulator.EventAccumulator("run/tensorboard").Reload()
    assert {"train/loss", "val/accuracy", "val/radius_mean"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("val/accuracy")) == 4
