"""One record per evaluated sample: the only source of every number, table and figure of an evaluation."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.report.files import write_text
from l2nnn_lightning.nn.certificates import round_down

__all__ = ["AttackRecords", "BoolArray", "FloatArray", "IntArray", "Records"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_REQUIRED = {"index", "label", "prediction", "gap", "radius"}
_RADII = ("radius", "radius_box")


class AttackRecords(NamedTuple):
    """What one attack did to each sample.

    Attributes:
        broken: (N,) whether the attack ended at an image that gets a wrong label.
        norm: (N,) norm of that perturbation in pixel units, 0 where the sample was wrong from the start and inf
            where it was not broken.
        prediction: (N,) label of the attacked image, or None where it was not kept.
    """

    broken: BoolArray
    norm: FloatArray
    prediction: IntArray | None


class Records:
    """Per-sample results: a table with a row per sample.

    Args:
        frame: the table; its columns, as in ``records.csv``, are cast to their types.

    Attributes:
        index: (N,) position in the data set; no value twice.
        label: (N,) true label.
        prediction: (N,) label given by the network.
        gap: (N,) confidence gap, largest minus second largest logit.
        radius: (N,) certified L2 radius in pixel units, valid in the whole space; 0 where nothing is proved.
        attacks: what each attack did, by its name; columns ``NAME_broken``, ``NAME_norm`` and perhaps
            ``NAME_prediction``.

    Raises:
        ValueError: if a column is missing, an index repeats, a gap or radius is negative or not finite, or the norm of
            an attack is not a number.

    Example:
        >>> two = torch.arange(2)
        >>> records = Records.from_tensors(index=two, label=two, prediction=two, gap=two * 1.0, radius=two / 2)
        >>> records.n, float(records.correct.mean()), records.select(records.radius > 0).index
        (2, 1.0, array([1]))
    """

    index: IntArray
    label: IntArray
    prediction: IntArray
    gap: FloatArray
    radius: FloatArray

    def __init__(self, frame: pd.DataFrame) -> None:
        attacks = [name.removesuffix("_broken") for name in frame if name.endswith("_broken")]
        if missing := sorted((_REQUIRED | {f"{name}_norm" for name in attacks}) - set(frame)):
            raise ValueError(f"the columns {', '.join(missing)} are missing")
        self.frame = frame.astype({name: _dtype(name) for name in frame}).reset_index(drop=True)
        for name in _REQUIRED:
            setattr(self, name, self.get(name))
        self.attacks: dict[str, AttackRecords] = {
            name: AttackRecords(*(self.get(f"{name}_{what}") for what in AttackRecords._fields))  # type: ignore[arg-type]
            for name in attacks
        }
        repeated = self.frame["index"].duplicated()
        if repeated.any():
            raise ValueError(f"sample {self.index[repeated][0]} is recorded more than once")
        for name in {"gap", *_RADII} & set(frame):
            column = np.asarray(self.frame[name])
            bad = np.flatnonzero(~(np.isfinite(column) & (column >= 0)))
            if bad.size:
                raise UserError(
                    f"{name} must be finite and >= 0, got {column[bad[0]]} at sample {self.index[bad[0]]}; "
                    "check that the network's outputs are finite"
                )
        for name, attack in self.attacks.items():
            if np.isnan(attack.norm).any():
                raise ValueError(f"norms of {name} must not be nan; write inf where a sample was not broken")

    @classmethod
    def from_tensors(cls, **columns: Tensor) -> "Records":
        """Build records from tensors (N,) of any device and precision; a radius is rounded down to float32."""
        return cls(pd.DataFrame({name: _array(name, column) for name, column in columns.items()}))

    @classmethod
    def concatenate(cls, shards: Iterable["Records"]) -> "Records":
        """Join the records of several processes, sorted by index.

        Raises:
            ValueError: if there is no shard, two hold the same sample, or they differ in columns.
        """
        frames = [shard.frame for shard in shards]
        if any(list(frame) != list(frames[0]) for frame in frames):
            raise ValueError(f"records to join must have the same columns, got {[list(frame) for frame in frames]}")
        return cls(pd.concat(frames).sort_values("index"))

    def with_columns(self, columns: Mapping[str, Tensor]) -> "Records":
        """Add columns, or replace them."""
        return Records(self.frame.assign(**{name: _array(name, column) for name, column in columns.items()}))

    def select(self, rows: Any) -> "Records":
        """Keep the rows that a mask, slice or array of positions names, in its order."""
        return Records(self.frame.iloc[rows])

    def get(self, name: str) -> npt.NDArray[Any] | None:
        """Return a column, (N,), or None where there is none of that name."""
        return np.asarray(self.frame[name]) if name in self.frame else None

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.frame)

    @property
    def radius_box(self) -> FloatArray | None:
        """Certified L2 radii that hold for images whose pixels stay in [0, 1], (N,), where known."""
        return self.get("radius_box")

    @property
    def correct(self) -> BoolArray:
        """Whether the network's label is the true one, (N,)."""
        return np.equal(self.prediction, self.label)

    def to_csv(self, path: Path | str) -> None:
        """Write ``records.csv``: floats that read back exactly, ``inf`` where not broken, booleans as 0 and 1."""
        plain = self.frame.astype({name: "int64" for name in self.frame if _dtype(name) == "bool"})
        text = {name: np.asarray(column).astype(str) for name, column in plain.items()}
        write_text(path, pd.DataFrame(text).to_csv(index=False, lineterminator="\n"))

    @classmethod
    def from_csv(cls, path: Path | str) -> "Records":
        """Read what :meth:`to_csv` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not a table of records.
        """
        try:
            # As text first: numbers are parsed by numpy, exactly.
            text = pd.read_csv(path, dtype=str, index_col=False)
            return cls(text.astype({name: "int64" for name in text if _dtype(name) == "bool"}))
        except ValueError as error:
            raise ValueError(f"{path} is not a table of records: {error}") from error


def _dtype(name: str) -> str:
    """Return the type that a column's name stands for."""
    if name.endswith("_broken"):
        return "bool"
    return "int64" if name in ("index", "label") or name.endswith("prediction") else "float32"


def _array(name: str, column: Tensor) -> npt.NDArray[Any]:
    if name in _RADII and column.dtype == torch.float64:
        column = round_down(column, torch.float32)
    # numpy has no bfloat16.
    return (column.float() if _dtype(name) == "float32" else column).detach().cpu().numpy().copy()
