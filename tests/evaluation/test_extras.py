"""evaluate.py --fallback and --noisy: what they write, and what they refuse."""

import json
from pathlib import Path

import pytest
from terminal import Terminal

from l2nnn_lightning.training import cli


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_hybrid_and_noisy_labels_stand_in_the_results(finished: Path, terminal: Terminal) -> None:
    best, last = (str(finished / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    options = ["--fallback", last, "--threshold", "0.05", "--noisy", "--radii", "0.01,0.1"]
    assert cli.evaluate(["--ckpt_path", best, "--output", "out", *options]) == 0
    found = json.loads(Path("out/results.json").read_text())
    hybrid, noisy = found["hybrid"], found["noisy"]
    assert hybrid["threshold"] == 0.05
    assert hybrid["fallback"] == last
    assert hybrid["l2nnn_accuracy"] == pytest.approx(found["accuracy"])
    assert hybrid["certified"].keys() == found["certified"].keys()
    # Delegation takes some of the proof away; a network that delegates nothing keeps all of it.
    assert hybrid["certified"]["0.01"] <= hybrid["curve"][0]["certified"]["0.01"] == found["certified"]["0.01"]
    assert noisy["changed"] == 0
    assert noisy["train"]["n"] + noisy["val"]["n"] > 0
    assert noisy["train_changed"] is None
    report = Path("out/report.md").read_text()
    assert "hybrid, threshold 0.05: delegated" in report
    assert "held-out images: mean confidence gap" in report
    assert Path("out/figures/hybrid.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "1"], "--threshold belongs to the hybrid model"),
        (["--fallback", "none.ckpt"], "there is no checkpoint none.ckpt"),
        (["--fallback", "none.ckpt", "--threshold", "-1"], "--threshold must be finite and not negative, got -1"),
    ],
)
def test_bad_hybrid_is_refused_before_anything_is_written(
    finished: Path, terminal: Terminal, options: list[str], message: str
) -> None:
    best = str(finished / "checkpoints" / "best.ckpt")
    assert message in terminal.error_line(cli.evaluate, "--ckpt_path", best, "--output", "out", *options)
    assert not Path("out").exists()
