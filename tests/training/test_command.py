"""The command train.py: what a run leaves, what it refuses, and that a killed run can be taken up again."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_up_images import write_config
from run_files import ELSEWHERE, assert_same_state, rows, snapshot
from terminal import Terminal

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.__main__ import evaluate, train

ROOT = Path(__file__).parents[2]

pytestmark = ELSEWHERE


# --- what a run leaves ---


def test_run_folder_holds_config_metrics_and_checkpoints(finished: Path) -> None:
    assert {"config.yaml", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= set(snapshot(finished))
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["model"]["init_args"]["network"]["init_args"]["dense"] == [6]
    assert config["trainer"]["max_epochs"] == 4
    hard = [float(row["val/hard"]) for row in rows(finished) if row["val/hard"]]
    assert hard == [0, 0, 1, 1]
    model = L2NNNClassifier.load_from_checkpoint(finished / "checkpoints" / "best.ckpt")
    assert model.is_hard
    assert model.image_shape == (1, 6, 6)
    assert model.num_labels == 3


def test_written_config_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    assert train(["fit", "--config", str(finished / "config.yaml"), "--run_dir", str(tmp_path / "again")]) == 0
    assert_same_state(tmp_path / "again", finished)


def test_overrides_win_over_the_config(images: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", images)
    options = ["--model.objective.omega=0.25", "--data.batch_size", "20", "--trainer.max_epochs=1"]
    options.append("--model.network.dense=[3]")
    assert train(["--config", config, *options]) == 0
    run = tmp_path / "runs" / "mine" / "version_0"  # named after the config
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["model"]["init_args"]["objective"]["init_args"]["omega"] == 0.25
    assert written["data"]["init_args"]["batch_size"] == 20
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["hyper_parameters"]["network"]["init_args"]["dense"] == [3]
    assert state["global_step"] == 2


def test_normal_run_says_what_matters_and_nothing_else(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    assert train(["--config", write_config(tmp_path / "a.yaml", images), "--run_dir", "run"]) == 0
    out, err = terminal.read()
    assert re.fullmatch(r"best epoch \d: accuracy \d+\.\d%, certified@0\.5 \d+\.\d%\nrun folder: run\n", out), out
    lines = err.splitlines()
    assert [bool(re.match(r"epoch +\d/4  loss ", line)) for line in lines].count(True) == 4
    assert sum(line.startswith("Switched to hard scaling after epoch 2, step 8 (as configured)") for line in lines) == 1
    assert [line.split()[0] for line in lines if not line.startswith(("epoch", "Switched"))] == [
        "data",
        "network",
        "training",
        "run",
    ]


def test_run_that_stays_soft_says_that_it_proves_nothing(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    config = write_config(tmp_path / "a.yaml", images, trainer__callbacks=None, trainer__max_epochs=1)
    assert train(["--config", config, "--run_dir", "run"]) == 0
    assert "still in penalty mode and proves nothing" in terminal.read()[0]
    assert not Path("run/checkpoints/best.ckpt").exists()
    assert Path("run/checkpoints/last.ckpt").exists()


def test_ordinary_classifier_is_best_in_accuracy(images: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.yaml", images, trainer__callbacks=None, trainer__max_epochs=1)
    plain = ["--model", "OrdinaryClassifier", "--model.network", "PlainTwin", "--model.network.channels=[2]"]
    assert train(["--config", config, *plain, "--run_dir", "run"]) == 0
    best = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    assert best["hyper_parameters"]["network"]["class_path"] == "l2nnn_lightning.models.PlainTwin"


def test_compiled_training_goes_through_the_switch_to_the_same_weights(images: Path, tmp_path: Path) -> None:
    """With attacked batches, which cache the weights of a network outside its training step."""
    changes = {"data__adversarial": True, "data__attack": {"eps": 0.1, "steps": 2, "step_size": 0.05}}
    config = write_config(tmp_path / "a.yaml", images, **changes)
    for run, backend in (("plain", "false"), ("compiled", "eager")):
        torch.compiler.reset()
        counted = torch._dynamo.utils.counters["frames"]["ok"]
        assert train(["--config", config, "--run_dir", run, "--compile", backend]) == 0
        assert (torch._dynamo.utils.counters["frames"]["ok"] > counted) == (run == "compiled")
    plain, compiled = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("plain", "compiled"))
    assert plain["state_dict"].keys() == compiled["state_dict"].keys()
    for key, expected in plain["state_dict"].items():
        torch.testing.assert_close(compiled["state_dict"][key], expected, rtol=1e-3, atol=1e-5, msg=key)
    assert L2NNNClassifier.load_from_checkpoint("compiled/checkpoints/best.ckpt").is_hard


# --- bad input ---


def test_a_metric_that_no_validation_has_ends_the_training_and_leaves_nothing(
    images: Path, tmp_path: Path, terminal: Terminal
) -> None:
    config = write_config(tmp_path / "a.yaml", images)
    assert train(["--config", config, "--best_metric", "val/nothing"]) == 2
    said = terminal.read()[1].splitlines()
    assert said[-1].startswith("error: there is no metric 'val/nothing' for best.ckpt (--best_metric); there are: val/")
    assert [line for line in said if line.startswith("error: ")] == said[-1:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml"]


@pytest.mark.parametrize(
    ("changes", "args", "message"),
    [
        ({"model__omeega": 1.0}, [], "L2NNNClassifier has no option 'omeega'"),
        ({"model__network__dens": [6]}, [], "error: ConvL2NNN has no option 'dens': did you mean dense?\n"),
        ({}, ["--model.objective.omga", "1"], "error: PaperLoss has no option 'omga': did you mean omega?\n"),
        ({}, ["--model.optimizer.Lr", "1"], "error: ScaledAdam has no option 'Lr': did you mean lr?\n"),
        ({}, ["--data.label_nois", "1"], "has no option 'label_nois': did you mean label_noise?\n"),
        ({}, ["--model.network", "ConvL2NN"], "error: there is no class 'ConvL2NN': did you mean ConvL2NNN?\n"),
        ({}, ["--model.objective", "PaperLos"], "error: there is no class 'PaperLos': did you mean PaperLoss?\n"),
        ({}, ["--data", "MNIST5kDatamodule"], "no class 'MNIST5kDatamodule': did you mean MNIST5kDataModule?\n"),
        ({}, ["--trainer.callbacks.patienc", "1"], "Switch has no option 'patienc': did you mean patience?\n"),
        ({}, ["--model.network.help", "ConvL2NN"], "error: there is no class 'ConvL2NN': did you mean ConvL2NNN?\n"),
        ({"trainer__max_epoch": 1}, [], "Trainer has no option 'max_epoch': did you mean max_epochs?\n"),
        ({}, ["--trainer.max_epoch", "1"], "Trainer has no option 'max_epoch': did you mean max_epochs?\n"),
        ({}, ["--dta.batch_size", "1"], "there is no option --dta.batch_size: did you mean --data.batch_size?\n"),
        ({}, ["--omega", "1"], "error: there is no option --omega: did you mean --model.objective.omega?\n"),
        ({}, ["--bogus", "1"], "error: there is no option --bogus; see train.py --help\n"),
        ({}, ["--model.omega", "1"], "error: --model.omega has moved: use --model.objective.omega\n"),
        ({}, ["--model.init_args.learning_rate=1"], "use --model.optimizer.lr\n"),
        ({}, ["--model.network_args.dense", "[6]"], "use --model.network.dense\n"),
        ({"model__omega": 1.0}, [], "is of an earlier version: model.omega has moved to model.objective.omega\n"),
        ({"model__network": "mlp"}, [], "earlier version: networks are named by their class, such as ConvL2NNN"),
        ({}, ["--data.label_noise", "1.5"], "error: label_noise must be in [0, 1], got 1.5\n"),
        ({}, ["--data.label_noise", "much"], "label_noise"),
        ({}, ["--data.batch_size", "0"], "error: batch_size must be >= 1, got 0\n"),
        ({}, ["--data.val_size", "5000"], "val_size must be smaller"),
        ({}, ["--data.root", "/nowhere"], "/nowhere is not a folder"),
        ({}, ["--data", "Nothing"], "Nothing"),
        ({}, ["--model.network", "my_networks.Net"], "my_networks"),
        ({}, ["--model.network", "torch.optim.Adam"], "torch.optim.Adam"),
        ({}, ["--model.optimizer.lr", "0"], "error: lr must be positive, got 0.0\n"),
        ({}, ["--model.scheduler.warmup_steps", "-1"], "error: warmup_steps must be at least 0, got -1\n"),
        ({}, ["--model.network.activation", "sine"], "activation must be one of"),
        ({}, ["--model.objective.omega", "-1"], "error: omega must be at least 0, got -1.0\n"),
        ({}, ["--model.penalty_weight", "-1"], "error: penalty_weight must be at least 0, got -1.0\n"),
        ({}, ["--model.radii", "a"], "error: radii must be list, got a\n"),
        ({}, ["--model.radii", "[0.5, 0.5]"], "radii must hold one or more different values"),
        ({}, ["--trainer.max_epochs", "x"], '"trainer.max_epochs": expected int, got x\n'),
        ({}, ["--seed_everything", "x"], "expected bool or int, got x\n"),
        ({}, ["--trainer.accelerator", "abacus"], "abacus"),
        ({}, ["--trainer.devices", "0"], "devices"),
        ({}, ["--optimizer", "SGD"], "--optimizer"),
        ({}, ["--compile", "gcc"], "error: --compile must be true, false or one of "),
        ({}, ["--trainer.callbacks.patience", "0"], "error: patience must be at least 1, got 0\n"),
        ({}, ["--ckpt_path", "nothing.ckpt"], "error: there is no checkpoint nothing.ckpt: name"),
    ],
)
def test_bad_value_is_refused_in_one_line(
    images: Path, tmp_path: Path, terminal: Terminal, changes: dict[str, Any], args: list[str], message: str
) -> None:
    line = terminal.error_line(train, "--config", write_config(tmp_path / "a.yaml", images, **changes), *args)
    assert message in line
    assert len(line) < 700


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["test"], "error: train.py has no command 'test': use 'fit', or nothing; evaluate with evaluate.py\n"),
        (["--confg", "a.yaml"], "error: there is no option --confg: did you mean --config?\n"),
        (["--config", "nothing.yaml"], "there is no config nothing.yaml"),
        (["--config", "torn.yaml"], "error: Problems parsing config"),
        (["--config", "binary.yaml"], "error: "),
    ],
)
def test_bad_command_or_config_is_refused_in_one_line(terminal: Terminal, args: list[str], message: str) -> None:
    Path("torn.yaml").write_text("model: [a, b\n  c: }")
    Path("binary.yaml").write_bytes(bytes(range(256)))
    assert message in terminal.error_line(train, *args)


class Harmful:
    """What an attacker would put into a file that is loaded carelessly."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch executed",)


def damaged_checkpoints(good: bytes) -> dict[str, bytes]:
    torch.save({"state_dict": Harmful()}, "harmful_torch.ckpt")
    torch.save({"state_dict": {}}, "other.ckpt")
    torch.save([1, 2], "list.ckpt")
    return {
        "harmful_pickle.ckpt": pickle.dumps(Harmful()),
        "truncated.ckpt": good[: len(good) // 2],
        "cut_end.ckpt": good[:-10],
        "empty.ckpt": b"",
        "text.ckpt": b"not a checkpoint\n" * 100,
    }


@pytest.mark.parametrize("command", [train, evaluate])
def test_damaged_checkpoint_is_refused_and_never_executed(
    finished: Path, images: Path, tmp_path: Path, terminal: Terminal, command: Callable[..., int]
) -> None:
    for name, content in damaged_checkpoints((finished / "checkpoints" / "last.ckpt").read_bytes()).items():
        Path(name).write_bytes(content)
    config = ["--config", write_config(tmp_path / "a.yaml", images)] if command is train else ["--output", "out"]
    for path in sorted(tmp_path.glob("*.ckpt")):
        line = terminal.error_line(command, *config, "--ckpt_path", path.name)
        assert line.startswith(f"error: {path.name} "), path.name
    assert not Path("executed").exists()
    assert not Path("runs").exists()
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--config a.yaml --run_dir RUN", "already holds a run: choose another --run_dir"),
        ("--ckpt_path RUN/checkpoints/last.ckpt --run_dir other", "already holds a run"),
        ("--config a.yaml --ckpt_path RUN/checkpoints/last.ckpt", "model.network.dense was [6] in the run"),
        ("--config a.yaml --ckpt_path weights.ckpt", "weights.ckpt holds weights only"),
        ("--ckpt_path weights.ckpt", "give one with --config"),
    ],
)
def test_what_cannot_be_resumed_is_refused_and_left_untouched(
    finished: Path, images: Path, tmp_path: Path, terminal: Terminal, args: str, message: str
) -> None:
    write_config(tmp_path / "a.yaml", images, model__network__dense=[7])
    weights = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    del weights["optimizer_states"]
    torch.save(weights, "weights.ckpt")
    Path("other").mkdir()
    Path("other/metrics.csv").write_text("epoch,step\n")
    before = snapshot(finished), snapshot(tmp_path)
    assert message in terminal.error_line(train, *args.replace("RUN", str(finished)).split())
    assert (snapshot(finished), snapshot(tmp_path)) == before


@pytest.mark.slow
def test_scripts_print_one_line_in_a_fresh_process(images: Path, tmp_path: Path) -> None:
    """Nothing is captured or configured by pytest there. One process runs both: it takes seconds to start."""
    program = """
import runpy, sys
for argv in (["train.py", "--config", "a.yaml", "--data.label_noise=1.5"], ["evaluate.py", "--ckpt_path", "a.yaml"]):
    sys.argv = argv
    try:
        runpy.run_path(f"{sys.path[0]}/{argv[0]}", run_name="__main__")
    except SystemExit as end:
        assert end.code == 2
"""
    write_config(tmp_path / "a.yaml", images)
    program = program.replace("{sys.path[0]}", str(ROOT))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "error: label_noise must be in [0, 1], got 1.5"
    assert lines[1:] == ["error: a.yaml was not read: it holds more than weights and plain values, or is damaged"]
    assert done.returncode == 0
