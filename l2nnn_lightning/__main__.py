"""``l2nnn COMMAND``: every command, and bad input as one line. Nothing heavy is imported here."""

import difflib
import os
import signal
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from l2nnn_lightning import __version__
from l2nnn_lightning.evaluation.arguments import one_line
from l2nnn_lightning.training.arguments import program
from l2nnn_lightning.training.heap import keep_freed_memory

__all__ = ["evaluate", "main", "run", "train"]

# The function that checks a command line without importing anything heavy, where there is one; the one that runs it;
# and what it does.
_COMMANDS = {
    "train": ("training.arguments:check_arguments", "training.command:run_training", "train a classifier"),
    "evaluate": (
        "evaluation.options:evaluate_options",
        "evaluation.command:run_evaluation",
        "what a checkpoint proves, what attacks leave of it, a report",
    ),
    "predict": (
        "evaluation.options:predict_options",
        "evaluation.predict:run_predict",
        "label, confidence gap and certified radius of image files",
    ),
    "export": (
        "evaluation.options:export_options",
        "evaluation.export.command:run_export",
        "write a checkpoint as ONNX, torch.export or safetensors, with its certificate",
    ),
    "verify": (
        "evaluation.options:verify_options",
        "evaluation.verify.command:run_verify",
        "prove the bounds of a checkpoint anew, in exact arithmetic",
    ),
    "demo": ("", "experiments.demo:run_demo", "train on embedded digits and evaluate"),
    "compare": ("", "experiments.compare:run_compare", "evaluated runs side by side, and the Pareto front"),
    "study": ("", "experiments.study.run:run_study", "the paper's tables; study sweep: your own combinations"),
    "soundness": (
        "experiments.soundness_options:soundness_options",
        "experiments.soundness:run_soundness",
        "try to break what is claimed, near boundaries",
    ),
    "benchmark": ("", "experiments.benchmark.run:run_benchmark", "what things cost, as ratios"),
    "dashboard": (
        "evaluation.options:dashboard_options",
        "evaluation.tracking.dashboard:run_dashboard",
        "save a W&B workspace of gap against accuracy",
    ),
    "pages": ("", "experiments.pages:run_pages", "fill the pages' tables from stored results"),
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    given = list(sys.argv[1:] if args is None else args)
    if given[:1] == ["--version"]:
        print(f"l2nnn-lightning {__version__}")
        return 0
    if not given or given[0] in ("-h", "--help"):
        width = max(map(len, _COMMANDS))
        lines = [f"  {name:<{width}}  {what}" for name, (_, _, what) in _COMMANDS.items()]
        usage = f"usage: {program('COMMAND')} [options]"
        print(usage, "", *lines, "", "COMMAND --help: its options; --version", sep="\n")
        return 0 if given else 2
    if given[0] not in _COMMANDS:
        nearest = difflib.get_close_matches(given[0], _COMMANDS, n=1)
        meant = f"did you mean {nearest[0]}?" if nearest else f"choose one of {', '.join(_COMMANDS)}"
        print(f"error: there is no command {given[0]!r}: {meant}", file=sys.stderr)
        return 2
    return run(given[0], given[1:], is_program=args is None)


def train(args: Sequence[str] | None = None) -> int:
    """Run ``train.py [fit] --config FILE [overrides]``; return the exit code."""
    return run("train", sys.argv[1:] if args is None else args, is_program=args is None)


def evaluate(args: Sequence[str] | None = None) -> int:
    """Run ``evaluate.py --ckpt_path FILE [options]``; return the exit code."""
    return run("evaluate", sys.argv[1:] if args is None else args, is_program=args is None)


def run(command: str, args: Sequence[str], *, is_program: bool = False) -> int:
    """Run a command; turn bad input into one line on standard error and exit code 2.

    A mistake in the command line, or what is raised as UserError, is bad input; anything else is a bug and keeps its
    traceback. With ``L2NNN_DEBUG=1`` in the environment the traceback is shown of everything.

    Args:
        command: its name.
        args: its command line.
        is_program: whether this process is ours: then SIGTERM ends it as Ctrl-C does, and it keeps the memory it frees.

    Returns:
        The exit code; 1 if another process died, or a part of the work failed.
    """
    check, work, _ = _COMMANDS[command]
    if is_program:
        signal.signal(signal.SIGTERM, _stop)
        keep_freed_memory()
    try:
        if check:
            _load(check)(list(args))
        # As a program of its own it has computed nothing yet, so that its helpers may be forked.
        is_fresh = is_program and command == "evaluate" and sys.platform == "linux"
        _load(work)(list(args), **({"start_method": "fork"} if is_fresh else {}))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        code = _exit_code(error)
        if code is None or os.environ.get("L2NNN_DEBUG") == "1":
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return code
    return 0


def _exit_code(error: Exception) -> int | None:
    """Return 2 for bad input, 1 for work that failed for a known reason, None for a bug."""
    if isinstance(error, ArgumentError):
        return 2
    from l2nnn_lightning.data.errors import FailedWorkError, UserError  # loaded already, where one can be raised

    if isinstance(error, UserError):
        return 2
    return 1 if isinstance(error, FailedWorkError) else None


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"l2nnn_lightning.{module}"), name)


def _stop(signum: int, _frame: object) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
