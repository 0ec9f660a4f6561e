import pytest
import torch
from torch import nn

from l2nnn_lightning.attacks import ATTACKS, AttackResult, ImageAttack, build_attack

NAMES = ["cw", "pgd_l2", "pgd_linf", "fgsm", "autoattack_l2", "autoattack_linf"]


def test_registry_lists_the_attacks_with_their_norm():
    assert list(ATTACKS) == NAMES
    assert [ATTACKS[name].max_iter for name in NAMES] == [1000, 100, 100, 1, 100, 100]
    assert [ATTACKS[name].norm_kind for name in NAMES] == ["L2", "L2", "Linf", "Linf", "L2", "Linf"]


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_runs_by_name(small_net, batch, name):
    eps = 3.0 if ATTACKS[name].norm_kind == "L2" else 0.4
    attack = build_attack(name, small_net, eps=eps, max_iter=10, restarts=2, seed=1)
    result = attack.run(*batch, radius=torch.zeros(16))
    assert isinstance(result, AttackResult)
    assert attack.norm_kind == ATTACKS[name].norm_kind
    assert attack.minimum_norm is False
    assert result.broken.sum() >= 4
    assert (result.norm[result.broken] <= eps).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_runs_on_colour_images(name):
    # With its maps' channels last a network once gave gradients that could not be viewed as vectors.
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 8, 3))
    net.to(memory_format=torch.channels_last)
    images = torch.rand(5, 3, 8, 10)
    labels = net(images).argmax(1)
    eps = 30.0 if ATTACKS[name].norm_kind == "L2" else 1.0
    result = build_attack(name, net, eps=eps, max_iter=100).run(images, labels)
    assert result.broken.any()
    assert (net(result.images[result.broken]).argmax(1) != labels[result.broken]).all()


def test_only_cw_searches_for_minimum_norms(small_net):
    assert build_attack("cw", small_net).minimum_norm
    for name in NAMES[1:]:
        assert ATTACKS[name].needs_eps
        with pytest.raises(ValueError, match="eps must be given: only cw can search for the minimum norm"):
            build_attack(name, small_net)


class Grey(ImageAttack):
    """An attack as a user writes one: straight towards a grey image."""

    norm_kind = "L2"
    max_iter = 1

    def attempt(self, images, labels, restart):
        move = 0.5 - images
        length = move.flatten(1).norm(dim=1).clamp_min(1e-9)[:, None, None, None]
        return images + move * (self.inner_eps / length).clamp(max=1), self.max_iter


def test_an_attack_from_outside_runs_by_its_path(linear):
    model = linear(torch.stack([torch.eye(1, 64)[0], torch.zeros(64)]), torch.tensor([-0.55, 0.0]))
    images = torch.full((1, 1, 8, 8), 0.5)
    images[0, 0, 0, 0] = 0.7
    attack = build_attack(f"{__name__}.Grey", model, eps=0.3, restarts=2, seed=4)
    result = attack.run(images, torch.tensor([0]))
    assert type(attack).__name__ == "Grey"
    assert (attack.eps, attack.max_iter, attack.restarts, attack.seed) == (0.3, 1, 2, 4)
    assert result.norm.item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("deepfool", f"unknown attack 'deepfool': use one of {', '.join(NAMES)}"),
        ("no_such_package.Attack", "no_such_package.Attack cannot be imported: No module named 'no_such_package'"),
        ("torch.nn.NoSuchClass", "cannot be imported"),
        ("torch.nn.Linear", "torch.nn.Linear is not a subclass of l2nnn_lightning.attacks.base.ImageAttack"),
        ("os.system", "os.system is not a subclass"),
    ],
)
def test_unknown_attack_is_refused(small_net, path, message):
    with pytest.raises(ValueError, match=message):
        build_attack(path, small_net, eps=1.0)
