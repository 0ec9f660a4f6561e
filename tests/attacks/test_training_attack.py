import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchattacks
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from l2nnn_lightning.attacks.training import TrainingAttack, attacked_images

RANDOM = TrainingAttack(eps=0.1, step_size=0.03, steps=8)
FIXED = replace(RANDOM, random_start=False)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Dropout(0.5), nn.ReLU(), nn.Linear(12, 3))


def make_images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    image = torch.rand(10, 1, 4, 4)
    image[0] = 0.0  # the corners of the box
    image[1] = 1.0
    return image, torch.randint(3, (10,))


@pytest.mark.parametrize("random_start", [True, False])
def test_images_stay_in_ball_and_box_and_raise_the_loss(random_start: bool) -> None:
    model, (image, label) = make_model().eval(), make_images()
    attacked = attacked_images(model, image, label, replace(RANDOM, random_start=random_start))
    assert float((attacked - image).abs().max()) <= 0.1 + 1e-6  # rounding of image + eps
    assert float(attacked.min()) >= 0.0
    assert float(attacked.max()) <= 1.0
    before = F.cross_entropy(model(image), label, reduction="none")
    after = F.cross_entropy(model(attacked), label, reduction="none")
    assert bool((after > before).all())
    assert not attacked.requires_grad


def test_without_random_start_equals_torchattacks() -> None:
    model, (image, label) = make_model().eval(), make_images()
    ours = attacked_images(model, image, label, FIXED)
    theirs = torchattacks.PGD(model, eps=0.1, alpha=0.03, steps=8, random_start=False)(image, label)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_one_long_step_on_a_linear_model_reaches_the_worst_corner() -> None:
    linear = nn.Linear(16, 2)
    model = nn.Sequential(nn.Flatten(), linear)
    image = torch.full((1, 1, 4, 4), 0.5)
    attacked = attacked_images(model, image, torch.tensor([0]), TrainingAttack(0.1, 1, 1.0, random_start=False))
    towards = (linear.weight[1] - linear.weight[0]).sign().reshape(1, 1, 4, 4)
    assert torch.allclose(attacked, image + 0.1 * towards)


def test_model_mode_is_restored_after_an_error() -> None:
    model, (image, _) = make_model(), make_images()
    attacked_images(model, image, torch.zeros(10, dtype=torch.int64), RANDOM)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(IndexError):
        attacked_images(model, image, torch.full((10,), 7), RANDOM)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_given_logits_are_climbed_instead_of_the_output() -> None:
    model, (image, label) = make_model(), make_images()
    opposite = attacked_images(model, image, label, FIXED, logits_of=lambda points: -model(points))
    assert not torch.equal(opposite, attacked_images(model, image, label, FIXED))
    before, after = (F.cross_entropy(-model.eval()(points), label) for points in (image, opposite))
    assert after > before


def test_parametrized_weight_is_computed_once_and_not_kept() -> None:
    class Doubled(nn.Module):
        calls = 0

        def forward(self, weight: Tensor) -> Tensor:
            self.calls += 1
            return 2 * weight

    model, (image, label) = make_model(), make_images()
    doubled = Doubled()
    parametrize.register_parametrization(model[1], "weight", doubled)
    doubled.calls = 0
    attacked_images(model, image, label, RANDOM)
    assert doubled.calls == 1
    with torch.no_grad():
        model[1].parametrizations.weight.original.zero_()
    assert not model[1].weight.any()


def test_attack_under_autocast_is_the_float32_attack() -> None:
    model, (image, label) = make_model(), make_images()
    expected = attacked_images(model, image, label, FIXED)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = attacked_images(model, image, label, FIXED)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, expected)


def test_of_several_starts_the_worst_image_of_each_sample_counts() -> None:
    model, (image, label) = make_model().eval(), make_images()
    attack = replace(RANDOM, steps=1, step_size=0.02)
    attempts = torch.Generator().manual_seed(3)
    singles = [attacked_images(model, image, label, attack, generator=attempts) for _ in range(3)]
    losses = torch.stack([F.cross_entropy(model(attacked), label, reduction="none") for attacked in singles])
    assert len(losses.argmax(0).unique()) > 1
    worst = attacked_images(
        model, image, label, replace(attack, restarts=3), generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(worst, torch.stack(singles)[losses.argmax(0), torch.arange(10)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 0}, r"attack.eps must be in \(0, 1\], got 0"),
        ({"eps": True}, "attack.eps"),
        ({"eps": 2}, r"attack.eps must be in \(0, 1\], got 2"),
        ({"eps": math.inf, "norm": "L2"}, "attack.eps must be > 0 and finite, got inf"),
        ({"norm": "L1"}, "attack.norm must be Linf or L2, got L1"),
        ({"eps": float("nan")}, "attack.eps"),
        ({"steps": 0}, "attack.steps must be an integer >= 1, got 0"),
        ({"steps": 2.5}, "attack.steps"),
        ({"step_size": -1}, "attack.step_size must be > 0, got -1"),
        ({"restarts": 0}, "attack.restarts must be an integer >= 1, got 0"),
        ({"restarts": 2, "random_start": False}, "attack.restarts above 1 needs attack.random_start"),
        ({"random_start": "yes"}, "attack.random_start must be true or false, got yes"),
        (
            {"epsilon": 0.1},
            "attack has no setting 'epsilon'; it has eps, .*, norm",
        ),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingAttack(eps=0.3, steps=40, step_size=0.01).replaced(settings)


@pytest.mark.parametrize("random_start", [True, False])
def test_l2_images_stay_in_ball_and_box_and_raise_the_loss(random_start: bool) -> None:
    model, (image, label) = make_model().eval(), make_images()
    attack = TrainingAttack(eps=1.5, steps=8, step_size=0.4, random_start=random_start, norm="L2")
    attacked = attacked_images(model, image, label, attack)
    moved = (attacked - image).double().flatten(1).norm(dim=1)
    assert float(moved.max()) <= 1.5 + 1e-5  # rounding
    assert float(moved.max()) > 1.2  # much of the ball is used: no pixel could move so far in the other norm's box
    assert float(attacked.min()) >= 0.0
    assert float(attacked.max()) <= 1.0
    before, after = (F.cross_entropy(model(points), label, reduction="none") for points in (image, attacked))
    assert bool((after > before).all())


def test_without_random_start_l2_equals_torchattacks() -> None:
    model, (image, label) = make_model().eval(), make_images()
    attack = TrainingAttack(eps=0.8, steps=8, step_size=0.2, random_start=False, norm="L2")
    theirs = torchattacks.PGDL2(model, eps=0.8, alpha=0.2, steps=8, random_start=False)(image, label)
    torch.testing.assert_close(attacked_images(model, image, label, attack), theirs, atol=1e-4, rtol=0)


def test_an_l2_step_on_a_linear_model_follows_the_gradient() -> None:
    linear = nn.Linear(16, 2)
    image = torch.full((1, 1, 4, 4), 0.5)
    attack = TrainingAttack(0.4, 1, 5.0, random_start=False, norm="L2")
    attacked = attacked_images(nn.Sequential(nn.Flatten(), linear), image, torch.tensor([0]), attack)
    towards = F.normalize(linear.weight[1] - linear.weight[0], dim=0).reshape(1, 1, 4, 4)
    torch.testing.assert_close(attacked, image + 0.4 * towards)


def test_l2_starts_fill_the_ball_by_their_length() -> None:
    image = torch.full((2000, 1, 4, 4), 0.5)
    attack = TrainingAttack(eps=0.4, steps=1, step_size=1e-9, norm="L2")
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    label = torch.zeros(2000, dtype=torch.int64)
    started = attacked_images(model, image, label, attack, generator=torch.Generator().manual_seed(0))
    length = (started - image).flatten(1).norm(dim=1)
    assert 0.18 < float(length.mean()) < 0.22
    assert float(length.max()) <= 0.4 + 1e-6


def test_settings_replace_only_what_they_name() -> None:
    assert TrainingAttack(eps=0.3, steps=40, step_size=0.01).replaced({"steps": 2}) == TrainingAttack(
        0.3, 2, 0.01, True
    )
