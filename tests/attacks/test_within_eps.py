import sys

import pytest
import torch
import torchattacks
from torch.nn import functional as F

from l2nnn_lightning.attacks.autoattack import AutoAttack, AutoAttackL2
from l2nnn_lightning.attacks.pgd import FGSM, PGD, PGDL2, climb, into_ball, random_start


@pytest.mark.parametrize(("attack", "dual"), [(PGDL2, 2), (PGD, 1), (FGSM, 1)])
def test_attack_breaks_a_linear_model_just_beyond_its_margin(linear, attack, dual):
    torch.manual_seed(4)
    weight = torch.randn(2, 64)
    model = linear(weight, -0.5 * weight.sum(1))  # a tie at grey, so that the box is far away
    images = 0.4 + 0.2 * torch.rand(8, 1, 8, 8)
    logits = model(images).detach()
    labels = logits.argmax(1)
    # The L1 norm is dual to the L-infinity norm; one step of the sign is optimal for a linear model.
    slope = torch.linalg.vector_norm(model.weight[0] - model.weight[1], dual).item()
    for row, distance in enumerate(((logits[:, 0] - logits[:, 1]).abs() / slope).tolist()):
        one = images[row : row + 1], labels[row : row + 1]
        assert not attack(model, 0.99 * distance, 20, restarts=2).run(*one).broken
        # From a random start the L2 attack turns towards the boundary on its way: it ends within 3% of the best point.
        assert attack(model, 1.03 * distance, 20, restarts=2).run(*one).broken


@pytest.mark.parametrize(("norm_kind", "kind", "eps"), [("L2", "PGDL2", 1.2), ("Linf", "PGD", 0.2)])
def test_climb_takes_the_very_steps_of_torchattacks(small_net, batch, norm_kind, kind, eps):
    images, labels = batch
    theirs = getattr(torchattacks, kind)(small_net, eps=eps, alpha=0.3 * eps, steps=9, random_start=False)
    ours = climb(
        lambda points: F.cross_entropy(small_net(points), labels),
        images,
        lambda points: into_ball(points, images, eps, norm_kind),
        steps=9,
        step_size=0.3 * eps,
        norm_kind=norm_kind,
    )
    assert torch.equal(ours, theirs(images, labels))


def test_margin_keeps_a_gradient_where_cross_entropy_has_none(linear):
    model = linear(1e4 * torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2))
    image, label = torch.tensor([[[[0.7, 0.3]]]]), torch.tensor([0])
    assert PGDL2(model, 0.4, 20).run(image, label).broken
    plain = torchattacks.PGDL2(model, eps=0.4, alpha=0.05, steps=20, random_start=False)(image, label)
    assert torch.equal(plain, image)


def test_margin_loss_follows_the_gradient_of_the_margin(small_net, batch):
    images, labels = batch
    x = images.clone().requires_grad_()
    logits = small_net(x)
    own = logits[torch.arange(16), labels]
    other = torch.stack([torch.cat([row[:k], row[k + 1 :]]).max() for row, k in zip(logits, labels, strict=True)])
    (gradient,) = torch.autograd.grad((other - own).sum(), x)
    step = (images + 0.2 * (1 - 1e-5) * gradient.sign()).clamp(0, 1)
    with torch.no_grad():
        expected = small_net(step).argmax(1) != labels
    result = FGSM(small_net, 0.2).run(images, labels)
    assert expected.any()
    assert torch.equal(result.broken, expected)
    assert torch.allclose(result.images[expected], step[expected], atol=1e-7)


def test_random_starts_follow_the_image_wherever_it_stands(small_net, batch):
    # Double precision: in single, other kernels for other batch sizes could turn the sign of a step.
    images, labels, small_net = batch[0].double(), batch[1], small_net.double()
    for attack in (PGDL2(small_net, 0.3, 3, restarts=2, seed=5), PGD(small_net, 0.03, 3, restarts=2, seed=5)):
        whole = attack.run(images, labels)
        order = torch.randperm(16)
        parts = [attack.run(images[rows], labels[rows]) for rows in order.split(5)]
        assert 0 < whole.broken.sum() < 16
        assert torch.equal(torch.cat([part.broken for part in parts]), whole.broken[order])
        assert torch.allclose(torch.cat([part.images for part in parts]), whole.images[order], atol=1e-9)


def test_random_starts_differ_between_images_and_seeds_and_fill_the_ball():
    images = torch.full((50, 1, 8, 8), 0.5) + 1e-3 * torch.rand(50, 1, 8, 8)
    uniform = [random_start(images, 0.2, "Linf", seed) - images for seed in (0, 1)]
    assert not torch.equal(*uniform)
    assert len({tuple(row.flatten().tolist()) for row in uniform[0]}) == 50
    assert uniform[0].abs().max() <= 0.2 + 1e-6
    assert uniform[0].std() == pytest.approx(0.4 / 12**0.5, rel=0.05)
    lengths = (random_start(images, 0.2, "L2", 0) - images).flatten(1).norm(dim=1)
    assert lengths.max() <= 0.2 + 1e-6
    assert lengths.mean() == pytest.approx(0.1, abs=4 * 0.2 / 12**0.5 / 50**0.5)  # four standard deviations


def test_restarts_see_only_what_is_unbroken_and_change_with_the_seed(small_net, batch):
    once, thrice, again, other = (
        PGDL2(small_net, 1.3, 3, restarts=restarts, seed=seed).run(*batch)
        for restarts, seed in ((1, 0), (3, 0), (3, 0), (3, 7))
    )
    assert thrice.broken[once.broken].all()
    assert torch.equal(thrice.iterations[once.broken], once.iterations[once.broken])
    assert torch.equal(thrice.images, again.images)
    assert not torch.equal(thrice.images, other.images)


@pytest.mark.parametrize(("attack", "proof"), [(PGDL2, 0.5), (PGD, 0.5 * 8)])
def test_proven_samples_are_not_attacked(linear, attack, proof):
    model = linear(torch.eye(2, 64), torch.zeros(2))
    images = torch.zeros(3, 1, 8, 8)
    images[:, 0, 0, 0] = 0.01
    radius = torch.tensor([0.0, 0.99 * proof, 1.01 * proof])  # the last is a lie, and believed
    result = attack(model, 0.5, 5).run(images, torch.zeros(3, dtype=torch.int64), radius=radius)
    assert result.broken.tolist() == [True, True, False]
    assert result.iterations.tolist() == [5, 5, 0]


@pytest.mark.parametrize(("attack", "weaker", "eps"), [(AutoAttackL2, PGDL2, 1.2), (AutoAttack, PGD, 0.2)])
def test_autoattack_breaks_what_pgd_breaks(small_net, batch, attack, weaker, eps):
    images, labels = batch
    pgd = weaker(small_net, 0.95 * eps, 20).run(images, labels)
    result = attack(small_net, eps, 10).run(images, labels)
    assert pgd.broken.any()
    assert result.broken[pgd.broken].all()


@pytest.mark.parametrize("labels", [2, 3])
def test_autoattack_takes_few_labels_and_keeps_the_tracer(linear, labels):
    model = linear(torch.eye(labels, 64), torch.zeros(labels))
    images = torch.zeros(2, 1, 8, 8)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 0.2, 0.9  # distances 0.2 / sqrt(2) and 0.9 / sqrt(2)

    def tracer(frame, event, argument):
        return None

    previous = sys.gettrace()
    sys.settrace(tracer)
    try:
        result = AutoAttackL2(model, 0.3, 5).run(images, torch.tensor([0, 0]))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(previous)
    assert result.broken.tolist() == [True, False]
