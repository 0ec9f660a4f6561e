"""The command soundness: it counts what it tries, and a claim that is too large does not pass."""

import json
from pathlib import Path

import pytest
import torch
from terminal import Terminal
from torch import Tensor

from l2nnn_lightning.__main__ import main
from l2nnn_lightning.nn import certificates


def test_it_counts_what_it_tries(tmp_path: Path) -> None:
    assert main(["soundness", "--budget", "300", "--output", str(tmp_path / "s.json")]) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["breaks"] == 0
    assert found["attacks"] == sum(found["by_network"].values()) >= 300
    assert set(found["by_network"]) == {"mnist_small float64", "mnist_small float32"}


def test_a_claim_that_is_too_large_does_not_pass(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    proven = certificates.proven_radius

    def too_large(*args: object) -> Tensor:
        return proven(*args) + torch.tensor(1e-3)  # type: ignore[arg-type]

    monkeypatch.setattr(certificates, "proven_radius", too_large)
    assert main(["soundness", "--budget", "300"]) == 1
    assert "is broken at a boundary" in terminal.read()[1]
