"""The comparison with foolbox, on a run of a second's training."""

import sys
from pathlib import Path

import pytest
import torch
from commands import benchmark

from l2nnn_lightning.experiments.benchmark import attacks
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions


@pytest.mark.slow
def test_both_attacks_are_measured_on_the_same_images(finished: Path) -> None:
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    counts = {"attack_images": 2, "attack_timed": 3, "attack_batch": 3, "attack_iterations": 150}
    options = BenchmarkOptions(attack_checkpoints=checkpoint, attack_eps=1.5, **counts)
    rows = list(attacks.run(options, torch.device("cpu")))
    norms = {row.what: row for row in rows if row.unit == "L2"}
    assert list(norms) == [f"norm, {name}: ours / foolbox" for name in ("mean", *(f"quartile {q}" for q in (1, 2, 3)))]
    for row in norms.values():
        assert row.other is not None
        assert 0.1 < row.ours < 6  # the images have 36 pixels
        assert row.ratio == pytest.approx(row.ours / row.other)
    quartiles = [row.ours for row in norms.values()][1:]
    assert quartiles == sorted(quartiles)
    broken, seconds, unbroken, missed = rows[4:]
    assert broken.unit == unbroken.unit == missed.unit == "fraction"
    assert 0 < broken.ours <= 1
    assert seconds.what == "3 images, 150 iterations, L2 1.5: ours / foolbox"
    assert seconds.unit == "s"
    assert seconds.ours > 0
    assert 0 <= unbroken.ours <= 1
    assert missed.other is None


def test_without_foolbox_one_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    assert benchmark(["attacks", "--attack_checkpoints", "any.ckpt"]) == 2
    assert capsys.readouterr().err == "error: foolbox is not installed: pip install -r requirements-dev.txt\n"
