"""Peak memory of an evaluation with certificates and an attack, each in a process of its own."""

import argparse
import contextlib
import io
import multiprocessing
import resource
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.benchmark.made_up import write_run
from l2nnn_lightning.experiments.benchmark.rows import Row
from l2nnn_lightning.training.heap import keep_freed_memory

__all__ = ["add_arguments", "run"]

_SUBJECTS: tuple[tuple[str, str, dict[str, Any], tuple[int, int, int]], ...] = (
    ("10 x 400 templates", "templates", {"templates_per_label": 400}, (1, 28, 28)),
    ("ten separate networks", "cifar_paper", {}, (3, 32, 32)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    parser.add_argument("--memory_images", type=int, default=1000, help="memory: images evaluated (default: 1000)")


def run(options: argparse.Namespace) -> list[Row]:
    """Evaluate random images with evaluate.py and read the peak of the whole process; on a GPU, of its memory too."""
    if options.memory_images < 1:
        raise UserError(f"--memory_images must be at least 1, got {options.memory_images}")
    rows = []
    for subject, network, network_args, shape in _SUBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_run(Path(folder), network, network_args, shape, options.memory_images)
            peaks = _peaks_of(["--ckpt_path", str(checkpoint), "--output", str(Path(folder) / "out")], options)
        for what, peak in peaks.items():
            rows.append(Row("memory", subject, what, peak / 2**20, None, "MiB", target="<= 2048 MiB"))
    return rows


def _peaks_of(args: list[str], options: argparse.Namespace) -> dict[str, float]:
    args += ["--attacks", "cw", "--max_iter", "5", "--attack_proven", "--device", str(options.device)]
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_evaluate, args=(sender, args, torch.get_num_threads()))
    process.start()
    sender.close()
    try:
        peaks: dict[str, float] = receiver.recv()
    except EOFError:
        raise RuntimeError(f"the evaluation whose memory was measured failed: evaluate.py {' '.join(args)}") from None
    finally:
        process.join()
    return peaks


def _evaluate(sender: Connection, args: list[str], threads: int) -> None:
    from l2nnn_lightning.evaluation.command import run_evaluation

    torch.set_num_threads(threads)
    keep_freed_memory()  # as the command itself does
    with contextlib.redirect_stdout(io.StringIO()):
        run_evaluation(args)
    peaks = {"evaluation, peak of the process": _peak_resident()}
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        peaks["evaluation, peak on the GPU"] = float(torch.cuda.max_memory_allocated())
    sender.send(peaks)


def _peak_resident() -> float:
    """Return the most memory this process ever held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would include what the parent held when it forked
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return 1024.0 * int(lines["VmHWM"].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else 1024.0 * peak
