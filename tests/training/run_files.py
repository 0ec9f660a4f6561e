"""What a run of train.py leaves, for the tests that compare two of them."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

#: What test modules that call train.py say: no test writes into the checkout, nor inherits a run folder.
ELSEWHERE = [
    pytest.mark.usefixtures("elsewhere"),
    # Lightning 2.6 calls jsonargparse by names that it has deprecated since.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Some runs are copies of others.
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy(run: Path, place: Path) -> Path:
    """Copy a run; return its last checkpoint."""
    shutil.copytree(run, place)
    return place / "checkpoints" / "last.ckpt"


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
