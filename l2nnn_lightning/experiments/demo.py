"""``python -m l2nnn_lightning demo``: train the default config on embedded digits, evaluate it, name the report."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from l2nnn_lightning.evaluation.arguments import parse_options

__all__ = ["run_demo"]


@dataclass(frozen=True)
class DemoOptions:
    """Train on embedded digits, evaluate, print the table (some minutes)."""


def run_demo(args: Sequence[str]) -> None:
    """Run train.py and evaluate.py as a user would; exits with the code of the one that failed."""
    parse_options(DemoOptions, args, "python -m l2nnn_lightning demo")
    from l2nnn_lightning.training import cli
    from l2nnn_lightning.training.run_folder import new_run_folder

    folder = new_run_folder("demo")
    code = cli.train(["--config", cli.DEFAULT_CONFIG, "--run_dir", str(folder)])
    code = code or cli.evaluate(["--ckpt_path", str(folder / "checkpoints" / "best.ckpt")])
    if code != 0:
        sys.exit(code)
