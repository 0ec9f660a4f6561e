"""The names of labels: what a network says of another data set is measured by name, or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import LABELS, StripesDataModule
from terminal import Terminal
from torch import Tensor

from l2nnn_lightning.__main__ import evaluate
from l2nnn_lightning.data import CIFAR10DataModule, FashionMNISTDataModule, MNIST5kDataModule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.label_names import match_labels, recorded_names

DIGITS = [str(digit) for digit in range(10)]


class BackwardsDataModule(StripesDataModule):
    """The same images and names, but numbered from the right."""

    @property
    def label_names(self) -> list[str]:
        return LABELS[::-1]

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = super().load_images(train)
        return images, 2 - labels


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def renamed(images: Path, tmp_path: Path) -> Path:
    """A folder of the same images whose labels have other names, in another order."""
    for old, new in zip(LABELS, ("up", "right", "left"), strict=True):
        shutil.copytree(images / old, tmp_path / "renamed" / new)
    return tmp_path / "renamed"


def accuracy(folder: str) -> float:
    return float(json.loads((Path(folder) / "results.json").read_text())["accuracy"])


def test_training_records_the_names(checkpoint: str) -> None:
    assert torch.load(checkpoint, weights_only=True)["l2nnn_lightning"]["label_names"] == LABELS


def test_other_names_are_refused_unless_they_are_to_be_ignored(
    checkpoint: str, renamed: Path, terminal: Terminal
) -> None:
    args = ["--ckpt_path", checkpoint, "--root", str(renamed), "--output", "out"]
    line = terminal.error_line(evaluate, *args)
    assert f"only ImageFolder has up; only {checkpoint} has middle: evaluate on data with" in line
    assert line.endswith("whatever they are called, with --ignore_label_names true\n")
    assert not Path("out").exists()
    assert evaluate([*args, "--ignore_label_names", "true"]) == 0


def test_the_same_names_in_another_order_are_matched(checkpoint: str, terminal: Terminal) -> None:
    """It was 0 per cent where it should have been 100, and nothing was said."""
    for name in ("made_up_images.StripesDataModule", "test_label_names.BackwardsDataModule"):
        assert evaluate(["--ckpt_path", checkpoint, "--data", name, "--output", name, "--limit", "9"]) == 0
    assert accuracy("test_label_names.BackwardsDataModule") == accuracy("made_up_images.StripesDataModule") > 0.9
    assert terminal.read()[1] == ""


def test_every_split_is_numbered_by_name() -> None:
    plain, backwards = StripesDataModule(val_size=10), BackwardsDataModule(val_size=10)
    backwards.number_labels_as(LABELS)
    for data in (plain, backwards):
        data.setup("fit")
        data.setup("test")
    for split in ("train_set", "val_set", "test_set"):
        assert torch.equal(getattr(backwards, split).labels, getattr(plain, split).labels)
        assert torch.equal(getattr(backwards, split).clean_labels, getattr(plain, split).clean_labels)
    assert backwards.numbered_names == LABELS
    with pytest.raises(ValueError, match="Stripes has the labels right, middle, left, not a, b, c"):
        backwards.number_labels_as(["a", "b", "c"])


def test_checkpoint_of_an_earlier_version_warns_in_one_line_of_another_folder(
    checkpoint: str, images: Path, renamed: Path, terminal: Terminal
) -> None:
    old: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    del old["l2nnn_lightning"]["label_names"]
    torch.save(old, "old.ckpt")
    for root, names in ((images, "left, middle, right"), (renamed, "left, right, up")):
        assert evaluate(["--ckpt_path", "old.ckpt", "--root", str(root), "--output", "out", "--limit", "6"]) == 0
        said = f"old.ckpt does not hold the names of its labels: they are taken to be {names}\n"
        assert terminal.read()[1] == said
    assert evaluate(["--ckpt_path", "old.ckpt", "--output", "out", "--limit", "6"]) == 0  # its own data
    assert terminal.read()[1] == ""


def test_built_in_data_sets_tell_the_names_of_earlier_checkpoints() -> None:
    names = recorded_names({"data": {"name": "MNIST", "init_args": {}}})
    assert names == DIGITS
    match_labels(MNIST5kDataModule(), names, "a.ckpt")
    with pytest.raises(UserError, match=r"differ: only FashionMNIST has T-shirt/top, .* and 5 more; only a.ckpt has 0"):
        match_labels(FashionMNISTDataModule(), names, "a.ckpt")
    assert recorded_names({"data": {"name": "CIFAR10"}, "label_names": None}) == CIFAR10DataModule.label_names
    assert recorded_names({"data": {"name": "ImageFolder", "init_args": {}}}) is None
    assert recorded_names({"data": None}) is None


def test_fallback_with_other_labels_is_refused(checkpoint: str, terminal: Terminal) -> None:
    other: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    other["l2nnn_lightning"]["label_names"] = LABELS[::-1]
    torch.save(other, "other.ckpt")
    line = terminal.error_line(evaluate, "--ckpt_path", checkpoint, "--fallback", "other.ckpt", "--output", "out")
    assert "the labels differ: --ckpt_path has them in another order than --fallback: use checkpoints of one" in line
