"""One record per evaluated sample: the only source of every number, table and figure of an evaluation."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from l2nnn_lightning.evaluation.report.files import write_text

__all__ = ["AttackRecords", "BoolArray", "FloatArray", "IntArray", "Records"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AttackRecords:
    """What one attack did to each sample.

    Args:
        broken: (N,) whether the attack ended at an image that gets a wrong label.
        norm: (N,) norm of that perturbation in pixel units, 0 where the sample was wrong from the start and inf
            where it was not broken.
        prediction: (N,) label of the attacked image, or None where it was not kept.
    """

    broken: BoolArray
    norm: FloatArray
    prediction: IntArray | None = None

    def select(self, rows: Any) -> Self:
        """Keep the rows that a mask, slice or array of positions names, in its order."""
        prediction = None if self.prediction is None else self.prediction[rows]
        return type(self)(self.broken[rows], self.norm[rows], prediction)


@dataclass(frozen=True)
class Records:
    """Per-sample results, one array entry a sample.

    Args:
        index: (N,) position in the data set; no value twice.
        label: (N,) true label.
        prediction: (N,) label given by the network.
        gap: (N,) confidence gap, largest minus second largest logit.
        radius: (N,) certified L2 radius in pixel units, valid in the whole space; 0 where nothing is proved.
        radius_box: (N,) certified L2 radius that holds for images whose pixels stay in [0, 1], or None.
        attacks: what each attack did, by the attack's name.
        jacobian: (N,) L2 norm of the Jacobian of the logits at the image, nan where it was not measured, or None.

    Raises:
        ValueError: if lengths differ, an index repeats, a gap or radius is negative or not finite, or the name of
            an attack is not made of letters, digits, ``_``, ``-`` and ``@``.

    Example:
        >>> import torch
        >>> two = torch.arange(2)
        >>> records = Records.from_tensors(two, label=two, prediction=two, gap=two * 1.0, radius=two / 2)
        >>> records.n, float(records.correct.mean()), records.select(records.radius > 0).index
        (2, 1.0, array([1]))
    """

    index: IntArray
    label: IntArray
    prediction: IntArray
    gap: FloatArray
    radius: FloatArray
    radius_box: FloatArray | None = None
    attacks: Mapping[str, AttackRecords] = field(default_factory=dict)
    jacobian: FloatArray | None = None

    def __post_init__(self) -> None:
        for name, column in self._columns().items():
            if column.shape != (self.n,):
                raise ValueError(f"{name} must hold one value for each of {self.n} samples, got shape {column.shape}")
        values, counts = np.unique(self.index, return_counts=True)
        if (counts > 1).any():
            raise ValueError(f"sample {values[counts > 1][0]} is recorded more than once; record every sample once")
        for name, column in self._columns().items():
            bad = np.flatnonzero(~(np.isfinite(column) & (column >= 0)))
            if name in ("gap", "radius", "radius_box") and bad.size:
                raise ValueError(
                    f"{name} must be finite and >= 0, got {column[bad[0]]} at sample {self.index[bad[0]]}; "
                    "check that the network's outputs are finite"
                )
        for name, attack in self.attacks.items():
            if not re.fullmatch(r"[\w@-]+", name):
                raise ValueError(f"an attack's name must be made of letters, digits, _, - and @, got {name!r}")
            if np.isnan(attack.norm).any():
                raise ValueError(f"norms of {name} must not be nan; write inf where a sample was not broken")

    @classmethod
    def from_tensors(
        cls,
        index: Tensor,
        label: Tensor,
        prediction: Tensor,
        gap: Tensor,
        radius: Tensor,
        radius_box: Tensor | None = None,
        attacks: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> Self:
        """Build records from tensors of any device and precision.

        Args:
            index: see the class, as are the arguments up to ``radius_box``. A radius is rounded down to float32.
            label: (N,)
            prediction: (N,)
            gap: (N,)
            radius: (N,)
            radius_box: (N,) or None
            attacks: for each attack's name a mapping with ``broken``, ``norm`` and, where known, ``prediction``.
        """
        return cls(
            index=_array(index).astype(np.int64),
            label=_array(label).astype(np.int64),
            prediction=_array(prediction).astype(np.int64),
            gap=_array(gap).astype(np.float32),
            radius=_float32_below(_array(radius)),
            radius_box=None if radius_box is None else _float32_below(_array(radius_box)),
            attacks={
                name: AttackRecords(
                    _array(attack["broken"]).astype(np.bool_),
                    _array(attack["norm"]).astype(np.float32),
                    _array(attack["prediction"]).astype(np.int64) if "prediction" in attack else None,
                )
                for name, attack in (attacks or {}).items()
            },
        )

    @classmethod
    def concatenate(cls, shards: Iterable["Records"]) -> "Records":
        """Join the records of several processes, sorted by index.

        Raises:
            ValueError: if there is no shard, two hold the same sample, or they differ in columns.
        """
        parts = list(shards)
        if not parts:
            raise ValueError("there are no records to join")
        columns = [part._columns() for part in parts]
        if any(list(other) != list(columns[0]) for other in columns):
            raise ValueError(f"records to join must have the same columns, got {[list(c) for c in columns]}")
        joined = _from_columns({name: np.concatenate([c[name] for c in columns]) for name in columns[0]})
        return joined.select(np.argsort(joined.index))

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.index)

    @property
    def correct(self) -> BoolArray:
        """Whether the network's label is the true one, (N,)."""
        return np.equal(self.prediction, self.label)

    def select(self, rows: Any) -> "Records":
        """Keep the rows that a mask, slice or array of positions names, in its order."""
        return _from_columns({name: column[rows] for name, column in self._columns().items()})

    def to_csv(self, path: Path | str) -> None:
        """Write ``records.csv``: a header, then a line per sample. Floats are written so that they read back exactly.

        Columns: ``index, label, prediction, gap, radius``, then ``radius_box`` and ``jacobian`` if known, then for
        every attack ``NAME_broken`` (0 or 1), ``NAME_norm`` (``inf`` where not broken), ``NAME_prediction`` if known.
        """
        columns = self._columns()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        plain = [c.astype(np.int64) if c.dtype == np.bool_ else c for c in columns.values()]
        writer.writerows(zip(*(c.astype(str) for c in plain), strict=True))
        write_text(path, text.getvalue())

    @classmethod
    def from_csv(cls, path: Path | str) -> "Records":
        """Read what :meth:`to_csv` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not a table of records.
        """
        with Path(path).open(newline="", encoding="utf-8") as file:
            try:
                header, *rows = list(csv.reader(file))
                values = {name: [row[i] for row in rows] for i, name in enumerate(header)}
                return _from_columns({name: _parse(name, column) for name, column in values.items()})
            except (ValueError, IndexError, KeyError, csv.Error) as error:
                raise ValueError(f"{path} is not a table of records: {error}") from error

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return every column by its name in the file."""
        columns: dict[str, npt.NDArray[Any]] = {
            "index": self.index,
            "label": self.label,
            "prediction": self.prediction,
            "gap": self.gap,
            "radius": self.radius,
        }
        if self.radius_box is not None:
            columns["radius_box"] = self.radius_box
        if self.jacobian is not None:
            columns["jacobian"] = self.jacobian
        for name, attack in self.attacks.items():
            columns[f"{name}_broken"] = attack.broken
            columns[f"{name}_norm"] = attack.norm
            if attack.prediction is not None:
                columns[f"{name}_prediction"] = attack.prediction
        return columns


def _from_columns(columns: Mapping[str, npt.NDArray[Any]]) -> Records:
    """Undo ``Records._columns``."""
    missing = [name for name in ("index", "label", "prediction", "gap", "radius") if name not in columns]
    if missing:
        raise ValueError(f"the columns {', '.join(missing)} are missing")
    names = [name.removesuffix("_broken") for name in columns if name.endswith("_broken")]
    return Records(
        columns["index"],
        columns["label"],
        columns["prediction"],
        columns["gap"],
        columns["radius"],
        columns.get("radius_box"),
        {
            name: AttackRecords(columns[f"{name}_broken"], columns[f"{name}_norm"], columns.get(f"{name}_prediction"))
            for name in names
        },
        columns.get("jacobian"),
    )


def _parse(name: str, column: Sequence[str]) -> npt.NDArray[Any]:
    """Turn a column of text into the array type that its name stands for."""
    if name.endswith("_broken"):
        return np.array([int(text) for text in column], dtype=np.bool_)
    if name in ("index", "label") or name.endswith("prediction"):
        return np.array([int(text) for text in column], dtype=np.int64)
    return np.array([float(text) for text in column], dtype=np.float32)


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    tensor = tensor.detach().cpu()
    # numpy has no bfloat16.
    return np.asarray(tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor)


def _float32_below(values: npt.NDArray[Any]) -> FloatArray:
    """Round to float32 towards zero, because a certified radius may only shrink."""
    nearest = values.astype(np.float32)
    above = nearest.astype(np.float64) > values.astype(np.float64)
    return np.where(above, np.nextafter(nearest, np.float32(0)), nearest)
