"""How an evaluation gains from a second process on the CPU."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from l2nnn_lightning.experiments.benchmark.networks import write_run
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row, compare
from l2nnn_lightning.models import ConvL2NNN

__all__ = ["run"]

_PROGRAM = "import sys; from l2nnn_lightning.__main__ import evaluate; sys.exit(evaluate())"


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:  # noqa: ARG001 (processes share a CPU)
    """Attack random images with evaluate.py in one process and in several, one thread each."""
    # One thread each: what is asked is what a second core brings, not whether torch's own threads do as well.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def evaluate(args: list[str], processes: int) -> None:
        command = [sys.executable, "-c", _PROGRAM, *args, "--processes", str(processes)]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_run(Path(folder), ConvL2NNN, (1, 28, 28), options.evaluation_images)
        args = ["--ckpt_path", str(checkpoint), "--output", str(Path(folder) / "out"), "--device", "cpu"]
        args += ["--attacks", "pgd_l2", "--max_iter", "200", "--attack_proven", "--eps", "0.01"]
        yield compare(
            "evaluation",
            f"mnist_small, {options.evaluation_images} images under pgd_l2",
            f"1 process / {options.processes} processes, the whole command",
            partial(evaluate, args, 1),
            partial(evaluate, args, options.processes),
            repeats=max(2, options.repeats // 5),
            device=torch.device("cpu"),
            target=">= 1.7",
            warm_ups=0,
        )
