"""What layers keep of a distance, pair by pair by hand; Lemma 2; the hybrid under attack; gaps against norms."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_records import made_up_evaluation, made_up_records
from made_up_training import make_classifier
from torch import nn

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.distances import Distances, kept_distances, lemma_2
from l2nnn_lightning.evaluation.measure.hybrid import Hybrid, HybridNetwork
from l2nnn_lightning.evaluation.measure.results import gap_norm_correlation, summarize
from l2nnn_lightning.evaluation.measure.subject import Subject
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.models import ConvL2NNN, MadryNet, NetworkFactory, ResNetL2NNN, RowsRNN, SeparateL2NNNs
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.nn import harden


def test_what_is_kept_is_the_mean_over_pairs_of_two_labels() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(36, 5), nn.ReLU()))
    images, labels = torch.rand(6, *SHAPE), torch.tensor([0, 1, 1, 2, 0, 2])
    layers, logits = kept_distances(network, images, labels)
    assert [layer["layer"] for layer in layers] == ["0 Flatten", "1 Linear", "2 ReLU"]
    assert layers[0]["kept"] == pytest.approx(1)
    ratios = [
        float((logits[i] - logits[j]).detach().double().norm() / (images[i] - images[j]).double().norm())
        for i, j in itertools.combinations(range(6), 2)
        if labels[i] != labels[j]
    ]
    assert len(ratios) == 12
    assert layers[2]["kept"] == pytest.approx(np.mean(ratios), rel=1e-5)
    assert layers[2]["least"] == pytest.approx(min(ratios), rel=1e-5)


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (ConvL2NNN, {"channels": [2, 3], "dense": [6], "head_hidden": [4]}),
        (ConvL2NNN, {"channels": [2], "dense": [6], "head": "single", "activation": "relu"}),
        (SeparateL2NNNs, {"crop": 5, "channels": [2, 2], "head_hidden": [4]}),
        (ResNetL2NNN, {"channels": [4], "dense": [6]}),
        (RowsRNN, {"hidden": [6], "dense": []}),
    ],
)
def test_no_layer_of_a_hard_network_gives_distance_back(build: NetworkFactory, options: dict[str, Any]) -> None:
    """Also where labels have parts of their own, from the image or from their stacks on."""
    network = build(SHAPE, 3, **options).double()  # type: ignore[call-arg]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    certified = Certified(harden(network))
    images = torch.rand(8, *SHAPE, dtype=torch.float64)
    layers, _ = kept_distances(certified.network, images, torch.arange(8) % 3)
    kept = [1.0, *(layer["kept"] for layer in layers)]
    assert kept[-1] > 0
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(kept))
    assert max(layer["least"] for layer in layers) <= 1 + 1e-9


def test_lemma_2_holds_for_any_logits_and_is_reached() -> None:
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = lemma_2(logits, logits.argmax(1))
    assert found["pairs"] > 10_000
    assert found["broken"] == 0
    assert 0 < found["used"] < 1
    exact = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [9.0, 0.0, 0.0]], dtype=torch.float64)
    assert lemma_2(exact, torch.tensor([0, 1, 2])) == {"pairs": 1, "broken": 0, "used": pytest.approx(1)}
    assert lemma_2(exact, torch.tensor([2, 2, 2]))["used"] is None


def subject(**options: Any) -> tuple[Any, EvaluateOptions]:
    classifier, datamodule = make_classifier(hard=True), StripesDataModule()
    datamodule.setup("test")
    assert datamodule.test_set is not None
    images, labels = datamodule.test_set.images, datamodule.test_set.labels
    found = Subject(classifier, classifier.certified(), datamodule, images, labels, 7)
    return found, EvaluateOptions("ours.ckpt", **options)


def test_distances_are_measured_of_so_many_images() -> None:
    asked, options = subject(distances=12)
    measure = Distances.asked(options, asked)
    assert measure is not None
    found = measure.whole(asked)
    assert found["n"] == 12
    assert found["lemma_2"]["broken"] == 0
    assert Distances.rows(found)[0][0] == "distance kept up to the logits, 12 images"
    bars = Distances.figure(found, SimpleNamespace()).axes[0].patches  # type: ignore[arg-type]
    assert [bar.get_width() for bar in bars] == [100 * layer["kept"] for layer in found["layers"]]
    with pytest.raises(UserError, match="needs images of two labels"):
        kept_distances(asked.certified.network, torch.rand(3, *SHAPE), torch.zeros(3, dtype=torch.int64))
    whole, _ = kept_distances(MadryNet(SHAPE, 3, channels=(2, 2), dense=4), asked.images.float() / 255, asked.labels)
    assert [layer["layer"] for layer in whole][:2] == ["0 Conv2d", "1 ReLU"]


def test_the_hybrid_is_attacked_as_one_network() -> None:
    asked, options = subject(fallback="other.ckpt", attacks="pgd_l2", eps=1.0, max_iter="5,20")
    fallback = Certified(MadryNet(SHAPE, 3, channels=(2, 2), dense=4))
    with torch.no_grad():
        gap = asked.certified(asked.images.float() / 255).gap
    threshold = float(gap.sort().values[8:10].mean())  # no image sits on it
    found = Hybrid("other.ckpt", fallback, threshold, [0.5], options).whole(asked)
    (attack,) = found["attacks"]
    assert {key: attack[key] for key in ("name", "norm", "eps", "max_iter", "n")} == {
        "name": "pgd_l2",
        "norm": "L2",
        "eps": 1.0,
        "max_iter": 20,
        "n": len(asked.images),
    }
    assert found["certified"]["0.5"] <= attack["accuracy"] <= found["accuracy"]
    assert any("accuracy under pgd_l2" in name for name, _ in Hybrid.rows(found))
    harmless = EvaluateOptions("ours.ckpt", fallback="other.ckpt", attacks="pgd_l2", eps=1e-6, max_iter="1")
    same = Hybrid("other.ckpt", fallback, threshold, [0.5], harmless).whole(asked)
    assert same["attacks"][0]["accuracy"] == same["accuracy"]


def test_the_hybrids_logits_are_those_of_whoever_answers() -> None:
    asked, _ = subject()
    fallback = Certified(MadryNet(SHAPE, 3, channels=(2, 2), dense=4))
    image = asked.images.float() / 255
    gap = asked.certified(image).gap
    threshold = float(gap.median())
    logits = HybridNetwork(asked.certified, fallback, threshold)(image)
    ours, theirs = asked.certified.network(image), fallback.network(image)
    for i in range(len(image)):
        torch.testing.assert_close(logits[i], ours[i] if gap[i] >= threshold else theirs[i])


def test_gaps_are_held_against_the_norms_that_were_needed() -> None:
    records = made_up_records(200, attacked=True)
    right = records.correct & records.attacks["cw"].broken
    expected = np.corrcoef(records.gap[right], records.attacks["cw"].norm[right])[0, 1]
    assert gap_norm_correlation(records, "cw") == pytest.approx(expected)
    found = summarize(made_up_evaluation(records))["by_gap"]
    assert found["correlation"] == {"cw": pytest.approx(expected)}
    assert found["radius"] == 3.0
    assert sum(part["n"] for part in found["bins"]) == 200
    assert found["bins"][0]["gap_min"] >= found["bins"][1]["gap_max"]
    assert set(found["bins"][0]) == {"n", "gap_max", "gap_min", "accuracy", "certified", "cw", "pgd_l2", "pgd_linf"}
    alike = records.with_columns({"cw_norm": torch.full((200,), 1.0)})
    assert gap_norm_correlation(alike, "cw") is None
    assert "by_gap" not in summarize(made_up_evaluation(made_up_records()))
    assert math.isfinite(expected)
