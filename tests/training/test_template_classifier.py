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
from l2nnn_lightning.nn import fold
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


def test_a_saved_classifier_proves_the_same(trained: tuple[L2NNNClassifier, Path]) -> None:
    best = L2NNNClassifier.load_from_checkpoint(trained[1])
    assert best.is_hard
    image = torch.rand(5, *SHAPE)
    again = L2NNNClassifier.load_from_checkpoint(trained[1])
    for one, other in zip(best.certify(image), again.certify(image), strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(fold(best.network)(image), best(image))
    assert best.network.rule().name == "distance to rival templates' cells"


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


def test_templates_on_pixels_prove_from_the_start_and_a_trunk_must_be_hardened() -> None:
    image = torch.rand(6, *SHAPE)
    pixels, trunk = make_templates(), make_templates("conv")
    assert pixels.is_hard
    assert float(pixels.certify(image).radius.max()) > 0
    assert not trunk.is_hard
    assert not trunk.certify(image).radius.any()
    trunk.harden()
    assert float(trunk.certify(image).radius.max()) > 0
    certificate, box = trunk.certified().in_box(image)
    assert box is None
    assert torch.equal(certificate.label, trunk(image).argmax(1))


def test_half_precision_and_ordinary_networks_have_no_box_radius() -> None:
    image = torch.rand(3, *SHAPE)
    certificate, box = make_templates().bfloat16().certified().in_box(image)
    assert box is None
    assert not certificate.radius.any()
    assert make_classifier(hard=True).certified().in_box(image)[1] is None


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


def test_the_logits_of_a_training_step_are_the_networks_own() -> None:
    data = StripesDataModule(val_size=0)
    data.setup("fit")
    assert data.train_set is not None
    batch = data.train_set.__getitems__([0, 1, 2])
    batch = batch._replace(image=batch.image.float() / 255)
    model = make_templates()
    logits, terms = model.objective(model.network, batch)
    torch.testing.assert_close(logits, model(batch.image))
    torch.testing.assert_close(terms["loss"], model.objective(model.network, batch, model(batch.image))[1]["loss"])


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"templates_per_label": 0}, SHAPE, "templates_per_label must be at least 1"),
        ({"trunk": "resnet"}, SHAPE, "trunk must be one of identity, conv, got 'resnet'"),
        ({"trunk": "conv", "channels": 3}, SHAPE, "channels must be even for MaxMin, got 3"),
        ({"trunk": "conv"}, (1, 5, 6), "even sides, got 5x6"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemplateNet(shape, 3, **options)
