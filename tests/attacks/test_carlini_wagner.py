import itertools

import foolbox
import pytest
import torch
from torch import nn

from l2nnn_lightning.attacks import CarliniWagnerL2
from l2nnn_lightning.nn import TwoSidedReLU, harden, is_hard, nonexpansive


def boundary_distance(model, images, labels):
    """Distance of each image to the nearest other label of a linear model: margin over norm of the difference."""
    with torch.no_grad():
        logits = model(images)
        distances = []
        for row, label in enumerate(labels.tolist()):
            others = [k for k in range(logits.shape[1]) if k != label]
            distances.append(
                min(
                    ((logits[row, label] - logits[row, k]) / (model.weight[label] - model.weight[k]).norm()).item()
                    for k in others
                )
            )
    return torch.tensor(distances)


def box_distance(normal, offset, image):
    """Length of the shortest move inside the box with normal . move <= -offset, by bisection on its multiplier."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        move = (image - middle * normal).clamp(0, 1) - image
        low, high = (low, middle) if float(normal @ move) <= -offset else (middle, high)
    return float(((image - high * normal).clamp(0, 1) - image).norm())


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_cw_reaches_the_boundary_of_a_linear_model_at_every_scale_of_the_logits(linear, scale):
    model = linear(scale * torch.randn(5, 64), scale * torch.randn(5))
    images = 0.3 + 0.4 * torch.rand(8, 1, 8, 8)
    labels = model(images).argmax(1)
    exact = boundary_distance(model, images, labels)
    result = CarliniWagnerL2(model, search_steps=4, max_iter=100).run(images, labels)
    assert (result.norm >= exact * (1 - 1e-5)).all()
    assert (result.norm <= exact * 1.01 + 1e-4).all()


def test_cw_reaches_the_boundary_within_an_active_box(linear):
    torch.manual_seed(3)
    model = linear(torch.randn(2, 16), torch.tensor([1.0, -1.0]))
    images = torch.rand(12, 1, 4, 4).round()  # every pixel at a face of the box
    labels = model(images).argmax(1)
    exact = []
    for image, label in zip(images.flatten(1).double(), labels.tolist(), strict=True):
        normal = (model.weight[label] - model.weight[1 - label]).detach().double()
        offset = float(normal @ image + (model.bias[label] - model.bias[1 - label]).detach().double())
        exact.append(box_distance(normal, offset, image))
    exact = torch.tensor(exact)
    unconstrained = boundary_distance(model, images, labels)
    assert (exact > 1.05 * unconstrained).any()  # the box matters in this test
    result = CarliniWagnerL2(model, search_steps=4, max_iter=150, lr=0.03).run(images, labels)
    assert (result.norm >= exact * (1 - 1e-4)).all()
    assert (result.norm <= exact * 1.01).all()


def test_cw_moves_pixels_at_exactly_zero_and_one(linear):
    # Only these two pixels count: raising the black one or lowering the white one changes the label.
    model = linear(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0.0, 0.0]))
    result = CarliniWagnerL2(model, search_steps=4, max_iter=100).run(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([0]))
    assert result.norm.item() == pytest.approx(2**-0.5, rel=0.01)
    assert result.images.flatten().tolist() == pytest.approx([0.5, 0.5], abs=0.02)


@pytest.mark.parametrize("shift", [-50.0, -1e4, 1e4])
def test_cw_does_not_care_for_the_sign_of_the_logits(linear, shift):
    weight, bias = torch.randn(4, 16).double(), torch.randn(4).double()
    images = 0.3 + 0.4 * torch.rand(4, 1, 4, 4).double()
    plain, shifted = linear(weight, bias), linear(weight, bias + shift)
    labels = plain(images).argmax(1)
    norms = [
        CarliniWagnerL2(m, search_steps=3, max_iter=60, lr=0.05).run(images, labels).norm for m in (plain, shifted)
    ]
    assert torch.isfinite(norms[1]).all()
    assert torch.allclose(norms[0], norms[1], rtol=0.01)


def test_cw_is_at_least_as_strong_as_foolbox(small_net, batch):
    images, labels = batch
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=100)
    _, theirs, _ = attack(foolbox.PyTorchModel(small_net, (0, 1), device="cpu"), images, labels, epsilons=None)
    their_norms = (theirs - images).flatten(1).norm(dim=1)
    our_norms = CarliniWagnerL2(small_net, search_steps=5, max_iter=100).run(images, labels).norm
    quartiles = torch.tensor([0.25, 0.5, 0.75])
    assert our_norms.mean() <= 1.01 * their_norms.mean()
    assert (our_norms.quantile(quartiles) <= 1.01 * their_norms.quantile(quartiles)).all()


def test_cw_finds_the_closest_label_where_another_has_the_smaller_margin(linear):
    # Label 1 is behind by 1.0 at distance 2.0, label 2 by 1.5 at distance 0.3: the loss alone leads to label 1.
    weight = torch.zeros(3, 25)
    weight[1, 0], weight[2, 1:] = 0.5, 5.0 / 24**0.5
    model = linear(weight, torch.tensor([1.25, 0.0, -12.75]))
    images = torch.full((1, 1, 5, 5), 0.5)
    labels = torch.tensor([0])
    exact = boundary_distance(model, images, labels)
    result = CarliniWagnerL2(model, search_steps=2, max_iter=100).run(images, labels)
    assert result.norm.item() == pytest.approx(exact.item(), rel=0.01)


def test_cw_outcome_does_not_depend_on_the_rest_of_the_batch(small_net, batch):
    # Double precision: in single, other kernels for other batch sizes send Adam on slightly different ways.
    images, labels = batch[0].double(), batch[1]
    attack = CarliniWagnerL2(small_net.double(), search_steps=4, max_iter=50)
    together = attack.run(images, labels)
    for row in (0, 7):
        alone = attack.run(images[row : row + 1], labels[row : row + 1])
        assert torch.allclose(alone.norm[0], together.norm[row], rtol=1e-6)
        assert alone.iterations[0] == together.iterations[row]


def test_cw_restarts_are_never_worse_and_depend_on_the_seed(small_net, batch):
    once, twice, other = (
        CarliniWagnerL2(small_net, search_steps=2, max_iter=30, lr=0.05, restarts=restarts, seed=seed).run(*batch)
        for restarts, seed in ((1, 0), (3, 0), (3, 9))
    )
    assert (twice.norm <= once.norm).all()
    assert (twice.norm < once.norm).any()
    assert not torch.equal(twice.norm, other.norm)


def test_cw_on_a_hard_l2nnn_keeps_to_its_certificate_and_its_mode(batch):
    model = nn.Sequential(nn.Flatten(), nonexpansive(nn.Linear(64, 16)), TwoSidedReLU(), nonexpansive(nn.Linear(32, 4)))
    harden(model)
    images = batch[0]
    with torch.inference_mode():  # as Lightning's test loop: the layers keep their scaled weights from here
        logits = model(images)
        labels = logits.argmax(1)
        first, second = logits.topk(2).values.unbind(1)
        result = CarliniWagnerL2(model, search_steps=4, max_iter=60, lr=0.05).run(images, labels)
    assert result.broken.sum() > 8
    assert (result.norm >= (first - second) / 2**0.5 * (1 - 1e-4)).all()  # one L2NNN: Lemma 1
    assert is_hard(model)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_cw_counts_iterations_of_each_c_and_not_in_all(small_net, batch):
    attack = CarliniWagnerL2(small_net, search_steps=3, max_iter=17, abort_early=False)
    assert (attack.run(*batch).iterations == 3 * 17).all()


def test_cw_with_eps_agrees_with_minimum_norms_and_costs_less(small_net, batch):
    images, labels = batch
    norms = CarliniWagnerL2(small_net, search_steps=4, max_iter=60, lr=0.05).run(images, labels)
    ordered = norms.norm.sort().values
    widest = (ordered[5:12] / ordered[4:11]).argmax()  # the verdicts are clear for eps inside a wide gap
    eps = (ordered[4:11][widest] * ordered[5:12][widest]).sqrt().item()
    result = CarliniWagnerL2(small_net, search_steps=4, max_iter=60, lr=0.05, eps=eps).run(images, labels)
    assert torch.equal(result.broken, norms.norm <= eps)
    assert (result.norm[result.broken] <= eps).all()
    assert torch.isinf(result.norm[~result.broken]).all()
    assert torch.equal(result.images[~result.broken], images[~result.broken])
    assert result.iterations[result.broken].sum() < 0.5 * norms.iterations[result.broken].sum()


def test_cw_with_eps_leaves_proven_samples_alone_and_shrinks_the_batch(batch):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.sizes = []

        def forward(self, x):
            if torch.is_grad_enabled():
                self.sizes.append(len(x))
            return x.flatten(1)

    images = torch.full((16, 1, 1, 2), 0.5)
    images[:, 0, 0, 0] = torch.linspace(0.55, 1.0, 16)  # distances 0.035 to 0.354
    labels = torch.zeros(16, dtype=torch.int64)
    model = Counts()
    radius = torch.zeros(16)
    radius[8:] = 0.2
    result = CarliniWagnerL2(model, search_steps=2, max_iter=100, eps=0.15).run(images, labels, radius=radius)
    exact = (images[:, 0, 0, 0] - 0.5) / 2**0.5
    assert torch.equal(result.broken, (exact < 0.15) & (radius < 0.15))
    assert (result.iterations[8:] == 0).all()
    assert torch.isinf(result.norm[8:]).all()
    assert model.sizes[0] == 8
    assert all(later <= earlier for earlier, later in itertools.pairwise(model.sizes))
    assert model.sizes[-1] == (~result.broken[:8]).sum()


def test_cw_without_eps_ignores_the_radius(small_net, batch):
    attack = CarliniWagnerL2(small_net, search_steps=2, max_iter=20)
    result = attack.run(*batch, radius=torch.full((16,), 1e-9))
    assert torch.equal(result.norm, attack.run(*batch).norm)
    assert attack.minimum_norm
    assert not CarliniWagnerL2(small_net, eps=1.0).minimum_norm


def test_cw_says_infinity_where_the_label_cannot_change(linear):
    model = linear(torch.zeros(3, 4), torch.tensor([1.0, 0.0, -1.0]))
    images = torch.rand(2, 1, 2, 2)
    result = CarliniWagnerL2(model, search_steps=3, max_iter=20).run(images, torch.tensor([0, 1]))
    assert result.norm.tolist() == [float("inf"), 0.0]
    assert result.broken.tolist() == [False, True]
    assert torch.equal(result.images, images)


def test_cw_confirms_its_images_on_a_model_that_rounds_by_batch_size():
    class Rounds(nn.Module):
        """Gives the true label a little more in a batch of another size, as low-precision kernels may."""

        def forward(self, x):
            x = x.flatten(1)
            return torch.stack([x[:, 0] + (1e-4 if len(x) == 3 else 0.0), x[:, 1]], 1)

    images = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9]]).view(3, 1, 1, 2)
    labels = torch.tensor([0, 0, 0])  # the third is wrong already, so two are searched
    result = CarliniWagnerL2(Rounds(), search_steps=3, max_iter=100).run(images, labels)
    assert result.broken.all()
    assert (Rounds()(result.images).argmax(1) != labels).all()


def test_cw_refuses_logits_that_are_no_logits(batch):
    with pytest.raises(ValueError, match="K >= 2"):
        CarliniWagnerL2(nn.Sequential(nn.Flatten(), nn.Linear(64, 1))).run(*batch)

    class Nan(nn.Module):
        def forward(self, x):
            logits = x.flatten(1)[:, :3] * 0
            return logits + torch.tensor([1.0, 0.0, 0.0]) + (torch.nan if torch.is_grad_enabled() else 0.0)

    with pytest.raises(ValueError, match="not finite"):
        CarliniWagnerL2(Nan()).run(batch[0], torch.zeros(16, dtype=torch.int64))
