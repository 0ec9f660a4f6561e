"""How an evaluation gains from a second process on the CPU."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.benchmark.made_up import write_run
from l2nnn_lightning.experiments.benchmark.rows import Row

__all__ = ["add_arguments", "run"]

_PROGRAM = "import sys; from l2nnn_lightning.training.cli import evaluate; sys.exit(evaluate())"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    parser.add_argument(
        "--evaluation_images", type=int, default=1000, help="evaluation: images attacked (default: 1000)"
    )
    parser.add_argument("--processes", type=int, default=2, help="evaluation: processes (default: 2)")


def run(options: argparse.Namespace) -> list[Row]:
    """Attack random images with evaluate.py in one process and in several, one thread each."""
    if options.evaluation_images < 1 or options.processes < 2:
        raise UserError("--evaluation_images must be at least 1 and --processes at least 2")
    ratios, alone, shared = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        shape = (1, 28, 28)
        checkpoint = write_run(Path(folder), "mnist_small", {}, shape, options.evaluation_images)
        args = ["--ckpt_path", str(checkpoint), "--output", str(Path(folder) / "out"), "--device", "cpu"]
        args += ["--attacks", "pgd_l2", "--max_iter", "200", "--attack_proven", "--eps", "0.01"]
        for _ in range(max(2, options.repeats // 5)):
            alone.append(_seconds([*args, "--processes", "1"]))
            shared.append(_seconds([*args, "--processes", str(options.processes)]))
            ratios.append(alone[-1] / shared[-1])
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return [
        Row(
            part="evaluation",
            subject=f"mnist_small, {options.evaluation_images} images under pgd_l2",
            what=f"1 process / {options.processes} processes, the whole command",
            ours=statistics.median(alone),
            other=statistics.median(shared),
            unit="s",
            ratio=statistics.median(ratios),
            quartiles=(low, high),
            target=">= 1.7",
        )
    ]


def _seconds(args: list[str]) -> float:
    """Time evaluate.py from its start to its end."""
    # One thread each: what is asked is what a second core brings, not whether torch's own threads do as well.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _PROGRAM, *args], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
