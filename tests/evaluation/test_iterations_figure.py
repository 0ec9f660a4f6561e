import pytest
import torch
from made_up_records import made_up_images, made_up_records
from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.measure.run import AttackInfo
from l2nnn_lightning.evaluation.report.iterations_figure import choose_budgets, plot_iterations

SHORT = AttackInfo("cw@100", "L2", eps=3.0, max_iter=100)
LONG = AttackInfo("cw@1000", "L2", eps=3.0, max_iter=1000)
OTHER = AttackInfo("pgd_l2", "L2", eps=3.0, max_iter=5000)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_budgets_are_the_runs_of_one_attack_from_short_to_long():
    images = dict.fromkeys(["cw@100", "cw@1000", "pgd_l2"], made_up_images(1))
    assert choose_budgets([OTHER, LONG, SHORT], images) == [SHORT, LONG]
    assert choose_budgets([OTHER, LONG], images) == []
    assert choose_budgets([LONG, SHORT], {"cw@1000": images["cw@1000"]}) == []
    assert (LONG.attack, OTHER.attack) == ("cw", "pgd_l2")


@pytest.mark.parametrize("channels", [1, 3])
def test_each_label_shows_its_first_right_image_and_what_became_of_it(channels):
    records = made_up_records(60, attacked=True)
    images = made_up_images(60, channels)
    broken = records.attacks["cw"]
    unbroken = type(broken)(broken.broken & False, broken.norm + torch.inf, broken.prediction)
    records = type(records)(
        *(getattr(records, name) for name in ("index", "label", "prediction", "gap", "radius", "radius_box")),
        {"cw@100": unbroken, "cw@1000": broken},
    )
    attacked = {"cw@100": images, "cw@1000": images.flip(0).float() / 255}
    figure = plot_iterations(records, images, [SHORT, LONG], attacked)
    labels = sorted({int(label) for label in records.label[records.correct]})
    found = words(figure)
    assert found.count("not broken") == len(labels)
    assert {"original", "100 iterations", "1,000 iterations"} <= set(found)
    pictures = figure.axes[0].get_images()
    assert len(pictures) == 3 * len(labels)
    for place, label in enumerate(labels):
        first = next(i for i in range(60) if records.label[i] == label and records.correct[i])
        shown = [torch.as_tensor(picture.get_array()) for picture in pictures[3 * place : 3 * place + 3]]
        for picture, source in zip(shown, (images, images, images.flip(0)), strict=True):
            expected = source[first].float().div(255)
            expected = expected.movedim(0, -1) if channels == 3 else expected[0]
            assert torch.allclose(picture.float(), expected)
        assert f"as {broken.prediction[first]}\nL2 {broken.norm[first]:.2f}" in found


def test_a_network_that_is_always_wrong_can_be_drawn():
    records = made_up_records(12, attacked=True)
    wrong = type(records)(
        records.index, records.label, (records.label + 1) % 10, records.gap, records.radius, None,
        {"cw@100": records.attacks["cw"]},
    )  # fmt: skip
    figure = plot_iterations(wrong, made_up_images(12), [SHORT], {"cw@100": made_up_images(12)})
    assert "wrong from\nthe start" in words(figure)
