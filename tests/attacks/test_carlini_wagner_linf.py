"""The L-infinity attack of Carlini and Wagner: known smallest changes, and what projected gradients break."""

import pytest
import torch
from torch import nn

from l2nnn_lightning.attacks import CarliniWagnerLinf, build_attack
from l2nnn_lightning.attacks.carlini_wagner_linf import LAST, _Rows


def test_the_smallest_change_of_a_linear_model_is_found_to_within_a_tenth(linear):
    """By Hoelder's inequality a margin m falls to 0 at ``m / |w|_1`` at the earliest, by equal steps of all pixels."""
    generator = torch.Generator().manual_seed(0)
    model = linear(torch.randn(3, 16, generator=generator), torch.zeros(3))
    images = 0.35 + 0.3 * torch.rand(12, 1, 4, 4, generator=generator)
    logits = model(images).detach()
    labels = logits.argmax(1)
    weight = model.weight.detach()
    leads = [logits.gather(1, labels[:, None])[:, 0] - logits[:, k] for k in range(3)]
    exact = torch.stack([lead / (weight[labels] - weight[k]).abs().sum(1) for k, lead in enumerate(leads)])
    exact = exact.scatter(0, labels[None], torch.inf).amin(0)
    assert float(exact.max()) < 0.3  # within the box: no pixel is in the way
    result = CarliniWagnerLinf(model, max_iter=200).run(images, labels)
    assert result.broken.all()
    assert bool((result.norm >= exact * (1 - 1e-5)).all())
    assert bool((result.norm <= exact * 1.12 + LAST).all())


@pytest.mark.parametrize("factor", [0.9, 1.05])
def test_it_decides_about_a_radius_as_the_exact_change_does(linear, factor):
    model = linear(torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 0.0, 0.0, 0.0]]), torch.zeros(2))
    image = torch.tensor([[[[0.6, 0.4], [0.5, 0.5]]]])
    exact = float(model(image)[0, 0].detach()) / 6.5
    result = CarliniWagnerLinf(model, max_iter=100, eps=factor * exact).run(image, torch.tensor([0]))
    assert bool(result.broken) == (factor > 1)
    assert float(result.norm) <= factor * exact or not result.broken


def test_it_breaks_what_projected_gradients_break(small_net, batch):
    small_net.eval()
    eps = 0.03
    pgd = build_attack("pgd_linf", small_net, eps=eps, max_iter=60, restarts=3).run(*batch)
    ours = build_attack("cw_linf", small_net, eps=eps, max_iter=60).run(*batch)
    assert 2 <= int(pgd.broken.sum()) < 16
    assert int(ours.broken.sum()) >= int(pgd.broken.sum()) - 1


def test_pixels_at_the_ends_of_the_box_move(linear):
    """All evidence is in pixels at 0 and 1."""
    model = linear(torch.tensor([[2.0, -2.0], [0.0, 0.0]]), torch.tensor([0.0, 1.0]))
    image = torch.tensor([[[[1.0, 0.0]]]])
    result = CarliniWagnerLinf(model, max_iter=200).run(image, torch.tensor([0]))
    assert result.broken
    assert float(result.norm) == pytest.approx(0.25, rel=0.12)


def test_a_sample_does_not_depend_on_its_neighbours(small_net, batch):
    small_net.double().eval()
    images, labels = batch[0].double(), batch[1]
    together = CarliniWagnerLinf(small_net, max_iter=10).run(images, labels)
    alone = [CarliniWagnerLinf(small_net, max_iter=10).run(images[i : i + 1], labels[i : i + 1]) for i in (0, 7)]
    for i, one in zip((0, 7), alone, strict=True):
        torch.testing.assert_close(one.images[0], together.images[i], rtol=0, atol=1e-8)
        assert int(one.iterations) == int(together.iterations[i])


def test_tau_falls_where_it_was_met_and_c_grows_where_it_was_not():
    rows = _Rows(torch.full((3, 1), 0.5), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 1))
    rows.found[0] = True
    rows.best_change[0], rows.best[0] = 0.4, 0.9
    rows.step[:] = 5
    assert not rows.next(torch.tensor([False, True, False]), None).any()
    assert rows.tau.tolist() == pytest.approx([0.36, 1, 1])
    assert rows.c.tolist() == pytest.approx([1e-5, 1e-4, 1e-5])
    assert rows.step.tolist() == [0, 0, 5]
    rows.c[1] = 15.0
    assert rows.next(torch.tensor([False, True, False]), None).tolist() == [False, True, False]


def test_a_search_that_ended_above_eps_is_tried_once_more_at_eps():
    rows = _Rows(torch.full((1, 1), 0.5), torch.zeros(1, dtype=torch.int64), torch.ones(1, 1))
    rows.c[0] = 15.0
    assert not rows.next(torch.tensor([True]), 0.1)
    assert rows.tau.item() == pytest.approx(0.099)
    assert rows.c.item() == pytest.approx(1e-5)
    assert rows.point.item() == pytest.approx(0.0)  # the image itself
    rows.c[0] = 15.0
    assert rows.next(torch.tensor([True]), 0.1)


def test_logits_that_are_not_finite_are_refused():
    class Broken(nn.Module):
        def forward(self, x):
            logits = x.flatten(1)[:, :2] * torch.tensor([1.0, 0.0])
            return torch.where(x.flatten(1)[:, :1] == 0.75, logits, logits / 0)

    image = torch.tensor([[[[0.75, 0.5]]]])
    with pytest.raises(ValueError, match="the model's logits are not finite"):
        CarliniWagnerLinf(Broken(), max_iter=20).run(image, torch.tensor([0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lr": 0.0}, "lr must be a positive number, got 0.0"), ({"max_iter": 0}, "max_iter must be >= 1, got 0")],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CarliniWagnerLinf(nn.Identity(), **settings)
