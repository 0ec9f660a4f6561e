"""Peak memory of an evaluation with certificates and an attack, each in a process of its own."""

import contextlib
import io
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from l2nnn_lightning.experiments.benchmark.networks import Shape, write_run
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row
from l2nnn_lightning.models import NetworkFactory, SeparateL2NNNs, TemplateNet
from l2nnn_lightning.training.heap import keep_freed_memory

__all__ = ["run"]

_SUBJECTS: tuple[tuple[str, NetworkFactory, Shape], ...] = (
    ("10 x 400 templates", partial(TemplateNet, templates_per_label=400), (1, 28, 28)),
    ("ten separate networks", SeparateL2NNNs, (3, 32, 32)),
)


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:
    """Evaluate random images with evaluate.py and read the peak of the whole process; on a GPU, of its memory too."""
    for subject, network, shape in _SUBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_run(Path(folder), network, shape, options.memory_images)
            args = ["--ckpt_path", str(checkpoint), "--output", str(Path(folder) / "out"), "--device", str(device)]
            args += ["--attacks", "cw", "--max_iter", "5", "--attack_proven"]
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                peaks = process.submit(_peaks, args, torch.get_num_threads()).result()
        for what, peak in peaks:
            yield Row("memory", subject, what, peak / 2**20, None, "MiB", target="<= 2048 MiB")


def _peaks(args: list[str], threads: int) -> list[tuple[str, float]]:
    from l2nnn_lightning.evaluation.command import run_evaluation

    torch.set_num_threads(threads)
    keep_freed_memory()  # as the command itself does
    with contextlib.redirect_stdout(io.StringIO()):
        run_evaluation(args)
    peaks = [("evaluation, peak of the process", peak_resident())]
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        peaks.append(("evaluation, peak on the GPU", float(torch.cuda.max_memory_allocated())))
    return peaks


def peak_resident() -> float:
    """Return the most memory this process ever held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would include what the parent held when it forked
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return 1024.0 * int(lines["VmHWM"].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else 1024.0 * peak
