"""One record per evaluated sample: the only source of every number, table and figure of an evaluation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.report.files import write_text
from l2nnn_lightning.nn.certificates import round_down

__all__ = ["AttackInfo", "CertificateViolation", "Records", "check_sound", "rounding_slack"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_REQUIRED = {"index", "label", "prediction", "gap", "radius"}
_RADII = ("radius", "radius_box", "radius_soft")


@dataclass(frozen=True)
class AttackInfo:
    """How an attack was run.

    Args:
        name: its name in the records: the attack's own, then ``@max_iter`` where it was run with several.
        norm: the norm in which its perturbations are measured.
        eps: largest norm at which a broken sample counts as broken, in pixel units, > 0.
        max_iter: most iterations spent on a sample.
        minimum_norm: whether it looked for the closest adversarial image of every sample, without stopping at
            ``eps``, so that its norms give the robust accuracy at every smaller radius too.
        restarts: number of attempts on every sample.
    """

    name: str
    norm: Literal["L2", "Linf"]
    eps: float
    max_iter: int
    minimum_norm: bool = False
    restarts: int = 1

    @property
    def attack(self) -> str:
        """The attack's own name."""
        return self.name.partition("@")[0]


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
        correct: (N,) whether these are the same.
        gap: (N,) confidence gap, largest minus second largest logit.
        radius: (N,) certified L2 radius in pixel units, valid in the whole space; 0 where nothing is proved.
        radius_box: (N,) the same for images whose pixels stay in [0, 1], where known.
        radius_soft: (N,) the L2 radius of a network in penalty mode by the product of its own norms, where asked for.
        proved: (N,) the larger of the first two, for such images.
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
        self.n = len(self.frame)
        for name in _REQUIRED:
            setattr(self, name, self.get(name))
        self.radius_box: FloatArray | None = self.get("radius_box")
        self.radius_soft: FloatArray | None = self.get("radius_soft")
        self.proved = self.radius if self.radius_box is None else np.maximum(self.radius, self.radius_box)
        self.correct: BoolArray = np.equal(self.prediction, self.label)
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
        """Join the records of several processes, which hold different samples, sorted by index."""
        return cls(pd.concat([shard.frame for shard in shards]).sort_values("index"))

    def with_columns(self, columns: Mapping[str, Tensor]) -> "Records":
        """Add columns, or replace them."""
        return Records(self.frame.assign(**{name: _array(name, column) for name, column in columns.items()}))

    def select(self, rows: Any) -> "Records":
        """Keep the rows that a mask, slice or array of positions names, in its order."""
        return Records(self.frame.iloc[rows])

    def get(self, name: str) -> npt.NDArray[Any] | None:
        """Return a column, (N,), or None where there is none of that name."""
        return np.asarray(self.frame[name]) if name in self.frame else None

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


class CertificateViolation(AssertionError):  # noqa: N818 (it names what happened)
    """An attack changed a label inside its certified radius: the certificate is wrong and no number may be used."""


def rounding_slack(norm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Bound the rounding error of a norm measured between two float32 images, ``1e-6 + 1e-5 norm``.

    Comparisons give this much to the attacker when robustness is counted, and to the certificate when it is
    tested, where both can be exact and differ in their last digits.
    """
    return 1e-6 + 1e-5 * np.asarray(norm, dtype=np.float64)


def check_sound(records: Records, attacks: Iterable[AttackInfo]) -> None:
    """Check on every sample that no L2 attack changed the label inside the certified radius.

    Where the attacked image's label is known, every sample counts; else only those that were correct, because a
    wrong one is broken by an image that keeps its label. Attacked images stay in [0, 1], so they are also held
    against ``radius_box``, and against ``radius_soft``. Attacks of another norm say nothing about an L2 radius and are
    left out.

    Raises:
        CertificateViolation: naming the sample, its radius and the attack's norm.
    """
    radius = records.proved.astype(np.float64)
    if records.radius_soft is not None:
        radius = np.maximum(radius, records.radius_soft)
    for info in attacks:
        if info.norm != "L2":
            continue
        attack = records.attacks[info.name]
        changed = records.correct if attack.prediction is None else attack.prediction != records.prediction
        violated = np.flatnonzero(attack.broken & changed & (attack.norm < radius - rounding_slack(radius)))
        if violated.size:
            worst = violated[np.argmax((radius - attack.norm)[violated])]
            raise CertificateViolation(
                f"{info.name} changed the label of sample {records.index[worst]} at L2 norm {attack.norm[worst]:.6g}, "
                f"inside its certified radius {radius[worst]:.6g} ({violated.size} such samples): "
                "the certificate is wrong"
            )
