"""Templates: logits, and radii held against exact distances, grids and extremes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from l2nnn_lightning.nn.template_radius import certify_templates
from l2nnn_lightning.nn.templates import Templates, kmeans


def made_up(seed: int, labels: int = 3, count: int = 3, features: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Templates of several labels, offsets that are not quite those of the nearest one, and points in the box."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.rand(labels, count, features, generator=rng)
    offset = -weight.square().sum(2) / 2 + 0.05 * torch.randn(labels, count, generator=rng)
    return weight, offset, torch.rand(20, features, generator=rng)


def predict(weight: Tensor, offset: Tensor, points: Tensor) -> Tensor:
    return (torch.einsum("kmf,bf->bkm", weight, points) + offset).amax(2).argmax(1)


def exact_distance(weight: Tensor, offset: Tensor, point: Tensor, label: int, *, box: bool) -> float:
    """The distance to the nearest point that another label wins: a quadratic program per rival, by a general solver."""
    w, b, x = weight.double().numpy(), offset.double().numpy(), point.double().numpy()
    best = math.inf
    for j in range(len(w)):
        for m in range(w.shape[1]):
            if j == label:
                continue
            a, c = w[j, m] - w[label], w[label] @ x + b[label] - w[j, m] @ x - b[j, m]
            found = minimize(
                lambda d: d @ d / 2,
                w[j, m] - x if not box else np.clip(w[j, m], 0, 1) - x,
                jac=lambda d: d,
                bounds=list(zip(-x, 1 - x, strict=True)) if box else None,
                constraints={"type": "ineq", "fun": lambda d, a=a, c=c: a @ d - c, "jac": lambda _, a=a: a},
                options={"ftol": 1e-13, "maxiter": 300},
            )
            if found.success and (a @ found.x - c).min() > -1e-6:
                best = min(best, float(np.linalg.norm(found.x)))
    return best


# --- logits ---


def test_the_label_is_that_of_the_nearest_template() -> None:
    head = Templates(5, 4, 3)
    points = torch.rand(30, 5)
    distances = torch.cdist(points, head.weight.detach().flatten(0, 1)).view(30, 4, 3).amin(2)
    logits = head(points)
    assert torch.equal(logits.argmax(1), distances.argmin(1))
    torch.testing.assert_close(logits, (points.square().sum(1, keepdim=True) - distances.square()) / 2)


def test_free_offsets_begin_as_those_of_the_nearest_template() -> None:
    torch.manual_seed(1)
    free = Templates(5, 4, 3, nearest=False)
    tied = Templates(5, 4, 3)
    tied.weight.data.copy_(free.weight.data)
    points = torch.rand(9, 5)
    torch.testing.assert_close(free(points), tied(points))
    free.place(1, torch.rand(10, 5), torch.Generator().manual_seed(0))
    tied.weight.data.copy_(free.weight.data)
    torch.testing.assert_close(free(points), tied(points))
    assert [name for name, _ in free.named_parameters()] == ["weight", "free_offset"]


# --- certificates ---


@pytest.mark.parametrize("box", [False, True])
def test_radius_agrees_with_exact_distances_and_is_never_above_them(box: bool) -> None:
    weight, offset, points = made_up(seed=3, features=3)
    label = predict(weight, offset, points)
    result = certify_templates(points, label, weight, offset, box=box)
    radius = result.radius_box if box else result.radius
    ratios = []
    for k in range(len(points)):
        exact = exact_distance(weight, offset, points[k], int(label[k]), box=box)
        if math.isinf(exact):  # in the box a label may be out of reach
            continue
        assert float(radius[k]) <= exact * (1 + 1e-5) + 1e-6
        ratios.append(float(radius[k]) / exact)
    assert len(ratios) > 10
    assert np.median(ratios) > 0.999
    assert min(ratios) > 0.9 if box else min(ratios) > 0.999


@given(st.integers(0, 10_000), st.sampled_from([3, 80]))
def test_no_point_of_a_grid_inside_the_radius_has_another_label(seed: int, count: int) -> None:
    """With 160 rivals the farthest count with their simplest bound alone."""
    weight, offset, points = made_up(seed, count=count)
    label = predict(weight, offset, points)
    radius, radius_box = certify_templates(points, label, weight, offset, box=True)
    assert bool((radius_box >= radius).all())
    quick = certify_templates(points, label, weight, offset, quick=True).radius
    assert bool((quick <= radius * (1 + 1e-9)).all())
    side = torch.linspace(-1, 2, 91)
    grid = torch.cartesian_prod(side, side)
    other = predict(weight, offset, grid)[None] != label[:, None]
    distance = torch.cdist(points, grid)
    assert not bool((other & (distance < radius[:, None] - 1e-6)).any())
    inside = ((grid >= 0) & (grid <= 1)).all(1)
    assert not bool((other & inside & (distance < radius_box[:, None] - 1e-6)).any())


def test_the_union_of_own_cells_is_farther_than_the_nearest_hyperplane() -> None:
    # Two own templates on either side of the point, a rival beyond both: only the gap between them must be crossed.
    weight = torch.tensor([[[1.0, 0.1], [1.0, -0.1]], [[-1.0, 0.0], [-3.0, 0.0]]])
    offset = -weight.square().sum(2) / 2
    point, label = torch.tensor([[2.0, 0.4]]), torch.tensor([0])
    quick = certify_templates(point, label, weight, offset, quick=True).radius
    radius = certify_templates(point, label, weight, offset).radius
    exact = exact_distance(weight, offset, point[0], 0, box=False)
    assert float(radius) == pytest.approx(exact, rel=1e-3)
    assert float(radius) > float(quick)


def test_a_batch_is_certified_as_its_images_one_by_one() -> None:
    weight, offset, points = made_up(seed=5, labels=4, count=5, features=5)
    label = predict(weight, offset, points)
    whole = certify_templates(points, label, weight, offset, box=True)
    parts = [certify_templates(points[k : k + 1], label[k : k + 1], weight, offset, box=True) for k in range(5)]
    for radius, of_one in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(radius[:5], torch.cat(of_one))
    assert certify_templates(points[:0], label[:0], weight, offset, box=True).radius_box is not None


def test_a_tie_or_a_wrong_label_proves_nothing() -> None:
    weight = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])
    offset = -weight.square().sum(2) / 2
    points = torch.tensor([[1.0, 0.3], [0.2, 0.0], [0.2, 0.0], [0.999999, 5.0]])
    radius = certify_templates(points, torch.tensor([0, 1, 0, 0]), weight, offset).radius
    assert radius[:2].tolist() == [0, 0]
    assert 0.79 < float(radius[2]) <= 0.8
    assert float(radius[3]) == 0  # nearer to the tie than float32 can tell
    twins = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[2.0, 0.0]]])
    result = certify_templates(points[2:3], torch.tensor([0]), twins, -twins.square().sum(2) / 2, box=True)
    assert [float(radius) for radius in result if radius is not None] == [0, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["point", "weight", "offset"])
def test_numbers_that_are_not_finite_prove_nothing(bad: float, place: str) -> None:
    weight, offset, points = made_up(seed=2)
    label = predict(weight, offset, points)
    {"point": points[0], "weight": weight[0, 0], "offset": offset[0]}[place][0] = bad
    radius, radius_box = certify_templates(points, label, weight, offset, box=True)
    affected = slice(0, 1) if place == "point" else slice(None)
    assert not radius[affected].any()
    assert not radius_box[affected].any()
    assert bool(radius.isfinite().all())
    if place == "point":
        assert float(radius[1:].max()) > 0


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
def test_radii_scale_with_the_space_as_far_as_float32_goes(scale: float) -> None:
    weight, offset, points = made_up(seed=4)
    label = predict(weight, offset, points)
    plain = certify_templates(points, label, weight, offset).radius
    scaled = certify_templates(points * scale, label, weight * scale, offset * scale**2).radius
    assert bool(scaled.isfinite().all())
    assert bool((scaled <= plain * scale * (1 + 1e-3)).all())


# --- training ---


@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("box", [False, True])
def test_signed_radius_is_the_quick_certificate_where_the_label_wins(box: bool, nearest: bool) -> None:
    torch.manual_seed(2)
    head = Templates(4, 3, 3, nearest)
    points = torch.rand(40, 4)
    label = head(points).argmax(1)
    radius, logits = head.signed_radius(points, label, box=box)
    torch.testing.assert_close(logits, head(points))
    quick = head.certify(points, label, quick=True).radius.float()
    if not box:
        torch.testing.assert_close(radius, quick, rtol=1e-3, atol=1e-4)
    else:
        assert bool((radius >= quick - 1e-4).all())
    other = (label + 1) % 3
    assert bool((head.signed_radius(points, other, box=box).radius <= 1e-6).all())


@pytest.mark.parametrize("box", [False, True])
def test_gradients_agree_with_finite_differences(box: bool) -> None:
    torch.manual_seed(4)
    head = Templates(4, 3, 2, nearest=False).double()
    points, label = torch.rand(12, 4, dtype=torch.float64), torch.arange(12) % 3
    head.signed_radius(points, label, box=box).radius.sum().backward()
    for parameter in head.parameters():
        direction = torch.randn_like(parameter)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(step * direction)
                values.append(float(head.signed_radius(points, label, box=box).radius.sum()))
                parameter.sub_(step * direction)
        slope = (values[0] - values[1]) / 2e-5
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("box", [False, True])
def test_gradients_stay_finite_where_templates_and_points_coincide(box: bool) -> None:
    head = Templates(3, 2, 2)
    head.weight.data[1, 0] = head.weight.data[0, 0]  # equal templates of two labels
    points = torch.cat([head.weight.data[0, :1], torch.zeros(1, 3), torch.ones(1, 3)])
    points.requires_grad_()
    head.signed_radius(points, torch.tensor([0, 1, 0]), box=box).radius.sum().backward()
    assert bool(head.weight.grad.isfinite().all())
    assert bool(points.grad.isfinite().all())


def test_dropout_leaves_logits_and_evaluation_alone_and_asks_others_to_stand_in() -> None:
    torch.manual_seed(6)
    head, kept = Templates(4, 3, 5, dropout=0.5), Templates(4, 3, 5)
    kept.load_state_dict(head.state_dict())
    points = torch.rand(60, 4)
    label = head(points).argmax(1)
    whole = kept.signed_radius(points, label).radius
    dropped = head.signed_radius(points, label)
    torch.testing.assert_close(dropped.logits, head(points))
    worse = dropped.radius < whole - 1e-6
    assert 10 < int(worse.sum()) < 50  # half of the best templates are dropped
    # The next best one's hyperplane may by chance be farther, but not for many.
    torch.testing.assert_close(dropped.radius[~worse], whole[~worse], rtol=0, atol=0.2)
    head.eval()
    assert torch.equal(head.signed_radius(points, label).radius, whole)
    assert torch.equal(head.certify(points, label).radius, kept.certify(points, label).radius)


def test_a_samples_only_template_is_never_dropped() -> None:
    torch.manual_seed(7)
    head, points, label = Templates(4, 3, 1, dropout=0.9), torch.rand(50, 4), torch.arange(50) % 3
    radius = head.signed_radius(points, label).radius
    assert torch.equal(radius, head.eval().signed_radius(points, label).radius)


@pytest.mark.parametrize("chance", [-0.1, 1.0, math.nan])
def test_a_dropout_out_of_range_and_a_head_without_templates_are_refused(chance: float) -> None:
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        Templates(4, 3, 2, dropout=chance)
    with pytest.raises(ValueError, match="templates_per_label must be at least 1, got 0"):
        Templates(5, 4, 0)


# --- k-means ---


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs() -> torch.Tensor:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return (centres[:, None] + torch.randn(3, 40, 2, generator=seeded(1))).flatten(0, 1)


def test_centres_are_the_means_of_what_is_nearest_to_them() -> None:
    points = blobs()
    centres = kmeans(points, 4, seeded(), iterations=50)
    nearest = torch.cdist(points, centres).argmin(1)
    for k, centre in enumerate(centres):
        torch.testing.assert_close(centre, points[nearest == k].mean(0))


def test_equal_seeds_give_equal_centres_whatever_the_global_generator_did() -> None:
    first = kmeans(blobs(), 5, seeded(3))
    torch.rand(7)
    assert torch.equal(first, kmeans(blobs(), 5, seeded(3)))
    assert not torch.equal(first, kmeans(blobs(), 5, seeded(4)))


def test_an_iteration_of_thousands_of_points_is_that_of_all_at_once() -> None:
    points = torch.rand(9000, 3, generator=seeded(2))
    nearest = torch.cdist(points, kmeans(points, 4, seeded(), iterations=0)).argmin(1)
    means = torch.stack([points[nearest == k].mean(0) for k in range(4)])
    torch.testing.assert_close(kmeans(points, 4, seeded(), iterations=1), means)


def test_fewer_points_than_centres_are_used_repeatedly() -> None:
    points = torch.tensor([[1.0], [2.0]])
    assert kmeans(points, 5, seeded()).flatten().unique().tolist() == [1, 2]
