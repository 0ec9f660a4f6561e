"""The command line of the benchmark."""

import argparse
import dataclasses
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.environment import hardware, versions
from l2nnn_lightning.evaluation.report.files import write_json
from l2nnn_lightning.experiments.benchmark import attacks, data, evaluation, inference, libraries, memory, step
from l2nnn_lightning.experiments.benchmark.networks import add_network_arguments
from l2nnn_lightning.experiments.benchmark.rows import Row, table
from l2nnn_lightning.training import command_line

__all__ = ["PARTS", "main"]

PARTS: dict[str, ModuleType] = {
    "step": step,
    "inference": inference,
    "data": data,
    "libraries": libraries,
    "memory": memory,
    "evaluation": evaluation,
    "attacks": attacks,
}
"""By name: the modules that measure, each with ``add_arguments(parser)`` and ``run(options) -> list[Row]``."""


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print a table and, if asked, write JSON; return the exit code."""
    return command_line.main(_run, args)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see python -m l2nnn_lightning.benchmark --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m l2nnn_lightning.benchmark",
        description="What things cost, as ratios measured side by side in one run.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    add_network_arguments(parser)
    parser.add_argument("--batch_size", type=int, default=256, help="images a step (default: 256)")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of each (default: 15)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    for part in PARTS.values():
        part.add_arguments(parser)
    return parser


def _run(args: Sequence[str]) -> None:
    options = _parser().parse_args(args)
    for name in options.parts:
        if name not in PARTS:
            raise UserError(f"unknown part {name!r}: choose from {', '.join(PARTS)}")
    if options.repeats < 2 or options.batch_size < 1:
        raise UserError("--repeats must be at least 2 and --batch_size at least 1")
    if options.threads is not None:
        if options.threads < 1:
            raise UserError(f"--threads must be at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)
    options.device = _device(options.device)
    started = time.perf_counter()
    rows: list[Row] = []
    for name in options.parts or PARTS:
        rows += PARTS[name].run(options)
    title = f"batch {options.batch_size}, {torch.get_num_threads()} threads, {hardware(options.device)}"
    Console(width=160).print(table(rows, title))
    results = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "command": shlex.join(["python", "-m", "l2nnn_lightning.benchmark", *args]),
        "seconds": time.perf_counter() - started,
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "hardware": hardware(options.device),
        "versions": versions(),
    }
    if options.output is not None:
        write_json(options.output, results)
    else:
        print(json.dumps({"hardware": results["hardware"], "threads": results["threads"]}))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} is not available here: use cpu") from error
    return device
