"""What all attacks share, whatever they do."""

import copy

import pytest
import torch
from torch import nn

from l2nnn_lightning.attacks import ATTACKS, AttackResult, CarliniWagnerL2, ImageAttack, build_attack

NAMES = ["cw", "cw_linf", "pgd_l2", "pgd_linf", "fgsm", "autoattack_l2", "autoattack_linf"]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def build(name):
    """Build a short attack that breaks some of the batch."""
    eps = 1.2 if ATTACKS[name].norm_kind == "L2" else 0.15
    return lambda model, **settings: build_attack(name, model, **{"eps": eps, "max_iter": 3, "restarts": 2, **settings})


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_attack_leaves_no_trace_on_the_model_or_the_global_generator(small_net, batch, build, mode):
    small_net.train()
    small_net[1].eval()  # frozen normalisation in a training model
    small_net[0].weight.requires_grad_(False)
    small_net[5].weight.grad = torch.ones_like(small_net[5].weight)
    before = copy.deepcopy(small_net.state_dict())
    modes = [module.training for module in small_net.modules()]
    torch.manual_seed(11)
    state = torch.get_rng_state()
    with mode():
        images = batch[0] * 1.0  # in inference mode a tensor as Lightning's test loop hands it over
        result = build(small_net).run(images, batch[1] + 0)
        adversarial = build(small_net)(images, batch[1] + 0)
    assert torch.equal(adversarial, result.images)
    assert not result.images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in small_net.modules()] == modes
    assert [p.requires_grad for p in small_net.parameters()] == [False] + [True] * 7
    assert torch.equal(small_net[5].weight.grad, torch.ones_like(small_net[5].weight))
    assert all(p.grad is None for name, p in small_net.named_parameters() if name != "5.weight")
    assert all(torch.equal(value, before[name]) for name, value in small_net.state_dict().items())
    expected = build(small_net).run(*batch)
    assert torch.equal(result.images, expected.images)
    assert expected.broken.any()


@pytest.mark.parametrize("without_eps", [False, True])
def test_result_is_what_the_model_says_of_the_images_returned(small_net, batch, name, without_eps):
    if without_eps and ATTACKS[name].needs_eps:
        with pytest.raises(ValueError, match="eps must be given: only cw and cw_linf can search for the minimum norm"):
            build_attack(name, small_net)
        return
    images, labels = batch[0], batch[1].clone()
    labels[0] = (labels[0] + 1) % 5  # wrong to begin with
    order, eps = (2, 0.15) if ATTACKS[name].norm_kind == "L2" else (torch.inf, 0.02)
    attack = build_attack(name, small_net, eps=None if without_eps else eps, max_iter=20, restarts=2)
    result = attack.run(images, labels, radius=torch.zeros(16))
    assert isinstance(result, AttackResult)
    assert attack.minimum_norm == without_eps
    assert result.broken.all() if without_eps else 2 <= result.broken.sum() < 16
    with torch.no_grad():
        assert torch.equal(small_net(result.images).argmax(1) != labels, result.broken)
    assert 0 <= result.images.min() <= result.images.max() <= 1
    moved = torch.linalg.vector_norm((result.images.double() - images.double()).flatten(1), order, dim=1)
    assert torch.allclose(moved[result.broken], result.norm[result.broken].double())
    assert without_eps or (moved <= eps).all()
    assert torch.isinf(result.norm[~result.broken]).all()
    assert (moved[~result.broken] == 0).all()
    assert (result.norm[0], result.iterations[0]) == (0, 0)
    assert (result.iterations[1:] >= 1).all()


def test_attack_takes_a_model_without_parameters(linear, name, capsys):
    model = linear(torch.eye(2, 4), torch.zeros(2), trainable=False)
    image = torch.tensor([[[[0.6, 0.4], [0.5, 0.5]]]])
    assert build_attack(name, model, eps=0.3, max_iter=50).run(image, torch.tensor([0])).broken
    assert capsys.readouterr().out == ""


def test_attack_takes_an_empty_batch_and_one_that_is_wrong_throughout(small_net, batch, build):
    assert build(small_net).run(batch[0][:0], batch[1][:0]).norm.shape == (0,)
    wrong = build(small_net).run(batch[0], (batch[1] + 1) % 5)
    assert wrong.broken.all()
    assert (wrong.norm == 0).all()
    assert (wrong.iterations == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 0.0}, "eps must be a positive number, got 0.0"),
        ({"eps": -1.0}, "eps must be a positive number, got -1.0"),
        ({"eps": float("nan")}, "eps must be a positive number, got nan"),
        ({"eps": float("inf")}, "eps must be a positive number, got inf"),
        ({"max_iter": 0}, "max_iter must be >= 1, got 0"),
        ({"restarts": 0}, "restarts must be >= 1, got 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
    ],
)
def test_attack_refuses_bad_settings(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(nn.Identity(), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"search_steps": 0}, "search_steps must be >= 1, got 0"), ({"lr": 0.0}, "lr must be a positive number, got 0.0")],
)
def test_cw_refuses_bad_settings_of_its_own(settings, message):
    with pytest.raises(ValueError, match=message):
        CarliniWagnerL2(nn.Identity(), **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x - 0.5, y), r"images must lie in \[0, 1\], got values from"),
        (lambda x, y: (x + torch.nan, y), r"images must lie in \[0, 1\], got values from"),
        (lambda x, y: (x.to(torch.uint8), y), "images must be a float32 or float64"),
        (lambda x, y: (x, y[:1]), "labels must be 16 integers"),
        (lambda x, y: (x, y.float()), "labels must be 16 integers"),
        (lambda x, y: (x, y + 5), r"labels must lie in \[0, 4\], got 5 to"),
        (lambda x, y: (x, y, torch.zeros(3)), r"radius must have shape \(16,\)"),
    ],
)
def test_attack_refuses_a_bad_batch(small_net, batch, build, change, message):
    with pytest.raises(ValueError, match=message):
        build(small_net).run(*change(*batch))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_attack_follows_the_images_to_the_gpu(small_net, batch, build):
    small_net.cuda()
    result = build(small_net, max_iter=20).run(batch[0].cuda(), batch[1].cuda())
    assert result.images.is_cuda
    assert result.broken.any()


def test_registry_lists_the_attacks_with_their_norm():
    assert list(ATTACKS) == NAMES
    assert [ATTACKS[name].max_iter for name in NAMES] == [1000, 1000, 100, 100, 1, 100, 100]
    assert [ATTACKS[name].norm_kind for name in NAMES] == ["L2", "Linf", "L2", "Linf", "Linf", "L2", "Linf"]


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
