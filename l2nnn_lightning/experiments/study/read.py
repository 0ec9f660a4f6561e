"""A study's YAML file: what is trained and evaluated, and where its numbers stand in the paper's table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from l2nnn_lightning.data.errors import UserError

__all__ = ["STUDIES", "Column", "Method", "Row", "Study", "Tier", "read_study", "read_yaml", "study_names"]

#: The folder of the studies that come with the project.
STUDIES = Path(__file__).parents[3] / "configs" / "study"

Options = Mapping[str, Any]
#: Where a number stands in ``results.json``: keys joined by "/", or ``{attack: cw, max_iter: 1000}``.
Value = str | Mapping[str, Any]


@dataclass(frozen=True)
class Tier:
    """A size of the study.

    Args:
        note: what it differs in from the paper's set-up, in words.
        minutes: about how long it takes, in words.
        seeds: the seeds of every training.
        rows: the rows that it runs, all if None.
        train: overrides of every training.
        evaluate: options of every evaluation.
    """

    note: str
    minutes: str
    seeds: tuple[int, ...]
    rows: tuple[str, ...] | None = None
    train: Options = field(default_factory=dict)
    evaluate: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """One way of training.

    Args:
        config: the file for ``train.py``, relative to the study's.
        checkpoint: ``last`` or ``best``.
        train: overrides of the config, by dotted key.
        evaluate: options of ``evaluate.py``; a value ``@METHOD`` is the checkpoint of that method with the same seed.
        variants: settings to choose from, each a set of overrides; the best by ``select`` is shown.
        rows: the rows it is run for, all if None.
    """

    config: str
    checkpoint: str = "last"
    train: Options = field(default_factory=dict)
    evaluate: Options = field(default_factory=dict)
    variants: Mapping[str, Options] = field(default_factory=dict)
    rows: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Row:
    """One row of the table: further overrides and options of all methods, or another value of the same results.

    Args:
        config: another config than the method's.
        train: overrides.
        evaluate: options.
        value: what the row shows, instead of each column's value.
        group: the curve of the figure that the row belongs to.
    """

    config: str | None = None
    train: Options = field(default_factory=dict)
    evaluate: Options = field(default_factory=dict)
    value: Value | None = None
    group: str | None = None


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Args:
        method: whose results it shows.
        value: the number; needed where a row has none.
        evaluate: options of an evaluation of its own.
        percent: whether it is a fraction to be shown in percent.
        digits: digits after the point.
    """

    method: str
    value: Value | None = None
    evaluate: Options = field(default_factory=dict)
    percent: bool = False
    digits: int = 1


@dataclass(frozen=True)
class Study:
    """A study as its file tells it; see the classes of its parts.

    Overrides and options may hold a part for one tier under the tier's name.

    Args:
        name: the file's name.
        folder: the file's folder.
        title: what the table shows.
        tiers: the sizes.
        methods: the ways of training.
        rows: the rows.
        columns: the columns.
        paper: the paper's numbers by row, in the order of the columns, None where it has none.
        select: by which value of the results, on held-out images, the best variant is chosen.
        figure: ``{x: COLUMN, y: COLUMN}``, a curve through the rows of each group.
    """

    name: str
    folder: Path
    title: str
    tiers: Mapping[str, Tier]
    methods: Mapping[str, Method]
    rows: Mapping[str, Row]
    columns: Mapping[str, Column]
    paper: Mapping[str, tuple[float | None, ...]]
    select: str
    figure: Mapping[str, str] | None


def study_names(folder: Path = STUDIES) -> list[str]:
    """List the studies of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_study(name: str, folder: Path = STUDIES) -> Study:
    """Read ``folder/NAME.yaml``.

    Raises:
        UserError: if there is no such study, or its file is not one.
    """
    if name not in study_names(folder):
        raise UserError(f"there is no study {name!r}: choose one of {', '.join(study_names(folder)) or '(none here)'}")
    path = folder / f"{name}.yaml"
    try:
        values = read_yaml(path)
        return _check(_study(name, folder, values), path)
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not a study: {' '.join(str(error).split())}") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain values."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _study(name: str, folder: Path, values: Mapping[str, Any]) -> Study:
    return Study(
        name=name,
        folder=folder,
        title=values["title"],
        tiers={key: Tier(**_with_tuples(part)) for key, part in values["tiers"].items()},
        methods={key: Method(**_with_tuples(part)) for key, part in values["methods"].items()},
        rows={str(key): Row(**(part or {})) for key, part in values["rows"].items()},
        columns={key: Column(**part) for key, part in values["columns"].items()},
        paper={str(key): tuple(numbers) for key, numbers in values.get("paper", {}).items()},
        select=values.get("select", "noisy/val/accuracy"),
        figure=values.get("figure"),
    )


def _with_tuples(part: Mapping[str, Any]) -> dict[str, Any]:
    lists = {"seeds": tuple, "rows": lambda rows: tuple(str(row) for row in rows)}
    return {key: lists[key](value) if key in lists and value is not None else value for key, value in part.items()}


def _check(study: Study, path: Path) -> Study:
    def refuse(what: str) -> None:
        raise UserError(f"{path} is not a study: {what}")

    for name, column in study.columns.items():
        if column.method not in study.methods:
            refuse(f"column {name!r} shows the method {column.method!r}, which there is not")
        if column.value is None and any(row.value is None for row in study.rows.values()):
            refuse(f"column {name!r} has no value, nor has every row")
    for name, method in study.methods.items():
        if method.checkpoint not in ("last", "best"):
            refuse(f"checkpoint of {name!r} must be last or best, got {method.checkpoint!r}")
        if not (path.parent / method.config).is_file():
            refuse(f"there is no config {path.parent / method.config}")
    for owner, rows in [
        *((f"method {name!r}", method.rows) for name, method in study.methods.items()),
        *((f"tier {name!r}", tier.rows) for name, tier in study.tiers.items()),
        ("paper", tuple(study.paper)),
    ]:
        unknown = sorted(set(rows or ()) - set(study.rows))
        if unknown:
            refuse(f"{owner} names rows that there are not: {', '.join(unknown)}")
    for row, numbers in study.paper.items():
        if len(numbers) != len(study.columns):
            refuse(f"paper needs {len(study.columns)} numbers for row {row!r}, got {len(numbers)}")
    if study.figure is not None and not {study.figure["x"], study.figure["y"]} <= set(study.columns):
        refuse(f"figure needs columns, got {dict(study.figure)}")
    return study
