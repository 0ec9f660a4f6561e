"""``evaluate.py --soft_certificate``: radii of penalty mode under their own name, which no attack beats."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_records import made_up_evaluation, made_up_records
from made_up_training import make_classifier
from terminal import Terminal

import l2nnn_lightning.__main__ as cli
from l2nnn_lightning.data import Batch
from l2nnn_lightning.evaluation.measure.records import CertificateViolation, check_sound
from l2nnn_lightning.evaluation.measure.results import summarize
from l2nnn_lightning.evaluation.measure.subject import attack_images, certify_images
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.models.base import certify
from l2nnn_lightning.nn import penalty

LABEL = "gap/(2 x product of exact norms), penalty mode"


@pytest.fixture
def soft_checkpoint(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    for key, value in checkpoint["state_dict"].items():
        if key.endswith(".hard"):
            value.fill_(False)
    torch.save(checkpoint, "soft.ckpt")
    return "soft.ckpt"


def test_radii_of_penalty_mode_stand_apart(soft_checkpoint: str, terminal: Terminal) -> None:
    options = ["--limit", "10", "--attacks", "cw", "--eps", "3", "--max_iter", "100", "--radii", "0.01,0.1"]
    args = ["--ckpt_path", soft_checkpoint, "--output", "out", *options, "--soft_certificate", "true"]
    assert cli.evaluate(args) == 0
    found = json.loads(Path("out/results.json").read_text())
    assert (found["hard"], found["radius_kind"], found["radius_mean"]) == (False, "none", 0.0)
    assert set(found["certified"].values()) == {0.0}
    own = found["soft_certificate"]
    assert own.keys() == {"radius_kind", "product", "radius_mean", "certified"}
    assert own["radius_kind"] == LABEL
    with Path("out/records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    radius = np.array([float(row["radius_soft"]) for row in rows])
    gap = np.array([float(row["gap"]) for row in rows])
    correct = np.array([row["label"] == row["prediction"] for row in rows])
    assert {float(row["radius"]) for row in rows} == {0.0}
    np.testing.assert_allclose(radius, gap / (2 * own["product"]), rtol=1e-3)
    assert own["radius_mean"] == pytest.approx(np.where(correct, radius, 0).mean())
    assert own["certified"] == {
        key: pytest.approx((correct & (radius >= float(key))).mean()) for key in ("0.01", "0.1")
    }
    out, err = terminal.read()
    assert err == ""
    report = Path("out/report.md").read_text()
    assert f"| mean radius, {LABEL} |" in report
    assert "**Penalty mode: nothing is proved as of a hard network.**" in report
    assert out.count("penalty mode") >= 3
    assert "mean certified radius" not in report
    assert "| accuracy proved by that radius, L2 radius 0.1, penalty mode |" in report


def test_without_the_option_there_is_no_trace_of_them(soft_checkpoint: str, terminal: Terminal) -> None:
    assert cli.evaluate(["--ckpt_path", soft_checkpoint, "--output", "out", "--limit", "4"]) == 0
    assert "soft_certificate" not in json.loads(Path("out/results.json").read_text())
    assert "radius_soft" not in Path("out/records.csv").read_text()
    assert "product" not in Path("out/report.md").read_text()
    line = terminal.error_line(cli.evaluate, "--ckpt_path", soft_checkpoint, "--radii", "1", "--output", "none")
    assert "leave out --radii, add --soft_certificate, or" in line


def test_hard_checkpoints_are_refused(checkpoint: str, tmp_path: Path, terminal: Terminal) -> None:
    args = ["--ckpt_path", checkpoint, "--output", str(tmp_path / "out"), "--soft_certificate"]
    line = terminal.error_line(cli.evaluate, *args)
    assert f"{checkpoint} is hard, and its own certificate says more: leave out --soft_certificate" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("certificate", ["paper", "pairwise"])
@pytest.mark.parametrize("inflated", [0.1, 1.0, 10.0])
def test_no_attack_changes_an_answer_within_the_radius(certificate: str, inflated: float) -> None:
    torch.manual_seed(0)
    labels = torch.arange(24) % 3
    centres, noise = torch.rand(3, 1, 6, 6), 0.15 * torch.randn(24, 1, 6, 6)
    images = (255 * (centres[labels] + noise)).clamp(0, 255).byte()
    model = make_classifier(dense=[12], certificate=certificate)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.objective(model.network, Batch(images.float() / 255, labels))[1]["loss"]
        (loss + 0.1 * penalty(model.network)).backward()
        optimizer.step()
    for key, parameter in model.network.named_parameters():
        parameter.data *= inflated ** (2 if "head" in key and "bias" in key else 1)  # one label stays the largest
    assert not model.is_hard
    assert not model.certify(images.float() / 255).radius.any()
    certified = model.certified()
    radius = certify(certified.network, model.network.soft_rule(), images.float() / 255)[0].radius
    assert float(radius.median()) > 0.05
    records = certify_images(certified, images, labels, size=24).with_columns({"radius_soft": radius})
    assert not records.radius.any()
    options = EvaluateOptions("", attacks="cw,pgd_l2", eps=3.0, max_iter="100", minimum_norm=True)
    attacked, infos, _ = attack_images(certified, images, records, options, 24)
    check_sound(attacked, infos)
    norm = attacked.attacks["cw"].norm[attacked.correct]
    assert np.isfinite(norm).mean() > 0.8
    assert np.median(norm) < 6 * float(radius.median())  # the radius is not idle
    with pytest.raises(CertificateViolation, match="inside its certified radius"):
        check_sound(attacked.with_columns({"radius_soft": radius * 10}), infos)


def test_records_alone_do_not_make_a_network_of_penalty_mode_proved() -> None:
    records = made_up_records(hard=False)
    soft = records.with_columns({"radius_soft": torch.tensor(records.gap / 4)})
    assert not soft.proved.any()
    run = {**made_up_evaluation().run, "hard": False, "radius_kind": "none"}
    whole = {"soft_certificate": {"radius_kind": LABEL, "product": 2.0}}
    results = summarize(made_up_evaluation(soft, run=run, whole=whole))
    assert results["radius_mean"] == 0
    assert results["soft_certificate"]["radius_mean"] > 0
    with pytest.raises(ValueError, match="penalty mode proves nothing"):
        made_up_evaluation(made_up_records(), run=run)
