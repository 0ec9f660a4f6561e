import numpy as np
import pytest
import torch

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.evaluation.measure.loop import attack_images, certify_images
from l2nnn_lightning.evaluation.measure.soundness import check_sound


@pytest.fixture(scope="module")
def hard() -> L2NNNClassifier:
    """A small hard network on blobs that it tells apart, so that radii are far from zero."""
    torch.manual_seed(0)
    model = L2NNNClassifier("mlp", {"dense": (12,)}, (1, 6, 6), 3, start_hard=True)
    images, labels = blobs()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(model(images.float() / 255), labels)["loss"].backward()
        optimizer.step()
    return model.eval()


def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(24) % 3
    centres = torch.rand(3, 1, 6, 6, generator=generator)
    noise = 0.15 * torch.randn(24, 1, 6, 6, generator=generator)
    return (255 * (centres[labels] + noise)).clamp(0, 255).byte(), labels


def test_records_say_what_certify_says(hard):
    images, labels = blobs()
    records = certify_images(hard, images, labels, batch_size=7)
    certificate = hard.certify(images.float() / 255)
    assert records.index.tolist() == list(range(24))
    assert records.prediction.tolist() == certificate.label.tolist()
    np.testing.assert_allclose(records.gap, certificate.gap.numpy(), rtol=1e-5)
    np.testing.assert_allclose(records.radius, certificate.radius.numpy(), rtol=1e-5)
    assert records.correct.mean() > 0.9
    assert records.radius.mean() > 0.05


def test_no_attack_breaks_a_certificate_and_skipping_the_proven_changes_no_verdict(hard):
    images, labels = blobs()
    records = certify_images(hard, images, labels, batch_size=24)
    # Some are proven at eps; of the others some break there.
    eps = float(np.quantile(records.radius, 0.9))
    assert (records.radius >= eps).any()
    settings = {"eps": eps, "max_iter": 100, "seed": 0, "batch_size": 10}
    for name in ("cw", "pgd_l2"):
        short, info, _ = attack_images(hard, images, records, name, **settings)
        full, _, attacked = attack_images(hard, images, records, name, **settings, attack_proven=True)
        assert short.attacks[name].broken.tolist() == full.attacks[name].broken.tolist()
        assert 0 < full.attacks[name].broken.mean() < 1
        check_sound(full, [info])
        moved = (attacked - images.float() / 255).flatten(1).norm(dim=1).numpy()
        broken = full.attacks[name].broken & records.correct
        np.testing.assert_allclose(moved[broken], full.attacks[name].norm[broken], rtol=1e-4)


def test_minimum_norms_are_never_below_the_radius(hard):
    images, labels = blobs()
    records = certify_images(hard, images, labels, batch_size=24)
    attacked, info, _ = attack_images(
        hard, images, records, "cw", eps=9.0, max_iter=100, seed=0, batch_size=24, minimum_norm=True
    )
    check_sound(attacked, [info])
    norms = attacked.attacks["cw"].norm[records.correct]
    assert info.minimum_norm
    assert np.isfinite(norms).all()
    assert (norms >= records.radius[records.correct] * (1 - 1e-5)).all()


def test_attacks_leave_the_classifier_as_it_was(hard):
    images, labels = blobs()
    state = {key: value.clone() for key, value in hard.state_dict().items()}
    records = certify_images(hard, images, labels, batch_size=24)
    attack_images(hard, images, records, "pgd_linf", eps=0.1, max_iter=5, seed=0, batch_size=24)
    assert all(torch.equal(value, state[key]) for key, value in hard.state_dict().items())
    assert all(parameter.grad is None or parameter.requires_grad for parameter in hard.parameters())
    assert hard.is_hard
