"""From a study and a tier to the trainings and evaluations that it takes."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.study.read import Column, Options, Row, Study

__all__ = ["Plan", "Result", "Training", "make_plan"]


@dataclass(frozen=True)
class Training:
    """One call of ``train.py``."""

    name: str  # readable, and unlike any other training's of the study
    configs: tuple[str, ...]  # paths of the configs, of which a later one wins
    overrides: Mapping[str, Any]  # what is changed in them, by dotted key, the seed included
    digest: str  # a fingerprint of the configs' content and the overrides


@dataclass(frozen=True)
class Result:
    """One call of ``evaluate.py``, which gives one stored file."""

    name: str  # readable, and unlike any other result's of the study
    training: Training  # where its checkpoint comes from
    checkpoint: str  # ``last`` or ``best``
    options: Mapping[str, Any]  # of ``evaluate.py``, by name without dashes
    others: Mapping[str, Training]  # the options whose value is the checkpoint of another training
    digest: str  # a fingerprint of all that went into it


@dataclass(frozen=True)
class Plan:
    """What a study takes in one tier."""

    study: Study
    tier: str
    results: Sequence[Result]  # in the order in which they are run
    # by (row, column) that is run, by seed: the results of its variants
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
    options = _joined(study, tier, study.tiers[tier].evaluate, method.evaluate, row.evaluate, column.evaluate)
    named = {key: str(value)[1:] for key, value in options.items() if str(value).startswith("@")}
    for key, other in named.items():
        if other not in study.methods:
            raise UserError(f"{study.name}: {key} names the method {other!r}, which there is not")
    others = {key: _training(study, tier, row_name, other, "", seed) for key, other in named.items()}
    own_row = row_name if row.evaluate and not _is_trained_apart(row) else ""
    parts = [training.name, _slug(own_row), _slug(column_name) if column.evaluate else ""]
    values = options | {key: other.digest for key, other in others.items()}
    return Result(
        "-".join(filter(None, parts)),
        training,
        method.checkpoint,
        {key: value for key, value in options.items() if key not in others},
        others,
        _digest([training.digest, method.checkpoint, sorted(values.items())]),
    )


def _training(study: Study, tier: str, row_name: str, method_name: str, variant: str, seed: int) -> Training:
    method, row = study.methods[method_name], study.rows[row_name]
    configs = study.paths(row.config or method.config)
    chosen = method.variants[variant] if variant else {}
    overrides = _joined(study, tier, study.tiers[tier].train, method.train, chosen, row.train)
    overrides["seed_everything"] = seed
    parts = [method_name, variant, row_name if _is_trained_apart(row) else "", f"s{seed}"]
    content = reduce(_merged, (_content(config, config.stat().st_mtime_ns) for config in configs))
    return Training(
        "-".join(_slug(part) for part in parts if part),
        tuple(map(str, configs)),
        overrides,
        _digest([content, sorted(overrides.items())]),
    )


@lru_cache
def _content(config: Path, modified: int) -> dict[str, Any]:  # noqa: ARG001  # a changed file is read again
    values: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    return values


def _merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a config over another as ``train.py`` does: section by section, ``KEY+`` appends to a list.

    Example:
        >>> _merged({"a": {"b": 1, "c": [2]}, "d": 3}, {"a": {"b": 4, "c+": [5]}})
        {'a': {'b': 4, 'c': [2, 5]}, 'd': 3}
    """
    merged = dict(base)
    for key, value in overlay.items():
        name = key.removesuffix("+")
        if name != key:
            merged[name] = [*(merged.get(name) or []), *value]
        elif isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _joined(study: Study, tier: str, *parts: Options) -> dict[str, Any]:
    """Join overrides, of which later ones win: of each what holds in every tier, and over it what holds in this one."""
    joined: dict[str, Any] = {}
    for part in parts:
        joined |= {key: value for key, value in part.items() if key not in study.tiers} | part.get(tier, {})
    return joined


def _is_trained_apart(row: Row) -> bool:
    return bool(row.config or row.train)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_")


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
