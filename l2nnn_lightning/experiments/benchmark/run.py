"""``python -m l2nnn_lightning benchmark [PART ...]``: measure, print one table and, if asked, write it as JSON."""

import json
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from l2nnn_lightning.evaluation.arguments import parse_options
from l2nnn_lightning.training.arguments import program

__all__ = ["PARTS", "BenchmarkOptions", "run_benchmark"]

PARTS = ("step", "optimizers", "inference", "data", "libraries", "memory", "evaluation", "attacks")
"""The modules that measure, each with ``run(options, device)``, which gives rows."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What things cost, as ratios measured side by side in one run.

    Args:
        parts: step, optimizers, inference, data, libraries, memory, evaluation, attacks; all by default.
        networks: names, separated by commas.
        bounds: bounds of their layers, separated by commas.
        image_shape: channels,height,width; by default 3,32,32 for cifar*, 1,28,28 for others.
        batch_size: images a step.
        repeats: timed runs of each, at least 2.
        threads: CPU threads, by default torch's choice.
        device: cpu or cuda, by default cuda where there is one.
        output: a JSON file to write.
        compile: step: compile both networks.
        epoch_size: data: images an epoch.
        workers: data: worker processes of the DataLoader.
        memory_images: memory: images evaluated.
        evaluation_images: evaluation: images attacked.
        processes: evaluation: processes, at least 2.
        attack_checkpoints: attacks: checkpoints, separated by commas; without them it is left out.
        attack_root: attacks: where their data set is, if not where it was in training.
        attack_images: attacks: test images for the norms.
        attack_timed: attacks: test images for the time.
        attack_iterations: attacks: iterations for each c.
        attack_eps: attacks: L2 radius of the timed verdicts.
        attack_batch: attacks: images at once, of both.
    """

    parts: tuple[str, ...] = ()
    networks: str = "mnist_small,mnist_paper"
    bounds: str = "gram"
    image_shape: str | None = None
    batch_size: PositiveInt = 256
    repeats: PositiveInt = 15
    threads: PositiveInt | None = None
    device: str | None = None
    output: Path | None = None
    compile: bool = False
    epoch_size: PositiveInt = 10000
    workers: NonNegativeInt = 0
    memory_images: PositiveInt = 1000
    evaluation_images: PositiveInt = 1000
    processes: PositiveInt = 2
    attack_checkpoints: str = ""
    attack_root: str | None = None
    attack_images: NonNegativeInt = 200
    attack_timed: NonNegativeInt = 1000
    attack_iterations: PositiveInt = 1000
    attack_eps: PositiveFloat = 3.0
    attack_batch: PositiveInt = 100

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"unknown part {part!r}: choose from {', '.join(PARTS)}")
        for name in ("repeats", "processes"):
            if getattr(self, name) < 2:
                raise ValueError(f"--{name} must be at least 2, got {getattr(self, name)}")
        if not math.isfinite(self.attack_eps):
            raise ValueError(f"--attack_eps must be finite, got {self.attack_eps}")
        if "attacks" in self.parts and not self.attack_checkpoints:
            raise ValueError("the part attacks needs --attack_checkpoints: name .ckpt files, separated by commas")
        if self.epoch_size < self.batch_size and "data" in (self.parts or PARTS):
            raise ValueError("--epoch_size must be at least --batch_size")


def run_benchmark(args: Sequence[str]) -> None:
    """Measure the parts that are named, print their rows and write them, with hardware and versions.

    Args:
        args: the command line, see :class:`BenchmarkOptions`.

    Raises:
        ArgumentError, UserError: for bad input, in one line.
    """
    options = parse_options(BenchmarkOptions, args, program("benchmark"), {"parts": "*"})
    # Only now, since they need torch.
    import torch
    from rich.console import Console

    from l2nnn_lightning.evaluation.report.files import hardware, versions, write_json
    from l2nnn_lightning.experiments.benchmark.timing import Row, table, usable_device

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = usable_device(options.device)
    started = time.perf_counter()
    rows: list[Row] = []
    for name in options.parts or PARTS:
        rows += import_module(f"l2nnn_lightning.experiments.benchmark.{name}").run(options, device)
    machine = {"hardware": hardware(device), "threads": torch.get_num_threads()}
    title = f"batch {options.batch_size}, {machine['threads']} threads, {machine['hardware']}"
    Console(width=160).print(table(rows, title))
    if options.output is None:
        print(json.dumps(machine))
        return
    results = {
        "rows": [asdict(row) for row in rows],
        "command": shlex.join(["python", "-m", "l2nnn_lightning.benchmark", *args]),
        "seconds": time.perf_counter() - started,
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "versions": versions(),
    }
    write_json(options.output, results | machine)
