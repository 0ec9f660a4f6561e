"""Radii without brackets, fractions and short names of data sets on the command line of train.py."""

from pathlib import Path

import pytest
import torch
import yaml
from made_up_images import write_config
from run_files import ELSEWHERE

from l2nnn_lightning.__main__ import train
from l2nnn_lightning.data import MNIST5kDataModule, TrainingAttack
from l2nnn_lightning.training.arguments import with_plain_values

pytestmark = ELSEWHERE


def test_a_run_takes_them(images: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.yaml", images)
    data = ["--data", "ImageFolder", "--data.root", str(images), "--data.channels=1", "--data.val_size=8"]
    attack = ["--data.attack.eps", "8/255", "--data.attack.step_size=2/255", "--data.batch_size=10"]
    args = [*data, *attack, "--model.radii", "0.5,36/144", "--trainer.max_epochs=1", "--run_dir=run"]
    assert train(["--config", config, *args]) == 0
    written = yaml.safe_load(Path("run/config.yaml").read_text())
    assert written["model"]["init_args"]["radii"] == [0.5, 0.25]
    last = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert last["l2nnn_lightning"]["data"]["init_args"]["attack"] == {"eps": "8/255", "step_size": "2/255"}
    assert last["l2nnn_lightning"]["data"]["name"] == "ImageFolder"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (["--model.radii=0.5,1"], ["--model.radii=[0.5, 1.0]"]),
        (["--model.radii", "[1/2]"], ["--model.radii", "[0.5]"]),
        (["--model.radii", "a"], ["--model.radii", "a"]),
        (["--model.radii", "1/0"], ["--model.radii", "1/0"]),
        (["--data=MNIST"], ["--data=MNISTDataModule"]),
        (["--data.help", "MNIST"], ["--data.help", "MNISTDataModule"]),
        (["--data", "my.Data", "--config", "MNIST"], ["--data", "my.Data", "--config", "MNIST"]),
    ],
)
def test_what_is_short_is_written_out(given: list[str], plain: list[str]) -> None:
    assert with_plain_values(given, {"MNIST": "MNISTDataModule"}) == plain


def test_fractions_of_the_training_attack() -> None:
    assert MNIST5kDataModule(attack={"eps": "8/255"}).attack == TrainingAttack(eps=8 / 255, steps=40, step_size=0.01)
    for wrong in ("8/0", "8/x", "wide", "300/255"):
        with pytest.raises(ValueError, match=r"attack.eps must be in \(0, 1\], got "):
            MNIST5kDataModule(attack={"eps": wrong})
