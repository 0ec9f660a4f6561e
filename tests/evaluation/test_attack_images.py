from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_training import make_classifier

from l2nnn_lightning.data import Batch
from l2nnn_lightning.evaluation.measure.records import check_sound
from l2nnn_lightning.evaluation.measure.subject import attack_images, certify_images
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.models.base import Certified


@pytest.fixture(scope="module")
def hard() -> Certified:
    """A small hard network on blobs that it tells apart, so that radii are far from zero."""
    torch.manual_seed(0)
    model = make_classifier(dense=[12], hard=True)
    images, labels = blobs()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model.objective(model.network, Batch(images.float() / 255, labels))[1]["loss"].backward()
        optimizer.step()
    return model.certified()


def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(24) % 3
    centres = torch.rand(3, 1, 6, 6, generator=generator)
    noise = 0.15 * torch.randn(24, 1, 6, 6, generator=generator)
    return (255 * (centres[labels] + noise)).clamp(0, 255).byte(), labels


def test_records_say_what_certify_says(hard):
    images, labels = blobs()
    records = certify_images(hard, images, labels, size=7)
    certificate = hard(images.float() / 255)
    assert records.index.tolist() == list(range(24))
    assert records.prediction.tolist() == certificate.label.tolist()
    np.testing.assert_allclose(records.gap, certificate.gap.numpy(), rtol=1e-5)
    np.testing.assert_allclose(records.radius, certificate.radius.numpy(), rtol=1e-5)
    assert records.correct.mean() > 0.9
    assert records.radius.mean() > 0.05


def test_no_attack_breaks_a_certificate_and_skipping_the_proven_changes_no_verdict(hard):
    images, labels = blobs()
    records = certify_images(hard, images, labels, size=24)
    # Some are proven at eps; of the others some break there.
    eps = float(np.quantile(records.radius, 0.9))
    assert (records.radius >= eps).any()
    options = EvaluateOptions("", attacks="cw,pgd_l2", eps=eps, max_iter="100")
    short, infos, _ = attack_images(hard, images, records, options, 10)
    full, _, made = attack_images(hard, images, records, replace(options, attack_proven=True), 10)
    check_sound(full, infos)
    for name, attacked in made.items():
        assert short.attacks[name].broken.tolist() == full.attacks[name].broken.tolist()
        assert 0 < full.attacks[name].broken.mean() < 1
        moved = (attacked - images.float() / 255).flatten(1).norm(dim=1).numpy()
        broken = full.attacks[name].broken & records.correct
        np.testing.assert_allclose(moved[broken], full.attacks[name].norm[broken], rtol=1e-4)


def test_minimum_norms_are_never_below_the_radius(hard):
    images, labels = blobs()
    records = certify_images(hard, images, labels, size=24)
    options = EvaluateOptions("", attacks="cw", eps=9.0, max_iter="100", minimum_norm=True)
    attacked, infos, _ = attack_images(hard, images, records, options, 24)
    check_sound(attacked, infos)
    norms = attacked.attacks["cw"].norm[records.correct]
    assert infos[0].minimum_norm
    assert np.isfinite(norms).all()
    assert (norms >= records.radius[records.correct] * (1 - 1e-5)).all()
