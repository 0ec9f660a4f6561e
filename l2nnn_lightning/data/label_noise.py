"""Wrong labels: uniformly random, by confusable classes, by a matrix, or as recorded in a file (section 3.3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from l2nnn_lightning.data.errors import UserError

__all__ = ["LabelNoise", "asymmetric_noise", "labels_from_file", "name_pairs", "symmetric_noise"]
__all__ += ["transition_from_file", "transition_noise"]

LabelNoise = Literal["symmetric", "asymmetric", "transition", "file"]
# How far the sum of written probabilities may be from 1.
_SUM_TOLERANCE = 1e-4


def symmetric_noise(labels: Tensor, fraction: float, num_labels: int, generator: torch.Generator) -> Tensor:
    """Replace ``round(fraction * N)`` of N labels by uniformly random ones, maybe the same again (section 3.3)."""
    count = round(fraction * len(labels))
    chosen = torch.randperm(len(labels), generator=generator)[:count]
    noisy = labels.clone()
    noisy[chosen] = torch.randint(num_labels, (count,), generator=generator)
    return noisy


def asymmetric_noise(
    labels: Tensor, fraction: float, transition: Mapping[int, int], generator: torch.Generator
) -> Tensor:
    """Turn ``round(fraction * N_c)`` of the ``N_c`` labels of each listed class into the class it is taken for.

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


def name_pairs(names: Sequence[str], pairs: Mapping[str, str] | None) -> dict[int, int]:
    """Number the labels of ``pairs``, or a UserError; without any, each label is taken for the next one."""
    if pairs is None:
        return {label: (label + 1) % len(names) for label in range(len(names))}
    for name in [*pairs, *pairs.values()]:
        if name not in names:
            raise UserError(f"label_noise_pairs must use the labels {', '.join(names)}, got {name!r}")
    return {names.index(source): names.index(target) for source, target in pairs.items()}


def transition_noise(labels: Tensor, matrix_KK: Tensor, generator: torch.Generator) -> Tensor:
    """Draw each label, int64 (N,), anew from the row of its class: class-dependent noise.

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
    """Read rows of probabilities, float64 (K, K), from a ``.npy`` array or a text file; or a UserError."""
    delimiter = "," if path.suffix == ".csv" else None
    values = _read(path, "numbers, one row of the matrix a line", ndmin=2, delimiter=delimiter)
    if values.shape != (num_labels, num_labels):
        raise _wrong(path, f"{num_labels} rows of {num_labels} probabilities, got shape {values.shape}")
    is_number = values.dtype.kind in "fiu"
    if not is_number or not (values >= 0).all() or not np.allclose(values.sum(1), 1, rtol=0, atol=_SUM_TOLERANCE):
        raise _wrong(path, "probabilities >= 0 whose rows sum to 1")
    return torch.from_numpy(values.astype(np.float64))


def labels_from_file(path: Path, count: int, num_labels: int) -> Tensor:
    """Read one label per training image, int64 (count,), in the data set's own order; or a UserError."""
    values = _read(path, "one integer a line, or be a .npy array", dtype=np.int64, ndmin=1)
    if not np.issubdtype(values.dtype, np.integer) or values.shape != (count,):
        raise _wrong(path, f"{count} integers, one per training image, got {values.dtype} of shape {values.shape}")
    if values.min() < 0 or values.max() >= num_labels:
        raise _wrong(path, f"labels in [0, {num_labels - 1}], got {values.min()} to {values.max()}")
    return torch.from_numpy(values.astype(np.int64))


def _read(path: Path, what: str, **text: Any) -> np.ndarray[Any, Any]:
    try:
        read = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, **text)
    except FileNotFoundError:
        raise UserError(f"label_noise_file {path} does not exist") from None
    except (OSError, ValueError, EOFError) as error:
        raise _wrong(path, f"{what}: {error}") from error
    array: np.ndarray[Any, Any] = read
    return array


def _wrong(path: Path, what: str) -> UserError:
    return UserError(f"label_noise_file {path} must hold {what}")
