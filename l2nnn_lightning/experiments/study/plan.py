"""From a study and a tier to the trainings and evaluations that it takes."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.study.read import Column, Options, Row, Study, read_yaml

__all__ = ["Plan", "Result", "Training", "make_plan"]


@dataclass(frozen=True)
class Training:
    """One call of ``train.py``.

    Args:
        name: readable, and unlike any other training's of the study.
        config: path of the config.
        overrides: what is changed in it, by dotted key, the seed included.
        digest: a fingerprint of the config's content and the overrides.
    """

    name: str
    config: str
    overrides: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Result:
    """One call of ``evaluate.py``, which gives one stored file.

    Args:
        name: readable, and unlike any other result's of the study.
        training: where its checkpoint comes from.
        checkpoint: ``last`` or ``best``.
        options: of ``evaluate.py``, by name without dashes; a training stands for its checkpoint.
        digest: a fingerprint of all that went into it.
    """

    name: str
    training: Training
    checkpoint: str
    options: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Plan:
    """What a study takes in one tier.

    Args:
        study: the study.
        tier: the tier's name.
        results: the results, in the order in which they are run.
        cells: for every (row, column) that is run, by seed, the results of its variants.
    """

    study: Study
    tier: str
    results: Sequence[Result]
    cells: Mapping[tuple[str, str], Mapping[int, Sequence[Result]]]

    @property
    def rows(self) -> list[str]:
        """The rows that this tier runs."""
        chosen = self.study.tiers[self.tier].rows
        return [row for row in self.study.rows if chosen is None or row in chosen]

    def select(self, patterns: Sequence[str]) -> list[Result]:
        """Choose results by name; a pattern may hold ``*``.

        Raises:
            UserError: if a pattern fits none.
        """
        for pattern in patterns:
            if not any(fnmatch(result.name, pattern) for result in self.results):
                names = ", ".join(result.name for result in self.results)
                raise UserError(f"{self.study.name} has no run {pattern!r} in tier {self.tier}: it has {names}")
        return [result for result in self.results if any(fnmatch(result.name, pattern) for pattern in patterns)]


def make_plan(study: Study, tier: str) -> Plan:
    """List all that a study takes.

    Args:
        study: the study.
        tier: one of its tiers.

    Raises:
        UserError: if it has no such tier.
    """
    if tier not in study.tiers:
        raise UserError(f"{study.name} has no tier {tier!r}: it has {', '.join(study.tiers)}")
    size = study.tiers[tier]
    # By fingerprint: cells that show different numbers of one evaluation share it.
    results: dict[str, Result] = {}
    cells: dict[tuple[str, str], dict[int, list[Result]]] = {}
    for row in study.rows:
        for name, column in study.columns.items():
            method = study.methods[column.method]
            if not all(rows is None or row in rows for rows in (size.rows, method.rows)):
                continue
            for seed in size.seeds:
                for variant in method.variants or [""]:
                    result = _result(study, tier, row, column, name, variant, seed)
                    result = results.setdefault(result.digest, result)
                    cells.setdefault((row, name), {}).setdefault(seed, []).append(result)
    return Plan(study, tier, list(results.values()), cells)


def _result(
    study: Study, tier: str, row_name: str, column: Column, column_name: str, variant: str, seed: int
) -> Result:
    method, row = study.methods[column.method], study.rows[row_name]
    training = _training(study, tier, row_name, column.method, variant, seed)
    parts = (study.tiers[tier].evaluate, method.evaluate, row.evaluate, column.evaluate)
    options = {key: value for part in parts for key, value in _in_tier(study, tier, part).items()}
    for key, value in options.items():
        if isinstance(value, str) and value.startswith("@"):
            if value[1:] not in study.methods:
                raise UserError(f"{study.name}: {key} names the method {value[1:]!r}, which there is not")
            options[key] = _training(study, tier, row_name, value[1:], "", seed)
    own_row = row_name if row.evaluate and not _is_trained_apart(row) else ""
    name = "-".join(
        part for part in (training.name, _slug(own_row), _slug(column_name) if column.evaluate else "") if part
    )
    named = {key: value.digest if isinstance(value, Training) else value for key, value in options.items()}
    digest = _digest([training.digest, method.checkpoint, sorted(named.items())])
    return Result(name, training, method.checkpoint, options, digest)


def _training(study: Study, tier: str, row_name: str, method_name: str, variant: str, seed: int) -> Training:
    method, row = study.methods[method_name], study.rows[row_name]
    config = study.folder / (row.config or method.config)
    chosen = method.variants[variant] if variant else {}
    # Later ones win: the row over the variant over the method over the tier.
    overrides = {
        key: value
        for part in (study.tiers[tier].train, method.train, chosen, row.train)
        for key, value in _in_tier(study, tier, part).items()
    }
    overrides["seed_everything"] = seed
    parts = [method_name, variant, row_name if _is_trained_apart(row) else "", f"s{seed}"]
    return Training(
        "-".join(_slug(part) for part in parts if part),
        str(config),
        overrides,
        _digest([_content(config, config.stat().st_mtime_ns), sorted(overrides.items())]),
    )


@lru_cache
def _content(config: Path, modified: int) -> Any:  # noqa: ARG001  # a changed file is read again
    return read_yaml(config)


def _in_tier(study: Study, tier: str, part: Options) -> dict[str, Any]:
    """Take what holds in every tier, and over it what holds in this one."""
    common = {key: value for key, value in part.items() if key not in study.tiers}
    return {**common, **part.get(tier, {})}


def _is_trained_apart(row: Row) -> bool:
    return bool(row.config or row.train)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_")


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
