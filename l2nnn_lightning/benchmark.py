"""``python -m l2nnn_lightning.benchmark``: what the constraint costs, as ratios measured side by side in one run."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from l2nnn_lightning.evaluation.environment import hardware, versions
from l2nnn_lightning.evaluation.files import write_json
from l2nnn_lightning.losses import L2NNNLoss
from l2nnn_lightning.models import L2NNNS, build_network
from l2nnn_lightning.nn import fold, harden

__all__ = ["main", "time_together"]


def time_together(
    tasks: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Time several tasks in turns, so that whatever else the machine does falls on all alike.

    Args:
        tasks: by name; each is run twice beforehand.
        repeats: timed runs of each.
        device: waited for before each reading of the clock.

    Returns:
        Seconds of each run, by name.
    """
    for task in tasks.values():
        task()
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            _wait(device)
            started = time.perf_counter()
            task()
            _wait(device)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _training_step(network: nn.Module, image: Tensor, label: Tensor) -> Callable[[], None]:
    loss = L2NNNLoss(10).to(image.device)
    parameters = [p for p in (*network.parameters(), *loss.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(network(image), label)["loss"].backward()
        optimizer.step()

    return step


def _forward(network: nn.Module, image: Tensor) -> Callable[[], Tensor]:
    @torch.no_grad()
    def forward() -> Tensor:
        logits: Tensor = network(image)
        return logits

    return forward


def measure(name: str, batch_size: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Compare a hard network with its plain twin: a training step, and inference when folded.

    Returns:
        One row a comparison: what, its median seconds, the plain median, the ratio and the spread of both.
    """
    image_shape = (3, 32, 32) if name.startswith("cifar") else (1, 28, 28)
    torch.manual_seed(0)
    network = harden(build_network(L2NNNS, name, image_shape, 10, None)).to(device)
    plain = fold(network)
    image = torch.rand(batch_size, *image_shape, device=device)
    label = torch.randint(10, (batch_size,), device=device)
    rows = []
    for what, ours, theirs in (
        ("training step, hard / plain", _training_step(network, image, label), _training_step(plain, image, label)),
        ("inference, folded / plain", _forward(fold(network).eval(), image), _forward(plain.eval(), image)),
    ):
        seconds = time_together({"ours": ours, "plain": theirs}, repeats, device)
        # The ratio of neighbouring runs is steadier than the ratio of two medians on a busy machine.
        ratios = [a / b for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]
        rows.append(
            {
                "network": name,
                "what": what,
                "batch_size": batch_size,
                "seconds": statistics.median(seconds["ours"]),
                "seconds_plain": statistics.median(seconds["plain"]),
                "ratio": statistics.median(ratios),
                "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
            }
        )
    return rows


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print a table and, if asked, write JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m l2nnn_lightning.benchmark", description=__doc__)
    parser.add_argument("--networks", default="mnist_small,mnist_paper", help="names, separated by commas")
    parser.add_argument("--batch_size", type=int, default=256, help="images a step (default: 256)")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of each (default: 15)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(args)
    for name in options.networks.split(","):
        if name not in L2NNNS:
            parser.error(f"unknown network {name!r}: --networks takes {', '.join(L2NNNS)}")
    if options.repeats < 2 or options.batch_size < 1:
        parser.error("--repeats must be at least 2 and --batch_size at least 1")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows = [
        row
        for name in options.networks.split(",")
        for row in measure(name, options.batch_size, options.repeats, device)
    ]
    table = Table("network", "what", "ours", "plain", "ratio", "quartiles", title=f"batch {options.batch_size}")
    for row in rows:
        low, high = row["ratio_quartiles"]
        table.add_row(
            row["network"],
            row["what"],
            f"{1e3 * row['seconds']:.1f} ms",
            f"{1e3 * row['seconds_plain']:.1f} ms",
            f"{row['ratio']:.3f}",
            f"{low:.3f} to {high:.3f}",
        )
    Console().print(table)
    results = {
        "rows": rows,
        "threads": torch.get_num_threads(),
        "hardware": hardware(device),
        "versions": versions(),
    }
    if options.output is not None:
        write_json(options.output, results)
    else:
        print(json.dumps({"hardware": results["hardware"], "threads": results["threads"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
