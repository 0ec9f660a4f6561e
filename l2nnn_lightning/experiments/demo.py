"""``l2nnn demo``: train the default config on embedded digits, evaluate it, name the report."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from l2nnn_lightning.evaluation.arguments import parse_options
from l2nnn_lightning.training.arguments import program
from l2nnn_lightning.training.configs import DEFAULT_CONFIG

__all__ = ["run_demo"]


@dataclass(frozen=True)
class DemoOptions:
    """Train on embedded digits, evaluate, print the table: a minute or two on two CPU cores.

    Args:
        fast: train for one epoch only, to see that everything works: seconds.
    """

    fast: bool = False


def run_demo(args: Sequence[str]) -> None:
    """Train and evaluate as a user would."""
    options = parse_options(DemoOptions, args, program("demo"))
    print(f"demo: trains {DEFAULT_CONFIG} on 5000 embedded digits, then evaluates it", flush=True)
    started = time.perf_counter()
    # Only now, since these need torch.
    from l2nnn_lightning.evaluation.command import run_evaluation
    from l2nnn_lightning.training.command import run_training
    from l2nnn_lightning.training.run_folder import new_run_folder

    folder = new_run_folder("demo")
    shorter = ["--trainer.max_epochs", "1"] if options.fast else []
    run_training(["--config", DEFAULT_CONFIG, "--run_dir", str(folder), *shorter])
    run_evaluation(["--ckpt_path", str(folder / "checkpoints" / "best.ckpt")])
    print(f"all of it took {time.perf_counter() - started:.0f} s")
