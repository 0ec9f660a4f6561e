"""The command verify: bounds in exact arithmetic agree with what is certified; what hides its signals is refused."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_training import make_classifier
from terminal import Terminal

from l2nnn_lightning.__main__ import main
from l2nnn_lightning.evaluation.verify.exact import Integers, absolute_square, gram_square, matrix_square, root_up, up
from l2nnn_lightning.training.classifier import Classifier


def save(classifier: Classifier, path: Path) -> str:
    checkpoint: dict[str, Any] = {"state_dict": classifier.state_dict(), "hyper_parameters": dict(classifier.hparams)}
    classifier.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.parametrize(
    "options",
    [
        {"dense": [6, 4], "certificate": "pairwise"},
        {"channels": [2], "dense": [6], "mean": 0.5},
        {"channels": [], "head": "single"},
        {"dense": [5], "head_hidden": [4], "certificate": "pairwise", "activation": "two_sided_relu"},
    ],
)
def test_what_is_certified_is_proved_anew(options: dict[str, Any], tmp_path: Path, terminal: Terminal) -> None:
    path = save(make_classifier(hard=True, **options), tmp_path / "m.ckpt")
    assert main(["verify", path, "--output", str(tmp_path / "v.json")]) == 0
    report = json.loads((tmp_path / "v.json").read_text())
    for part in report["programs"].values():
        assert part["claim_confirmed"]
        assert part["largest_constant"] <= part["claimed_constant"] * (1 + 1e-6)
        assert all(0 < layer["norm_at_most"] <= 2 * (1 + 1e-9) and layer["lemma"] for layer in part["layers"])
    assert 0 < report["programs"]["float64"]["radius_lost"] < 1e-9
    assert 0 < report["programs"]["float32"]["radius_lost"] < 1e-2
    assert "what is proved, in exact arithmetic" in " ".join(terminal.read()[0].split())


@pytest.mark.parametrize("hidden", ["bias", "mean"])
def test_a_network_that_hides_its_signals_is_refused(hidden: str, tmp_path: Path, terminal: Terminal) -> None:
    classifier = make_classifier(hard=True, dense=[4, 4], mean=2.0**24 if hidden == "mean" else 0.0)
    if hidden == "bias":
        first, second = classifier.network.trunk[2], classifier.network.trunk[4]
        first.bias.data.fill_(2.0**28)
        second.bias.data.fill_(-(2.0**28))
    path = save(classifier, tmp_path / "m.ckpt")
    assert "is refused: rounding in float32" in terminal.error_line(
        main, "verify", path, "--output", str(tmp_path / "v")
    )
    assert not (tmp_path / "v").exists()


def test_what_is_soft_or_has_no_lemma_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    path = save(make_classifier(), tmp_path / "m.ckpt")
    assert "it is not hard" in terminal.error_line(main, "verify", path, "--output", str(tmp_path / "v"))
    assert "name a .ckpt file" in terminal.error_line(main, "verify", "nothing.ckpt", "--output", str(tmp_path / "v"))


def test_integers_are_exact() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((3, 5)), rng.standard_normal((4, 5)) * np.logspace(-30, 3, 5)
    product = Integers.of(one).times_transposed(Integers.of(other))
    for i, row in enumerate(one):
        for j, column in enumerate(other):
            exact = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(row, column, strict=True))
            assert Fraction(int(product.values[i, j]), 2**product.shift) == exact


def test_exact_bounds_are_tight_and_never_below() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((7, 12))
    for square, exact in ((matrix_square(matrix), matrix), (absolute_square(matrix), np.abs(matrix))):
        largest = np.linalg.svd(exact, compute_uv=False)[0]
        assert largest * (1 - 1e-13) <= float(root_up(square)) <= largest * (1 + 1e-6)
    kernel = rng.standard_normal((3, 2, 3, 3))
    layer = torch.nn.Conv2d(2, 3, 3, padding=1, bias=False).double()
    layer.weight.data = torch.from_numpy(kernel)
    basis = layer(torch.eye(2 * 81).double().view(-1, 2, 9, 9)).detach().flatten(1).numpy()
    assert np.linalg.svd(basis, compute_uv=False)[0] <= float(root_up(gram_square(kernel)))
    for value in (Fraction(1, 3), Fraction(7), Fraction(1, 10**30)):
        assert value <= up(value) <= value * (1 + Fraction(1, 10**20))
        assert value <= root_up(value) ** 2 <= value * (1 + Fraction(1, 10**15))
