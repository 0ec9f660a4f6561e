"""``python -m l2nnn_lightning demo``: train the default config on embedded digits, evaluate it, name the report."""

from collections.abc import Sequence
from dataclasses import dataclass

from l2nnn_lightning.evaluation.arguments import parse_options
from l2nnn_lightning.training.arguments import DEFAULT_CONFIG

__all__ = ["run_demo"]


@dataclass(frozen=True)
class DemoOptions:
    """Train on embedded digits, evaluate, print the table (some minutes)."""


def run_demo(args: Sequence[str]) -> None:
    """Run train.py and evaluate.py as a user would."""
    parse_options(DemoOptions, args, "python -m l2nnn_lightning demo")
    from l2nnn_lightning.evaluation.command import run_evaluation
    from l2nnn_lightning.training.command import run_training
    from l2nnn_lightning.training.run_folder import new_run_folder

    folder = new_run_folder("demo")
    run_training(["--config", DEFAULT_CONFIG, "--run_dir", str(folder)])
    run_evaluation(["--ckpt_path", str(folder / "checkpoints" / "best.ckpt")])
