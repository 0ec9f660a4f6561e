"""Classifiers that come with the package: found by name, refused when damaged, small enough for a repository."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from made_up_images import SHAPE
from made_up_training import make_classifier
from terminal import Terminal

import l2nnn_lightning
from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.__main__ import main
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training import checkpoints
from l2nnn_lightning.training.checkpoints import Checkpoint, load_pretrained, pretrained_names, pretrained_path


@pytest.fixture
def shelf(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with one pretrained classifier, ``stripes``."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    file = folder / "stripes.safetensors"
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    assert main(["export", "--ckpt_path", checkpoint, "--format", "safetensors", "--output", str(file)]) == 0
    monkeypatch.setattr(checkpoints, "PRETRAINED", folder)
    return folder


def test_a_name_is_enough(shelf: Path, finished: Path) -> None:
    assert pretrained_names() == ["stripes"]
    assert pretrained_path("other") is None
    image = torch.rand(4, *SHAPE)
    expected = Checkpoint.read(finished / "checkpoints" / "best.ckpt").classifier().certify(image)
    for classifier in (l2nnn_lightning.load_pretrained("stripes"), Checkpoint.read("stripes").classifier()):
        assert isinstance(classifier, L2NNNClassifier)
        assert not classifier.training
        assert torch.equal(classifier.certify(image).radius, expected.radius)
    with pytest.raises(UserError, match="no pretrained classifier 'other': choose from stripes"):
        load_pretrained("other")
    with pytest.raises(UserError, match="or stripes"):
        Checkpoint.read("other")


def test_a_file_of_that_name_comes_first(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = make_classifier()
    checkpoint = {"state_dict": classifier.state_dict(), "hyper_parameters": dict(classifier.hparams)}
    classifier.on_save_checkpoint(checkpoint)
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint, "stripes")
    assert not Checkpoint.read("stripes").classifier().is_hard


@pytest.mark.parametrize("damage", ["bytes", "card", "no card", "other card"])
def test_damage_is_one_line(shelf: Path, damage: str, terminal: Terminal) -> None:
    file, card = shelf / "stripes.safetensors", shelf / "stripes.safetensors.json"
    if damage == "bytes":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "card":
        card.write_text("{")
    elif damage == "no card":
        card.unlink()
    else:
        card.write_text(json.dumps({"sha256": "0"}))
    line = terminal.error_line(main, "predict", "--ckpt_path", "stripes", str(shelf / "x.png"))
    said = {"bytes": "(sha256)", "card": "damaged", "no card": "there is no card", "other card": "(sha256)"}
    assert said[damage] in line


def test_another_safetensors_file_is_refused(shelf: Path) -> None:
    from safetensors.torch import save_file

    from l2nnn_lightning.training.checkpoints import card_path, sha256

    file = shelf / "other.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    card_path(file).write_text(json.dumps({"sha256": sha256(file)}))
    with pytest.raises(UserError, match="holds no classifier"):
        Checkpoint.read(file)
    shutil.copy(card_path(file), shelf / "gone.safetensors.json")
    with pytest.raises(UserError, match="there is no file"):
        Checkpoint.read(shelf / "gone.safetensors")


@pytest.mark.parametrize("name", pretrained_names())
def test_what_is_shipped_loads_and_proves(name: str) -> None:
    path = pretrained_path(name)
    assert path is not None
    assert path.stat().st_size <= 2_000_000
    classifier = load_pretrained(name)
    assert classifier.is_hard
    certificate = classifier.certify(torch.rand(3, *classifier.image_shape))
    assert bool((certificate.radius <= certificate.gap).all())
