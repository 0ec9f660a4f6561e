"""Wrong labels: uniformly random, by confusable classes, by a matrix, or as recorded in a file (section 3.3)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from l2nnn_lightning.data.errors import UserError

__all__ = ["asymmetric_noise", "labels_from_file", "symmetric_noise", "transition_from_file", "transition_noise"]

# How far the sum of written probabilities may be from 1.
_SUM_TOLERANCE = 1e-4


def symmetric_noise(labels: Tensor, fraction: float, num_labels: int, generator: torch.Generator) -> Tensor:
    """Replace a fraction of the labels by uniformly random ones, which may equal the original (section 3.3).

    Args:
        labels: int64 (N,).
        fraction: in [0, 1]; exactly ``round(fraction * N)`` labels are redrawn.
        num_labels: K, the new labels are drawn from 0 .. K-1.
        generator: source of randomness.

    Returns:
        The noisy labels, int64 (N,).

    Example:
        >>> labels = torch.zeros(1000, dtype=torch.int64)
        >>> noisy = symmetric_noise(labels, 0.5, 10, torch.Generator().manual_seed(0))
        >>> bool(400 < (noisy != labels).sum() < 500)
        True
    """
    count = round(fraction * len(labels))
    chosen = torch.randperm(len(labels), generator=generator)[:count]
    noisy = labels.clone()
    noisy[chosen] = torch.randint(num_labels, (count,), generator=generator)
    return noisy


def asymmetric_noise(
    labels: Tensor, fraction: float, transition: Mapping[int, int], generator: torch.Generator
) -> Tensor:
    """Turn a fraction of the labels of each listed class into the class it is confused with.

    Args:
        labels: int64 (N,).
        fraction: in [0, 1]; exactly ``round(fraction * N_c)`` of the ``N_c`` labels of each listed class change.
        transition: class -> the class it is taken for. Classes that are not listed keep their labels.
        generator: source of randomness.

    Returns:
        The noisy labels, int64 (N,).

    References:
        Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017, section 5.

    Example:
        >>> asymmetric_noise(torch.tensor([2, 2, 3]), 1.0, {2: 7}, torch.Generator())
        tensor([7, 7, 3])
    """
    noisy = labels.clone()
    for source, target in sorted(transition.items()):
        members = (labels == source).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        noisy[members[order[: round(fraction * len(members))]]] = target
    return noisy


def transition_noise(labels: Tensor, matrix_KK: Tensor, generator: torch.Generator) -> Tensor:
    """Draw each label anew from the row of its class: class-dependent noise.

    Args:
        labels: int64 (N,), in 0 .. K-1.
        matrix_KK: the probability that a label of the row's class becomes the column's; rows sum to 1.
        generator: source of randomness.

    Returns:
        The noisy labels, int64 (N,).

    Example:
        >>> matrix = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        >>> transition_noise(torch.tensor([0, 1, 0]), matrix, torch.Generator())
        tensor([1, 1, 1])
    """
    noisy = labels.clone()
    for source, row_K in enumerate(matrix_KK):
        members = (labels == source).nonzero().flatten()
        if len(members):
            noisy[members] = torch.multinomial(row_K.double(), len(members), replacement=True, generator=generator)
    return noisy


def transition_from_file(path: Path, num_labels: int) -> Tensor:
    """Read a transition matrix.

    Args:
        path: a ``.npy`` array, or a text file with one row a line; numbers >= 0, each row sums to 1.
        num_labels: K.

    Returns:
        float64 (K, K).

    Raises:
        UserError: if the file is missing, unreadable, or no such matrix.
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False).astype(np.float64)
        else:
            values = np.loadtxt(path, ndmin=2, delimiter="," if path.suffix == ".csv" else None)
    except FileNotFoundError:
        raise UserError(f"label_noise_file {path} does not exist") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"label_noise_file {path} must hold numbers, one row of the matrix a line: {error}") from error
    if values.shape != (num_labels, num_labels):
        raise UserError(
            f"label_noise_file {path} must hold {num_labels} rows of {num_labels} probabilities, "
            f"got shape {values.shape}"
        )
    if not (values >= 0).all() or not np.allclose(values.sum(1), 1, rtol=0, atol=_SUM_TOLERANCE):
        raise UserError(f"label_noise_file {path} must hold probabilities >= 0 whose rows sum to 1")
    return torch.from_numpy(values)


def labels_from_file(path: Path, count: int, num_labels: int) -> Tensor:
    """Read one label per training image, in the data set's own order.

    Args:
        path: a ``.npy`` array of integers, or a text file with one integer a line.
        count: how many labels there must be.
        num_labels: K, labels must lie in 0 .. K-1.

    Returns:
        int64 (count,).

    Raises:
        UserError: if the file is missing, unreadable, or does not fit.
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = np.loadtxt(path, dtype=np.int64, ndmin=1)
    except FileNotFoundError:
        raise UserError(f"label_noise_file {path} does not exist") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"label_noise_file {path} must be a .npy array or a text file with one integer a line: {error}"
        ) from error
    if not np.issubdtype(values.dtype, np.integer) or values.shape != (count,):
        raise UserError(
            f"label_noise_file {path} must hold {count} integers, one per training image, "
            f"got {values.dtype} of shape {values.shape}"
        )
    if values.min() < 0 or values.max() >= num_labels:
        raise UserError(
            f"label_noise_file {path} must hold labels in [0, {num_labels - 1}], got {values.min()} to {values.max()}"
        )
    return torch.from_numpy(values.astype(np.int64))
