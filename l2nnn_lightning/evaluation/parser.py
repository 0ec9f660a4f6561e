"""The command line of ``evaluate.py``: its options, and everything about them that can be checked at once."""

import argparse
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from l2nnn_lightning.attacks import ATTACKS
from l2nnn_lightning.data import DATAMODULES
from l2nnn_lightning.data.errors import UserError

__all__ = ["evaluation_parser", "parse_options"]

RADII = "0.5,1,1.58,2,3"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see evaluate.py --help")


def evaluation_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = _Parser(prog="evaluate.py", description="Measure what a checkpoint proves and what attacks leave of it.")
    add = parser.add_argument
    add("--ckpt_path", required=True, help="the checkpoint")
    add("--data", choices=sorted(DATAMODULES), help="another data set than the checkpoint's own")
    add("--root", help="where the data set is, if not where it was in training")
    add("--split", choices=("test", "val", "train"), default="test", help="the images (default: test)")
    add("--limit", type=int, help="only the first N images")
    add("--radii", help=f"radii of certified accuracy, such as 0.5,36/255 (default: {RADII})")
    add("--attacks", default="", help="names, separated by commas, such as cw,pgd_l2")
    add("--eps", type=float, default=1.58, help="the attacks' largest perturbation (default: 1.58)")
    add(
        "--max_iter",
        help="the attacks' iterations (default: each attack's own); several, such as 1000,10000, give a row each, and "
        "the longer attack skips what the shorter one broke",
    )
    add("--restarts", type=int, default=1, help="attempts from other random starts (default: 1)")
    add("--minimum_norm", action="store_true", help="cw: the nearest adversary, also beyond eps")
    add("--attack_proven", action="store_true", help="attack also what is proven safe within eps")
    add("--jacobian", type=int, help="measure the norm of the Jacobian at the first N images")
    add("--fallback", help="the hybrid model: this checkpoint answers where the gap is below --threshold")
    add("--threshold", type=float, help="the smallest gap that is not delegated to --fallback (default: 1.0)")
    add("--noisy", action="store_true", help="measure the (noisy) training labels too: all, clean and changed ones")
    add("--output", help="the folder to write (default: evaluation/ in the run folder)")
    add("--batch_size", type=int, help="images at once (default: 100 on a CPU, 500 elsewhere)")
    add("--device", help="cpu, cuda or mps (default: the best there is)")
    add("--processes", type=int, default=1, help="share the work among N processes on the CPU; or use torchrun")
    add("--seed", type=int, default=0, help="seed of the attacks (default: 0)")
    add("--wandb", action="store_true", help="put the results into the W&B run of the training, too")
    return parser


def parse_options(args: Sequence[str]) -> argparse.Namespace:
    """Parse the command line and refuse what cannot work, before anything is read.

    Args:
        args: the command line.

    Returns:
        The options. ``radii`` is a list of numbers and ``radii_given`` tells whether they were asked for; ``attacks``
        is a list of names; ``max_iter`` a list of iterations, growing and possibly empty.

    Raises:
        UserError: for bad input, in one line.
    """
    options = evaluation_parser().parse_args(args)
    options.radii_given = options.radii is not None
    options.radii = _numbers("--radii", RADII if options.radii is None else options.radii)
    options.max_iter = [] if options.max_iter is None else _iterations(options.max_iter)
    for name, least in (
        ("limit", 1),
        ("restarts", 1),
        ("jacobian", 1),
        ("batch_size", 1),
        ("processes", 1),
        ("seed", 0),
    ):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be at least {least}, got {value}")
    if options.processes > 1 and options.device not in (None, "cpu"):
        raise UserError(
            f"--processes is for the CPU: start one process for each GPU with torchrun, got {options.device}"
        )
    if not 0 < options.eps < math.inf:
        raise UserError(f"--eps must be positive and finite, got {options.eps}")
    options.attacks = list(dict.fromkeys(name.strip() for name in options.attacks.split(",") if name.strip()))
    if options.threshold is not None and options.fallback is None:
        raise UserError("--threshold belongs to the hybrid model: name the other checkpoint with --fallback")
    options.threshold = 1.0 if options.threshold is None else options.threshold
    if not 0 <= options.threshold < math.inf:
        raise UserError(f"--threshold must be finite and not negative, got {options.threshold}")
    for name in options.attacks:
        if name not in ATTACKS:
            raise UserError(f"unknown attack {name!r}: --attacks takes {', '.join(ATTACKS)}")
    return options


def _iterations(text: str) -> list[int]:
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--max_iter must be whole numbers separated by commas, got {text!r}") from None
    if numbers[0] < 1:
        raise UserError(f"--max_iter must be at least 1, got {numbers[0]}")
    return numbers


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(Fraction(part)) if "/" in part else float(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UserError(f"{option} must be numbers or fractions separated by commas, got {text!r}") from None
    if not all(0 <= number < math.inf for number in numbers):
        raise UserError(f"{option} must be finite and not negative, got {text!r}")
    return numbers
