"""The comparison with foolbox, on a run of a second's training."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from l2nnn_lightning.experiments.benchmark import attacks
from l2nnn_lightning.experiments.benchmark.command import main
from l2nnn_lightning.experiments.benchmark.rows import table


@pytest.mark.slow
def test_both_attacks_are_measured_on_the_same_images(finished: Path) -> None:
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    rows = attacks.compare_with_foolbox([checkpoint], 2, 3, eps=1.5, max_iter=150, batch_size=3)
    norms = {row.what: row for row in rows if row.unit == "L2"}
    assert list(norms) == [f"norm, {name}: ours / foolbox" for name in ("mean", *(f"quartile {q}" for q in (1, 2, 3)))]
    for row in norms.values():
        assert row.other is not None
        assert 0.1 < row.ours < 6  # the images have 36 pixels
        assert row.ratio == pytest.approx(row.ours / row.other)
    assert [row.ours for row in norms.values()][1:] == sorted(row.ours for row in list(norms.values())[1:])
    broken, seconds, unbroken, missed = rows[4:]
    assert broken.unit == unbroken.unit == missed.unit == "fraction"
    assert 0 < broken.ours <= 1
    assert seconds.what == "3 images, 150 iterations, L2 1.5: ours / foolbox"
    assert seconds.unit == "s"
    assert seconds.ours > 0
    assert 0 <= unbroken.ours <= 1
    assert missed.other is None
    assert "ours / foolbox" in str([column.header for column in table(rows, "x").columns]) + "".join(norms)


def test_without_foolbox_or_checkpoints_one_line_says_so(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attacks"]) == 2
    assert "the part attacks needs --attack_checkpoints" in capsys.readouterr().err
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    assert main(["attacks", "--attack_checkpoints", checkpoint, "--attack_iterations", "0"]) == 2
    assert "--attack_iterations must be at least 1, got 0" in capsys.readouterr().err
    real = builtins.__import__

    def without_foolbox(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "foolbox":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_foolbox)
    assert main(["attacks", "--attack_checkpoints", checkpoint]) == 2
    assert capsys.readouterr().err == "error: foolbox is not installed: pip install -r requirements-dev.txt\n"
