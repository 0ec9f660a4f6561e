"""What a run may be resumed with: longer or elsewhere, but not as another training; and nothing of it is lost."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_up_images import write_config
from run_files import ELSEWHERE, assert_same_state, copy, rows, snapshot
from terminal import Terminal

from l2nnn_lightning.__main__ import train
from l2nnn_lightning.training.resuming import settings_changed

pytestmark = ELSEWHERE


def test_best_checkpoint_goes_on_like_an_uninterrupted_run(finished: Path, tmp_path: Path) -> None:
    """It ended in a KeyError, or in an epoch without any batch."""
    copy(finished, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    epoch = int(torch.load(best, weights_only=True)["epoch"])
    assert epoch in (2, 3)
    assert train(["--ckpt_path", str(best)]) == 0
    assert_same_state(tmp_path / "run", finished)
    assert rows(tmp_path / "run") == rows(finished)


def test_checkpoint_of_half_an_epochs_end_is_refused(finished: Path, tmp_path: Path, terminal: Terminal) -> None:
    last = copy(finished, tmp_path / "run")
    old: dict[str, Any] = torch.load(last, weights_only=True)
    old["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] -= 1
    torch.save(old, last.with_name("best.ckpt"))
    line = terminal.error_line(train, "--ckpt_path", str(last.with_name("best.ckpt")))
    assert line.endswith("best.ckpt was written before the end of its epoch: resume from last.ckpt\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--data.label_noise", "0.5"],
            "data.label_noise was 0.0 in the run RUN, now it is 0.5: leave it as it was, or",
        ),
        (["--data.batch_size=20"], "data.batch_size was 10 in the run RUN, now it is 20: leave it as it was, or train"),
        (["--data.channels=3"], "data.channels was 1 in the run RUN, now it is 3: leave it as it was, or train on"),
        (["--data", "MNIST5kDataModule"], "data was l2nnn_lightning.data.ImageFolderDataModule in the run RUN, now it"),
        (["--data.attack", "{eps: 0.2}"], "data.attack.eps was not set in the run RUN, now it is 0.2: leave it as"),
        (
            ["--model.penalty_weight=1"],
            "model.penalty_weight was 0.1 in the run RUN, now it is 1.0: leave it as it was,",
        ),
        (["--model.objective.omega=0.5"], "(and "),
        (
            ["--model.network.dense=[7]"],
            "model.network.dense was [6] in the run RUN, now it is [7]: leave it as it was,",
        ),
        (
            ["--model.optimizer.lr=0.1"],
            "and a resumed optimizer goes on as its checkpoint holds it: leave it as it was\n",
        ),
        (["--seed_everything=1"], "seed_everything was 0 in the run RUN, now it is 1: leave it as it was, or train on"),
        (
            ["--trainer.callbacks.switch_epoch=3"],
            "trainer.callbacks.HardScalingSwitch.switch_epoch was 2 in the run RUN",
        ),
        (["--trainer.gradient_clip_val=1"], "trainer.gradient_clip_val was not set in the run RUN, now it is 1: leave"),
    ],
)
def test_another_training_is_refused_in_one_line_and_the_run_left_as_it_was(
    finished: Path, tmp_path: Path, terminal: Terminal, args: list[str], message: str
) -> None:
    """Its config.yaml was rewritten, and the other data taken, without a word."""
    run = str(finished.resolve())
    before = snapshot(finished)
    last = str(finished / "checkpoints" / "last.ckpt")
    assert message.replace("RUN", run) in terminal.error_line(train, "--ckpt_path", last, *args)
    assert snapshot(finished) == before
    assert not any(tmp_path.iterdir())


def test_longer_training_keeps_what_the_config_was(finished: Path, tmp_path: Path) -> None:
    last = copy(finished, tmp_path / "run")
    first = (tmp_path / "run" / "config.yaml").read_bytes()
    assert train(["--ckpt_path", str(last)]) == 0  # nothing is left to do
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("config*")} == {"config.yaml": first}
    free = [
        "--trainer.max_epochs=5",
        "--trainer.log_every_n_steps=7",
        "--data.eval_batch_size=5",
        "--model.radii=[0.25]",
    ]
    assert train(["--ckpt_path", str(last), *free]) == 0
    assert (tmp_path / "run" / "config_1.yaml").read_bytes() == first
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["trainer"]["max_epochs"] == 5
    assert train(["--ckpt_path", str(last), "--trainer.max_epochs=6"]) == 0
    assert {path.name for path in (tmp_path / "run").glob("config*")} == {
        "config.yaml",
        "config_1.yaml",
        "config_2.yaml",
    }


def test_other_settings_train_on_in_a_folder_of_their_own(finished: Path, tmp_path: Path, terminal: Terminal) -> None:
    before = snapshot(finished)
    args = ["--ckpt_path", str(finished / "checkpoints" / "last.ckpt"), "--run_dir", "other", "--trainer.max_epochs=5"]
    assert "model.optimizer.lr was 0.01" in terminal.error_line(train, *args, "--model.optimizer.lr=0.1")
    assert not Path("other").exists()
    assert train([*args, "--data.label_noise=0.5"]) == 0
    assert yaml.safe_load(Path("other/config.yaml").read_text())["data"]["init_args"]["label_noise"] == 0.5
    assert torch.load("other/checkpoints/last.ckpt", weights_only=True)["global_step"] == 20
    assert snapshot(finished) == before


def test_moved_images_are_taken_if_they_have_the_labels(
    finished: Path, images: Path, tmp_path: Path, terminal: Terminal
) -> None:
    last = copy(finished, tmp_path / "run")
    shutil.copytree(images, "moved")
    assert train(["--ckpt_path", str(last), "--data.root=moved", "--trainer.max_epochs=5"]) == 0
    Path("moved/left").rename("moved/up")
    line = terminal.error_line(train, "--ckpt_path", str(last), "--data.root=moved")
    assert f"the labels differ: only the data set has up; only {last} has left: resume with the data of its" in line


def test_config_given_again_is_no_change(finished: Path, images: Path, tmp_path: Path) -> None:
    last = copy(finished, tmp_path / "run")
    assert train(["--config", write_config(tmp_path / "a.yaml", images), "--ckpt_path", str(last)]) == 0


def test_batch_per_process_may_change_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def config(batch_size: int, devices: Any) -> dict[str, Any]:
        return {"data": {"init_args": {"batch_size": batch_size}}, "trainer": {"devices": devices, "callbacks": None}}

    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert settings_changed(config(256, "auto"), config(64, 4)) == {}
    assert settings_changed(config(256, "auto"), config(64, "auto")) == {"data.batch_size": (256, 64)}
    monkeypatch.setenv("WORLD_SIZE", "4")  # torchrun
    assert settings_changed(config(256, "auto"), config(64, "auto")) == {}
