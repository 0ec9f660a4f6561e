"""A network with its own rule and bound, a schedule and a data set from outside, by class_path; the examples of
``docs/extending.md``, which ``test_pages_true.py`` runs, are the rest.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from l2nnn_lightning.__main__ import train
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.models import Network
from l2nnn_lightning.training.checkpoints import Checkpoint
from l2nnn_lightning.training.factories import build

# Lightning 2.6 calls jsonargparse by names that it has deprecated since.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

#: What a user writes, and nothing else: no file of the package is touched.
PLUGINS = '''
import torch
from torch import nn

from l2nnn_lightning.data import ImageDataModule, TrainingAttack
from l2nnn_lightning.models import Network
from l2nnn_lightning.nn import nonexpansive
from l2nnn_lightning.nn.certificates import GapRule, NothingProved


class OneLayer(Network):
    """The simplest network that proves something: one nonexpansive layer, Lemma 1."""

    can_prove = True

    def __init__(self, image_shape, num_labels, scale: float = 1.0, bound: str = "gram"):
        super().__init__()
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        self.layer, self.scale = nonexpansive(nn.Linear(pixels, num_labels), bound), scale

    def forward(self, image):
        return self.scale * self.layer(image.flatten(1))

    def rule(self, *, quick=False):
        return GapRule(2**0.5 * self.scale) if self.is_hard else NothingProved()


def trace(weight, layout):
    """``|W|_2^2 <= |W|_F^2``."""
    return layout.matrices(weight).square().sum((1, 2), keepdim=True)


class Halving(torch.optim.lr_scheduler.LRScheduler):
    def __init__(self, optimizer, every: int = 5):
        self.every = every
        super().__init__(optimizer)

    def get_lr(self):
        return [base * 0.5 ** (self.last_epoch // self.every) for base in self.base_lrs]


class Squares(ImageDataModule):
    """A bright square in one of two corners."""

    name = "Squares"
    default_attack = TrainingAttack(eps=0.1, steps=2, step_size=0.05)

    def __init__(self, brightness: int = 200, **options):
        super().__init__(**options)
        self.brightness = brightness

    @property
    def image_shape(self):
        return (1, 6, 6)

    @property
    def label_names(self):
        return ["top", "bottom"]

    def load_images(self, train):
        labels = torch.arange(40 if train else 10) % 2
        images = torch.randint(0, 30, (len(labels), 1, 6, 6), dtype=torch.uint8)
        for image, label in zip(images, labels):
            image[:, 3 * label : 3 * label + 3, :3] += self.brightness
        return images, labels
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module, the current one and on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("L2NNN_TRUST", raising=False)
    (tmp_path / "made_up_plugins.py").write_text(PLUGINS)
    yield tmp_path
    sys.modules.pop("made_up_plugins", None)


def part(name: str, **options: object) -> dict[str, object]:
    return {"class_path": f"made_up_plugins.{name}", "init_args": options}


def test_one_config_trains_with_parts_from_outside(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {
        "network": part("OneLayer", scale=3.0, bound="made_up_plugins.trace"),
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.02}},
        "scheduler": part("Halving", every=10),
    }
    values = {
        "model": {"class_path": "l2nnn_lightning.L2NNNClassifier", "init_args": model},
        "data": part("Squares", brightness=180, batch_size=10, val_size=10),
        "trainer": {
            "max_epochs": 8,
            "accelerator": "cpu",
            "callbacks": [{"class_path": "HardScalingSwitch", "init_args": {"switch_epoch": 3}}],
        },
    }
    Path("mine.yaml").write_text(yaml.safe_dump(values))
    assert train(["--config", "mine.yaml", "--model.network.scale", "2", "--run_dir", "run"]) == 0
    last = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert {name: last["hyper_parameters"][name] for name in ("network", "scheduler")} == {
        "network": part("OneLayer", scale=2.0, bound="made_up_plugins.trace"),
        "scheduler": model["scheduler"],
    }
    assert last["l2nnn_lightning"]["data"]["name"] == "made_up_plugins.Squares"
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == 0.02 * 0.5 ** (24 // 10)

    best = Checkpoint.read("run/checkpoints/best.ckpt")
    classifier = best.classifier()  # what was imported is trusted
    assert best.datamodule().hparams["brightness"] == 180
    assert best.label_names() == ["top", "bottom"]
    labels = torch.arange(20) % 2
    images = torch.zeros(20, 1, 6, 6)
    for image, label in zip(images, labels, strict=True):
        image[:, 3 * label : 3 * label + 3, :3] = 0.8
    certificate = classifier.certify(images)
    assert torch.equal(certificate.label, labels)
    assert float(certificate.radius.min()) > 0.1
    assert float(certificate.gap[0] / certificate.radius[0]) == pytest.approx(2**1.5, rel=1e-3)

    # In another process, which has not imported it, its module must be trusted.
    del sys.modules["made_up_plugins"]
    for untrusted in (best.classifier, best.datamodule):
        with pytest.raises(UserError, match="to trust that, set L2NNN_TRUST=made_up_plugins"):
            untrusted()
    assert "made_up_plugins" not in sys.modules  # nothing of it was run
    monkeypatch.setenv("L2NNN_TRUST", "other_package,made_up_plugins")
    assert torch.equal(best.classifier().certify(images).radius, certificate.radius)
    assert train(["--ckpt_path", "run/checkpoints/last.ckpt", "--trainer.max_epochs", "9"]) == 0


def test_a_bound_that_a_checkpoint_names_is_not_imported_unless_trusted() -> None:
    options = {"bound": "antigravity.fly"}
    with pytest.raises(ValueError, match="to trust that, set L2NNN_TRUST=antigravity"):
        build({"class_path": "l2nnn_lightning.models.ConvL2NNN", "init_args": options}, Network)
    assert "antigravity" not in sys.modules
