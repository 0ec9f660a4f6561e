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
    options = [
        "--limit",
        "10",
        "--attacks",
        "pgd_l2,fgsm",
        "--eps",
        "0.3",
        "--max_iter",
        "3",
        "--radii",
        "0.05,1/10,1.58",
    ]
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


# --- bad input ---


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--attacks", "cw,deepfool"], "--attacks: unknown attack 'deepfool': use one of cw, pgd_l2,"),
        (["--attacks", "pgd_l1"], "did you mean pgd_l2?"),
        (["--eps", "0"], "error: --eps must be positive and finite, got 0.0; see evaluate.py --help\n"),
        (["--eps", "nan"], "--eps: expected float, got nan"),
        (["--eps", "wide"], "--eps: expected float, got wide"),
        (["--limit", "0"], "error: --limit must be at least 1, got 0; see evaluate.py --help\n"),
        (["--max_iter", "0"], "--max_iter must be at least 1, got 0"),
        (["--max_iter", "100,many"], "--max_iter must be whole numbers separated by commas, got '100,many'"),
        (["--restarts", "0"], "error: --restarts must be at least 1, got 0; see evaluate.py --help\n"),
        (["--processes", "0"], "error: --processes must be at least 1, got 0; see evaluate.py --help\n"),
        (["--jacobian", "0"], "error: --jacobian must be at least 1, got 0; see evaluate.py --help\n"),
        (["--batch_size", "0"], "--batch_size must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--radii", "0.5,x"], "--radii must be numbers or fractions separated by commas, got '0.5,x'"),
        (["--radii", "1/0"], "--radii must be numbers or fractions separated by commas, got '1/0'"),
        (["--radii", "-1"], "--radii must be finite and not negative"),
        (["--split", "dev"], "--split: expected 'test', 'val', 'train', got dev"),
        (["--device", "abacus"], "error: --device abacus is not available here: use cpu\n"),
        (["--data", "MNIST5k"], "MNIST5k has 10 labels and images of (1, 28, 28), the checkpoint 3 and (1, 6, 6)"),
        (["--data", "MINST"], "did you mean MNIST?"),
        (["--root", "/nowhere"], "/nowhere is not a folder"),
        (["--output", "taken/inside"], "--output taken/inside is not a folder"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--threshold", "1"], "--threshold belongs to the hybrid model"),
        (["--fallback", "none.ckpt"], "there is no checkpoint none.ckpt"),
        (["--fallback", "none.ckpt", "--threshold", "-1"], "--threshold must be at least 0, got -1"),
    ],
)
def test_bad_value_is_refused_in_one_line(finished: Path, terminal: Terminal, args: list[str], message: str) -> None:
    Path("taken").touch()
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    assert message in terminal.error_line(cli.evaluate, "--ckpt_path", checkpoint, "--output", "out", *args)
    assert not Path("out").exists()


def test_missing_checkpoint_or_option_is_refused_in_one_line(finished: Path, terminal: Terminal) -> None:
    assert "required: ckpt_path; see evaluate.py --help" in terminal.error_line(cli.evaluate)
    line = terminal.error_line(cli.evaluate, "--ckpt_path", "none.ckpt", "--output", "out")
    assert line.startswith("error: there is no checkpoint none.ckpt: name")
    line = terminal.error_line(cli.evaluate, "--ckpt_path", str(finished / "checkpoints"), "--output", "out")
    assert "is a folder: name a checkpoint in it" in line
    Path("lonely.ckpt").write_bytes((finished / "checkpoints" / "best.ckpt").read_bytes())
    line = terminal.error_line(cli.evaluate, "--ckpt_path", "lonely.ckpt")
    assert "is in no run folder: say where to write with --output" in line


def test_folder_with_a_corrupt_image_is_refused(finished: Path, images: Path, terminal: Terminal) -> None:
    shutil.copytree(images, "damaged")
    test_files = ImageFolderDataModule(root="damaged", channels=1)._files[2].paths
    test_files[3].write_bytes(test_files[3].read_bytes()[:40])
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    line = terminal.error_line(cli.evaluate, "--ckpt_path", checkpoint, "--root", "damaged", "--output", "out")
    assert f"{test_files[3]} cannot be read as an image" in line
    assert not Path("out").exists()


@pytest.mark.parametrize("damage", ["hyperparameters", "weights", "kind", "header"])
def test_checkpoint_that_contradicts_itself_is_refused(finished: Path, terminal: Terminal, damage: str) -> None:
    checkpoint = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    if damage == "hyperparameters":
        checkpoint["hyper_parameters"]["network_args"] = {"dense": [7]}
    elif damage == "weights":
        checkpoint["state_dict"].pop(next(iter(checkpoint["state_dict"])))
    elif damage == "kind":
        checkpoint["l2nnn_lightning"]["classifier"] = "Oracle"
    else:
        checkpoint["l2nnn_lightning"] = 7
    torch.save(checkpoint, "odd.ckpt")
    assert "odd.ckpt " in terminal.error_line(cli.evaluate, "--ckpt_path", "odd.ckpt", "--output", "out")
    assert not Path("out").exists()
