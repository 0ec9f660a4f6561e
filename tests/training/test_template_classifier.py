"""Templates as a classifier: placed, trained, saved, certified, attacked."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import QUIET_TRAINING, make_classifier, make_trainer

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.attacks import build_attack
from l2nnn_lightning.models import TemplateNet
from l2nnn_lightning.training.callbacks import BestCheckpoint, HardScalingSwitch
from l2nnn_lightning.training.objectives import RadiusHinge

pytestmark = QUIET_TRAINING


def make_templates(trunk: str = "identity", count: int = 3, *, in_box: bool = False) -> L2NNNClassifier:
    options: dict[str, Any] = {"channels": 4} if trunk == "conv" else {}
    network = partial(TemplateNet, templates_per_label=count, trunk=trunk, **options)
    return make_classifier(network, partial(RadiusHinge, margin=0.8, in_box=in_box))


@pytest.fixture(scope="module", params=["identity", "conv"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[L2NNNClassifier, Path]:
    folder = tmp_path_factory.mktemp("templates")
    torch.manual_seed(0)
    model = make_templates(request.param, in_box=request.param == "identity")
    trainer = make_trainer(
        folder, HardScalingSwitch(switch_epoch=2), BestCheckpoint(folder, "val/radius_mean"), max_epochs=6
    )
    trainer.fit(model, StripesDataModule(batch_size=10, val_size=6))
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.9
    return model, folder / "best.ckpt"


@pytest.mark.parametrize(("attack", "max_iter", "count"), [("cw", 120, 3), ("pgd_l2", 30, 18)])
def test_no_attack_breaks_a_radius(
    trained: tuple[L2NNNClassifier, Path], attack: str, max_iter: int, count: int
) -> None:
    certified = trained[0].certified()
    pixels, labels = StripesDataModule().load_images(train=False)
    images, labels = pixels[:count].float() / 255, labels[:count]
    certificate, box = certified.in_box(images)
    assert float(certificate.radius.max()) > 0.1
    assert (box is not None) is trained[0].network.has_box
    if box is not None:
        assert (box >= certificate.radius).all()
        assert (box > certificate.radius).any()
    proven = certificate.radius if box is None else box
    found = build_attack(attack, certified.network, eps=4.0, max_iter=max_iter).run(images, labels)
    broken = found.broken & (certificate.label == labels)
    assert broken.any()
    assert (found.norm > proven)[broken].all()


def test_templates_begin_at_the_centres_of_each_label_alike_every_time(tmp_path: Path) -> None:
    weights = []
    for noise in range(2):
        torch.manual_seed(noise)
        model = make_templates(count=2)
        trainer = make_trainer(tmp_path, max_epochs=0)
        trainer.fit(model, StripesDataModule(batch_size=10, val_size=0))
        assert isinstance(model.network, TemplateNet)
        weights.append(model.network.head.weight.detach())
    assert torch.equal(weights[0], weights[1])
    # Two bright columns at the place that the label says.
    brightness = weights[0].view(3, 2, *SHAPE[1:]).mean((1, 2)).view(3, 3, 2).mean(2)
    assert brightness.argmax(1).tolist() == [0, 1, 2]
