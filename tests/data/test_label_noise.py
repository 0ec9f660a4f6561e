from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_images import StripesDataModule

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.label_noise import (
    asymmetric_noise,
    labels_from_file,
    symmetric_noise,
    transition_from_file,
    transition_noise,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.75, 1.0])
def test_symmetric_noise_redraws_the_fraction_uniformly(fraction: float) -> None:
    labels = torch.arange(50_000) % 10
    noisy = symmetric_noise(labels, fraction, 10, seeded())
    # A redrawn label equals the original one time in ten; four standard deviations of the binomial count.
    redrawn = fraction * len(labels)
    changed = int((noisy != labels).sum())
    assert abs(changed - 0.9 * redrawn) <= 4 * (0.09 * redrawn) ** 0.5
    if fraction == 1.0:
        # Independent of the original: every cell of the 10x10 table has 500 expected.
        table = torch.bincount(labels * 10 + noisy, minlength=100)
        assert float(((table - 500.0) ** 2 / 500).sum()) < 81 + 5 * (2 * 81) ** 0.5


def test_symmetric_noise_redraws_exactly_the_rounded_count() -> None:
    # Labels outside the range of new ones: every redrawn label shows.
    labels = torch.full((999,), 10)
    assert int((symmetric_noise(labels, 0.3333, 10, seeded()) != labels).sum()) == round(0.3333 * 999)


def test_noise_follows_its_seed_and_leaves_its_input_alone() -> None:
    labels = torch.arange(1000) % 10
    first, again, other = (symmetric_noise(labels, 0.5, 10, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(labels, torch.arange(1000) % 10)


def test_asymmetric_noise_moves_a_fraction_of_each_listed_class() -> None:
    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 30)
    noisy = asymmetric_noise(labels, 0.4, {0: 1, 1: 0}, seeded())
    table = np.zeros((3, 3), dtype=int)
    for before, after in zip(labels.tolist(), noisy.tolist(), strict=True):
        table[before, after] += 1
    assert table.tolist() == [[6, 4, 0], [8, 12, 0], [0, 0, 30]]


@pytest.mark.parametrize("suffix", [".npy", ".txt"])
def test_labels_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noisy{suffix}"
    values = np.array([3, 1, 2])
    np.save(path, values) if suffix == ".npy" else path.write_text("3\n1\n2\n")
    read = labels_from_file(path, 3, 4)
    assert read.tolist() == values.tolist()
    assert read.dtype == torch.int64


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (labels_from_file, "1\n2\n", "must hold 3 integers"),
        (labels_from_file, "1\n2\n9\n", r"labels in \[0, 3\], got 1 to 9"),
        (labels_from_file, "1\n2\n-1\n", r"labels in \[0, 3\], got -1 to 2"),
        (labels_from_file, "cat\ndog\ncat\n", "one integer a line"),
        (labels_from_file, "", "must hold 3 integers"),
        (labels_from_file, np.zeros(3), "must hold 3 integers"),
        (labels_from_file, np.array([{}, {}, {}]), "one integer a line, or be a .npy array"),
        (labels_from_file, None, "does not exist"),
        (transition_from_file, "1 0\n0 1\n", r"must hold 3 rows of 3 probabilities, got shape \(2, 2\)"),
        (transition_from_file, "1 0 0\n0 1 0\n0 0 0.5\n", "rows sum to 1"),
        (transition_from_file, "2 -1 0\n0 1 0\n0 0 1\n", ">= 0"),
        (transition_from_file, "nan 0 0\n0 1 0\n0 0 1\n", ">= 0"),
        (transition_from_file, "a b c\n", "must hold numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*input contained no data")  # numpy's words about the empty file
def test_a_wrong_file_is_refused(tmp_path: Path, read: Any, content: Any, message: str) -> None:
    path = tmp_path / ("noisy.npy" if type(content) is np.ndarray else "noisy.txt")
    if type(content) is np.ndarray:
        np.save(path, content, allow_pickle=True)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read(path, 3, 4) if read is labels_from_file else read(path, 3)


def test_transition_noise_draws_from_the_row_of_each_class() -> None:
    labels = torch.arange(60_000) % 3
    matrix = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.1, 0.0, 0.9]])
    noisy = transition_noise(labels, matrix, seeded())
    table = torch.bincount(labels * 3 + noisy, minlength=9).reshape(3, 3) / 20_000
    # Four standard deviations of a frequency among 20,000.
    assert bool(((table - matrix).abs() <= 4 * (matrix * (1 - matrix) / 20_000).sqrt()).all())
    assert torch.equal(noisy, transition_noise(labels, matrix, seeded()))
    assert not torch.equal(noisy, transition_noise(labels, matrix, seeded(1)))


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".csv"])
def test_transition_comes_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"matrix{suffix}"
    values = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    if suffix == ".npy":
        np.save(path, values)
    else:
        np.savetxt(path, values, delimiter="," if suffix == ".csv" else " ")
    assert transition_from_file(path, 3).tolist() == values.tolist()
    datamodule = StripesDataModule(label_noise_kind="transition", label_noise_file=str(path), val_size=6)
    datamodule.setup("fit")
    assert torch.equal(datamodule.train_set.labels, (datamodule.train_set.clean_labels + 1) % 3)
