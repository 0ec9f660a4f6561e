"""What a run of train.py leaves, for the tests that compare two of them."""

import csv
from pathlib import Path

import torch
from torch import Tensor


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tensors(run: Path) -> dict[str, Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    found = {f"weights {key}": value for key, value in checkpoint["state_dict"].items()}
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        found |= {f"optimizer {number} {key}": value for key, value in state.items()}
    return found


def assert_same_state(run: Path, other: Path) -> None:
    ours, theirs = tensors(run), tensors(other)
    assert ours.keys() == theirs.keys()
    different = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert not different
