import pytest
import torch

from l2nnn_lightning.attacks import ATTACKS, CarliniWagnerL2, build_attack
from l2nnn_lightning.attacks.noise import NoisePerImage
from l2nnn_lightning.attacks.pgd import PGD


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_attack_tells_its_progress_and_is_not_changed_by_it(small_net, batch, name):
    images, labels = batch
    labels = labels.clone()
    labels[0] = (labels[0] + 1) % 5
    eps = 0.9 if ATTACKS[name].norm_kind == "L2" else 0.1
    radius = torch.zeros(16)
    radius[1] = 100.0
    seen = []
    quiet, told = (
        build_attack(name, small_net, eps=eps, max_iter=20, restarts=2, seed=1).run(
            images, labels, radius=radius, on_progress=on_progress
        )
        for on_progress in (None, seen.append)
    )
    assert torch.equal(quiet.images, told.images)
    assert 2 <= told.broken.sum() < 16
    assert len(seen) >= 1
    assert all(now.proven == 1 for now in seen)
    assert all(now.broken + 1 <= now.done <= 16 for now in seen)
    assert [now.broken for now in seen] == sorted(now.broken for now in seen)
    assert 1 <= seen[0].broken <= seen[-1].broken <= int(told.broken.sum())


def test_cw_tells_in_the_end_what_it_returns(small_net, batch):
    for eps, restarts in ((1.2, 1), (1.2, 2), (None, 1), (None, 2)):
        seen = []
        attack = CarliniWagnerL2(small_net, search_steps=2, max_iter=30, eps=eps, restarts=restarts)
        result = attack.run(*batch, on_progress=seen.append)
        assert seen[-1].done == 16
        assert seen[-1].broken == int(result.broken.sum()) > 0
        assert seen[0].done < 16
        assert seen[0].iterations < seen[-1].iterations <= 60


def test_random_starts_follow_the_image_wherever_it_stands(small_net, batch):
    images, labels = batch
    for norm_kind, eps in (("L2", 0.3), ("Linf", 0.03)):
        attack = PGD(small_net, norm_kind, eps, 3, restarts=2, seed=5)
        whole = attack.run(images, labels)
        order = torch.randperm(16)
        parts = [attack.run(images[rows], labels[rows]) for rows in order.split(5)]
        assert 0 < whole.broken.sum() < 16
        assert torch.equal(torch.cat([part.broken for part in parts]), whole.broken[order])
        assert torch.allclose(torch.cat([part.images for part in parts]), whole.images[order], atol=1e-5)


def test_noise_differs_between_images_and_seeds_and_has_the_asked_distribution():
    images = torch.rand(50, 1, 8, 8)
    filled = []
    for seed in (0, 1):
        with NoisePerImage(images, seed):
            filled.append(torch.empty_like(images).uniform_(-2, 2))
    assert not torch.equal(filled[0], filled[1])
    assert len({tuple(row.flatten().tolist()) for row in filled[0]}) == 50
    assert filled[0].abs().max() <= 2
    assert filled[0].mean().abs() < 0.1
    assert filled[0].std() == pytest.approx(4 / 12**0.5, rel=0.05)
    with NoisePerImage(images, 0):
        normal = torch.zeros_like(images).normal_()
    assert normal.std() == pytest.approx(1, rel=0.05)
