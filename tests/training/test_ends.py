"""How a training ends before its time, and what is told before its first step: one line each, nothing lost."""

import re
import resource
import signal
from pathlib import Path

import pytest
import torch
from made_up_images import part, write_config
from run_files import ELSEWHERE, snapshot
from terminal import Terminal

from l2nnn_lightning import L2NNNClassifier, load_pretrained
from l2nnn_lightning.__main__ import main, train

pytestmark = ELSEWHERE


def test_a_diverged_training_ends_with_1_and_keeps_the_last_good_checkpoint(
    images: Path, tmp_path: Path, terminal: Terminal
) -> None:
    """It went on to the end with a loss of nan, and exit code 0."""
    config = write_config(tmp_path / "a.yaml", images)
    wild = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "1e30", "--model.network.hard", "false"]
    assert train(["--config", config, *wild, "--run_dir", "run"]) == 1
    said = terminal.read()[1].splitlines()[-1]
    assert re.match(r"error: the training has diverged in epoch 1, its loss is (nan|inf): lower model\.", said)
    assert said.endswith("lower model.optimizer.lr (now 1e+30)")
    assert not Path("run/checkpoints/last.ckpt").exists()


def test_runaway_weights_are_told_with_the_learning_rate_first(
    images: Path, tmp_path: Path, terminal: Terminal
) -> None:
    """The advice named the penalty's weight, whatever the learning rate."""
    config = write_config(tmp_path / "a.yaml", images)
    with pytest.warns(
        UserWarning, match=r"run away .*: lower model\.optimizer\.lr \(now \d+.*\), raise model\.penalty"
    ):
        assert train(["--config", config, "--model.optimizer.lr", "30", "--trainer.max_epochs", "1"]) == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--trainer.precision", "16-true"], "--trainer.precision 16-true trains nothing of use"),
        (
            ["--trainer.callbacks", "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.1"],
            "use EMAWeightAver",
        ),
    ],
)
def test_what_cannot_train_these_networks_is_refused(
    images: Path, tmp_path: Path, terminal: Terminal, args: list[str], said: str
) -> None:
    """The first trained garbage, the second ended in an AssertionError."""
    assert said in terminal.error_line(train, "--config", write_config(tmp_path / "a.yaml", images), *args)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml"]


def test_a_switch_that_will_not_come_is_told_before_and_after(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    """It was said to add the callback that was there."""
    config = write_config(tmp_path / "a.yaml", images)
    assert train(["--config", config, "--trainer.callbacks.switch_epoch", "9", "--run_dir", "run"]) == 0
    out, err = terminal.read()
    why = "HardScalingSwitch comes after epoch 9, the training ends after 4; lower its switch_epoch"
    assert err.startswith(f"note: the network begins in penalty mode and will prove nothing: {why}\n")
    assert f"the network is still in penalty mode and proves nothing: {why}\n" in out
    assert train(["--config", config, "--trainer.max_steps", "2", "--run_dir", "shorter"]) == 0
    assert "proves nothing: the training ended before HardScalingSwitch came\n" in terminal.read()[0]


@pytest.mark.parametrize(("more", "is_told"), [([], True), (["--model.objective.omega_late=0.2"], False)])
def test_another_omega_of_the_late_epochs_is_told(
    images: Path, tmp_path: Path, terminal: Terminal, more: list[str], is_told: bool
) -> None:
    """``--model.objective.omega`` held for 70% of the epochs, in silence."""
    objective = part("training.PaperLoss", omega=0.3, omega_late=0.1, late=0.75)
    config = write_config(tmp_path / "a.yaml", images, model__objective=objective)
    options = ["--model.objective.omega", "0.5", "--trainer.max_epochs", "1", "--run_dir", "run"]
    assert train(["--config", config, *options, *more]) == 0
    told = "note: in the last 25% of the epochs omega is 0.1, as omega_late says: give --model.objective.omega_late too"
    assert (told in terminal.read()[1]) is is_told


def test_a_full_disk_is_one_line_and_leaves_whole_checkpoints(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    """A file that may not grow further stands for the disk: the kernel refuses the same write."""
    config = write_config(tmp_path / "a.yaml", images)
    assert train(["--config", config, "--trainer.max_epochs", "3", "--run_dir", "run"]) == 0
    before, limits = snapshot(Path("run/checkpoints")), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    terminal.read()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, limits[1]))
        code = train(["--ckpt_path", "run/checkpoints/last.ckpt", "--trainer.max_epochs", "4"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 1
    (said,) = (line for line in terminal.read()[1].splitlines() if line.startswith("error: "))
    assert "run cannot be written (File too large): make room, then resume with: " in said
    assert said.endswith("run/checkpoints/last.ckpt")
    assert snapshot(Path("run/checkpoints")) == before
    assert train(["--ckpt_path", "run/checkpoints/last.ckpt", "--trainer.max_epochs", "4"]) == 0
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["epoch"] == 3


def test_what_export_wrote_is_loaded_from_python(finished: Path, tmp_path: Path) -> None:
    checkpoint, file = finished / "checkpoints" / "last.ckpt", tmp_path / "net.safetensors"
    assert main(["export", "--ckpt_path", str(checkpoint), "--format", "safetensors", "--output", str(file)]) == 0
    images = torch.rand(5, 1, 6, 6)
    ours, theirs = L2NNNClassifier.load_from_checkpoint(checkpoint).eval(), load_pretrained(file)
    torch.testing.assert_close(theirs.certify(images).radius, ours.certify(images).radius, rtol=0, atol=0)


def test_a_run_folder_that_cannot_be_made_is_one_line(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    config = write_config(tmp_path / "a.yaml", images)
    said = terminal.error_line(train, "--config", config, "--run_dir", "/proc/none/run")
    assert "the run folder /proc/none/run cannot be made (No such file or directory): choose another" in said


@pytest.mark.parametrize("command", ["predict --ckpt_path mnist_l2nnn /nope", "evaluate --ckpt_path /nope"])
def test_a_missing_file_is_called_missing(tmp_path: Path, terminal: Terminal, command: str) -> None:
    assert re.match(r"error: there is no (file|checkpoint) /nope", terminal.error_line(main, *command.split()))
