"""train.py --compile: the same training, and the same names in checkpoints."""

from pathlib import Path

import pytest
import torch
from made_up_images import write_config
from terminal import Terminal

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.__main__ import train

# Lightning 2.6 calls jsonargparse, and torch's compiler itself, by names that have been deprecated since.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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


def test_unknown_compiler_is_refused_in_one_line(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    line = terminal.error_line(train, "--config", write_config(tmp_path / "a.yaml", images), "--compile", "gcc")
    assert "--compile must be true, false or one of " in line
    assert line.endswith("got 'gcc'\n")
    assert "inductor" in line
