"""The command evaluate.py: what it writes, and what it refuses before it writes anything."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from results_contract import RESULT_KEYS
from terminal import Terminal

import l2nnn_lightning.__main__ as cli
from l2nnn_lightning.data import ImageFolderDataModule
from l2nnn_lightning.training.checkpoints import Checkpoint


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def evaluated(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of ten images under two attacks, in the run folder of its own copy."""
    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(finished, run)
    options = ["--limit=10", "--attacks=pgd_l2,fgsm", "--eps=0.3", "--max_iter=3", "--radii=0.05,1/10,1.58"]
    assert cli.evaluate(["--ckpt_path", str(run / "checkpoints" / "best.ckpt"), *options]) == 0
    return run / "evaluation"


def records(folder: Path) -> list[dict[str, str]]:
    with (folder / "records.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_results_keep_the_contract(evaluated: Path) -> None:
    found = results(evaluated)
    assert found.keys() >= RESULT_KEYS
    assert (found["dataset"], found["n"], found["hard"]) == ("ImageFolder", 10, True)
    assert set(found["certified"]) == {"0.05", "0.1", "1.58"}
    assert [attack["name"] for attack in found["attacks"]] == ["pgd_l2", "fgsm"]
    for attack in found["attacks"]:
        assert attack.keys() >= {"name", "norm", "eps", "max_iter", "n", "accuracy"}
        assert (attack["eps"], attack["max_iter"], attack["n"]) == (0.3, 3, 10)
    fractions = [found["accuracy"], *found["certified"].values(), *(attack["accuracy"] for attack in found["attacks"])]
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert found["config"]["network"]["init_args"]["dense"] == [6]
    assert "torch" in found["versions"]
    assert found["seconds"] > 0


def test_every_image_has_its_record_from_which_the_numbers_follow(evaluated: Path, images: Path) -> None:
    rows, found = records(evaluated), results(evaluated)
    assert [int(row["index"]) for row in rows] == list(range(10))
    correct = [row["label"] == row["prediction"] for row in rows]
    assert found["accuracy"] == pytest.approx(sum(correct) / 10)
    assert found["gap_mean"] == pytest.approx(sum(float(row["gap"]) for row in rows) / 10, rel=1e-5)
    for radius, accuracy in found["certified"].items():
        held = [
            is_correct and float(row["radius"]) >= float(radius) for is_correct, row in zip(correct, rows, strict=True)
        ]
        assert accuracy == pytest.approx(sum(held) / 10)
    assert any(float(row["radius"]) > 0 for row in rows)
    # Against the classifier and the data themselves.
    model = Checkpoint.read(evaluated.parent / "checkpoints" / "best.ckpt").classifier()
    data = ImageFolderDataModule(root=str(images), channels=1)
    pixels, labels = data.load_images(train=False)
    certificate = model.certify(pixels[:10].float() / 255)
    assert [int(row["label"]) for row in rows] == labels[:10].tolist()
    assert [int(row["prediction"]) for row in rows] == certificate.label.tolist()
    assert [float(row["radius"]) for row in rows] == pytest.approx(certificate.radius.tolist(), abs=1e-6)


def test_output_split_and_soft_network(finished: Path, tmp_path: Path, terminal: Terminal) -> None:
    """A network in penalty mode is measured like any other, and proves nothing."""
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    for key, value in checkpoint["state_dict"].items():
        if key.endswith(".hard"):
            value.fill_(False)
    torch.save(checkpoint, "soft.ckpt")
    line = terminal.error_line(cli.evaluate, "--ckpt_path", "soft.ckpt", "--radii", "1.58", "--output", "out/deep")
    assert "soft.ckpt is in penalty mode and proves nothing at any radius: leave out --radii" in line
    options = ["--split", "val", "--output", "out/deep", "--attacks", "pgd_l2", "--max_iter", "3"]
    assert cli.evaluate(["--ckpt_path", "soft.ckpt", *options]) == 0
    out, err = terminal.read()
    assert "out/deep/report.md" in out
    assert err == ""
    found = results(Path("out/deep"))
    assert (found["n"], found["hard"], found["radius_mean"]) == (8, False, 0.0)
    assert found["dataset"] == "ImageFolder (val)"
    assert all(float(row["radius"]) == 0 for row in records(Path("out/deep")))
    assert found["attacks"][0]["accuracy"] <= found["accuracy"]
    assert "penalty mode: nothing is proved" in out


def test_several_budgets_get_a_row_and_columns_each_and_the_longer_never_leaves_more(
    finished: Path, images: Path
) -> None:
    options = ["--limit", "6", "--attacks", "cw,fgsm", "--eps", "1.5", "--max_iter", "40,1,10", "--jacobian", "4"]
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    assert cli.evaluate(["--ckpt_path", checkpoint, "--output", "out", *options]) == 0
    found, rows = results(Path("out")), records(Path("out"))
    assert [(a["name"], a["max_iter"]) for a in found["attacks"]] == [
        (name, budget) for name in ("cw", "fgsm") for budget in (1, 10, 40)
    ]
    left = [attack["accuracy"] for attack in found["attacks"][:3]]
    assert left == sorted(left, reverse=True)
    for row in rows:
        for shorter, longer in (("cw@1", "cw@10"), ("cw@10", "cw@40")):
            assert int(row[f"{shorter}_broken"]) <= int(row[f"{longer}_broken"])
            assert float(row[f"{shorter}_norm"]) >= float(row[f"{longer}_norm"])
    assert found["jacobian"]["n"] == 4
    norms = [float(row["jacobian"]) for row in rows]
    assert found["jacobian"]["mean_norm"] == pytest.approx(sum(norms[:4]) / 4)
    assert all(norm != norm for norm in norms[4:])
    assert "attack_iterations.png" in {path.name for path in Path("out/figures").iterdir()}
    report = Path("out/report.md").read_text()
    assert "accuracy under cw, L2 eps 1.5, 40 iterations" in report
    assert "mean norm of the Jacobian, 4 images" in report


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
