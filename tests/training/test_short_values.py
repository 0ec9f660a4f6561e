"""Radii without brackets, fractions and short names of data sets on the command line of train.py."""

from pathlib import Path

import pytest
import torch
import yaml
from made_up_images import write_config
from run_files import ELSEWHERE
from terminal import Terminal

from l2nnn_lightning.__main__ import train
from l2nnn_lightning.data import MNIST5kDataModule, TrainingAttack
from l2nnn_lightning.training.arguments import configs_first, with_plain_values
from l2nnn_lightning.training.configs import config_folder

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


def test_configs_come_first_by_their_files_wherever_they_stand(tmp_path: Path) -> None:
    """What stood before ``--config`` belonged to no class yet, and was refused."""
    own = tmp_path / "a.yaml"
    own.write_text("", encoding="utf-8")
    given = ["--data.root", "x", "-c", str(own), "--config=mnist_quick", "--config", "configs/overlays/tight.yaml"]
    first, second, third, *others = configs_first(given)
    assert first == f"--config={own}"
    assert second == f"--config={config_folder() / 'mnist_quick.yaml'}"
    assert third == f"--config={config_folder() / 'overlays' / 'tight.yaml'}"
    assert others == ["--data.root", "x"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("mnist_quik", "did you mean mnist_quick?"), ("nothing", "there are cifar10, "), ("../setup", "there are ")],
)
def test_a_config_that_is_not_there_is_told_at_once(terminal: Terminal, given: str, meant: str) -> None:
    assert f"there is no config {given}: {meant}" in terminal.error_line(train, "--config", given)
