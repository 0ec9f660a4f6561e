"""A study's YAML file: what is trained and evaluated, and where its numbers stand in the paper's table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from l2nnn_lightning.data.errors import UserError

__all__ = ["Column", "Method", "Row", "Study", "Tier", "read_study", "study_names"]

Options = Mapping[str, Any]
#: One config, or a list of which a later one wins.
Config = str | Sequence[str]
#: Where a number stands in ``results.json``: keys joined by "/", or ``{attack: cw, max_iter: 1000}``.
Value = str | Mapping[str, Any]


@dataclass(frozen=True)
class Tier:
    """A size of the study."""

    note: str  # what it differs in from the paper's set-up, in words
    minutes: str  # about how long it takes, in words
    seeds: Sequence[int]  # the seeds of every training
    rows: Sequence[str] | None = None  # the rows that it runs, all if None
    train: Options = field(default_factory=dict)  # overrides of every training
    evaluate: Options = field(default_factory=dict)  # options of every evaluation


@dataclass(frozen=True)
class Method:
    """One way of training."""

    config: Config  # the file for ``train.py``, relative to the study's, or several
    checkpoint: str = "last"  # ``last`` or ``best``
    train: Options = field(default_factory=dict)  # overrides of the config, by dotted key
    # options of ``evaluate.py``; a value ``@METHOD`` is the checkpoint of that method with the same seed
    evaluate: Options = field(default_factory=dict)
    # settings to choose from, each a set of overrides; the best by ``select`` is shown
    variants: Mapping[str, Options] = field(default_factory=dict)
    rows: Sequence[str] | None = None  # the rows it is run for, all if None
    seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)  # by tier, where they are not the tier's own
    minutes: Options = field(default_factory=dict)  # by tier: about how long a training takes on one core


@dataclass(frozen=True)
class Row:
    """One row of the table: further overrides and options of all methods, or another value of the same results."""

    config: Config | None = None  # another config than the method's
    train: Options = field(default_factory=dict)  # overrides
    evaluate: Options = field(default_factory=dict)  # options
    value: Value | None = None  # what the row shows, instead of each column's value
    group: str = ""  # the curve of the figure that the row belongs to
    percent: bool | None = None  # as a column's, instead of it
    digits: int | None = None  # likewise
    keep: Sequence[str] = ()  # pictures of the evaluation that are stored beside its numbers, such as largest_gaps
    minutes: Options = field(default_factory=dict)  # by tier: about how long an evaluation takes on one core

    @property
    def is_trained_apart(self) -> bool:
        """Whether other rows' trainings do not serve for this one."""
        return bool(self.config or self.train)


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    method: str  # whose results it shows
    value: Value | None = None  # the number; needed where a row has none
    evaluate: Options = field(default_factory=dict)  # options of an evaluation of its own
    percent: bool = False  # whether it is a fraction to be shown in percent
    digits: int = 1  # digits after the point


@dataclass(frozen=True)
class Study:
    """A study as its file tells it; see the classes of its parts.

    Overrides and options may hold a part for one tier under the tier's name.
    """

    name: str  # the file's name
    folder: Path
    title: str  # what the table shows
    tiers: Mapping[str, Tier]
    methods: Mapping[str, Method]
    rows: Mapping[str, Row]
    columns: Mapping[str, Column]
    # the paper's numbers by row, in the order of the columns, None where it has none
    paper: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    select: str = "noisy/val/accuracy"  # by which value of the results, on held-out images, the best variant is chosen
    figure: Mapping[str, str] | None = None  # ``{x: COLUMN, y: COLUMN}``, a curve through the rows of each group
    # ``{row: ROW, columns: [COLUMN, ...]}``: accuracy by gap, natural and under the row's attack (figure 2)
    bins: Mapping[str, Any] | None = None

    def paths(self, config: Config) -> tuple[Path, ...]:
        """Return the files of a method's or a row's config."""
        return tuple(self.folder / part for part in ((config,) if isinstance(config, str) else config))


def study_names(folder: Path) -> list[str]:
    """List the studies of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_study(name: str, folder: Path) -> Study:
    """Read ``folder/NAME.yaml``.

    Raises:
        UserError: if there is no such study, or its file is not one.
    """
    if name not in study_names(folder):
        raise UserError(f"there is no study {name!r}: choose one of {', '.join(study_names(folder)) or '(none here)'}")
    path = folder / f"{name}.yaml"
    try:
        study = _study(name, folder, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not a study: {' '.join(str(error).split())}") from error
    for problem in _problems(study):
        raise UserError(f"{path} is not a study: {problem}")
    return study


def _study(name: str, folder: Path, values: Mapping[str, Any]) -> Study:
    # Not by jsonargparse: of free values, such as max_iter: "1000", it makes others, and with them other fingerprints.
    kinds = {"tiers": Tier, "methods": Method, "rows": Row, "columns": Column}
    parts = {key: {name: kind(**part) for name, part in values[key].items()} for key, kind in kinds.items()}
    return Study(name, folder, **{**values, **parts})


def _problems(study: Study) -> Iterator[str]:
    """Find what no type tells: names of what is not there."""
    for name, column in study.columns.items():
        if column.method not in study.methods:
            yield f"column {name!r} shows the method {column.method!r}, which there is not"
        if column.value is None and any(row.value is None for row in study.rows.values()):
            yield f"column {name!r} has no value, nor has every row"
    for name, method in study.methods.items():
        if method.checkpoint not in ("last", "best"):
            yield f"checkpoint of {name!r} must be last or best, got {method.checkpoint!r}"
    for config in (*(method.config for method in study.methods.values()), *(row.config for row in study.rows.values())):
        for path in study.paths(config or ()):
            if not path.is_file():
                yield f"there is no config {path}"
    for owner, rows in [
        *((f"method {name!r}", method.rows) for name, method in study.methods.items()),
        *((f"tier {name!r}", tier.rows) for name, tier in study.tiers.items()),
        ("paper", study.paper),
    ]:
        if unknown := {*(rows or ())} - {*study.rows}:
            yield f"{owner} names rows that there are not: {', '.join(sorted(unknown))}"
    for row, numbers in study.paper.items():
        if len(numbers) != len(study.columns):
            yield f"paper needs {len(study.columns)} numbers for row {row!r}, got {len(numbers)}"
    if study.bins is not None and not (
        study.bins.get("row") in study.rows
        and hasattr(study.rows[study.bins["row"]].value, "keys")
        and {*study.bins.get("columns", ["?"])} <= study.columns.keys()
    ):
        yield f"bins needs a row that shows an attack, and columns, got {dict(study.bins)}"
    if study.figure is not None and not (
        study.figure.keys() == {"x", "y"} and {*study.figure.values()} <= study.columns.keys()
    ):
        yield f"figure needs columns, got {dict(study.figure)}"
