"""From a study and a tier to the trainings and evaluations that it takes."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import lru_cache, reduce
from itertools import product
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.study.read import Options, Study

__all__ = ["Plan", "Result", "Training", "make_plan"]


@dataclass(frozen=True)
class Training:
    """One call of ``train.py``."""

    name: str  # readable, and unlike any other training's of the study
    configs: tuple[str, ...]  # paths of the configs, of which a later one wins
    overrides: Mapping[str, Any]  # what is changed in them, by dotted key, the seed included
    digest: str  # a fingerprint of the configs' content and the overrides
    minutes: float | None = None  # about how long it takes on one core


@dataclass(frozen=True)
class Result:
    """One call of ``evaluate.py``, which gives one stored file."""

    name: str  # readable, and unlike any other result's of the study
    training: Training  # where its checkpoint comes from
    checkpoint: str  # ``last`` or ``best``
    options: Mapping[str, Any]  # of ``evaluate.py``, by name without dashes
    others: Mapping[str, Training]  # the options whose value is the checkpoint of another training
    digest: str  # a fingerprint of all that went into it
    keep: tuple[str, ...] = ()  # the pictures to be stored
    minutes: float | None = None  # about how long it takes on one core


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
    size, planner = study.tiers[tier], _Planner(study, tier)
    # By fingerprint: cells that show different numbers of one evaluation share it.
    results: dict[str, Result] = {}
    cells: dict[tuple[str, str], dict[int, list[Result]]] = {}
    for row, column in product(study.rows, study.columns):
        method = study.methods[study.columns[column].method]
        if all(rows is None or row in rows for rows in (size.rows, method.rows)):
            for seed, variant in product(method.seeds.get(tier, size.seeds), method.variants or [""]):
                result = planner.result(row, column, variant, seed)
                known = results.get(result.digest, result)
                result = results[result.digest] = replace(known, keep=tuple(dict.fromkeys(known.keep + result.keep)))
                cells.setdefault((row, column), {}).setdefault(seed, []).append(result)
    return Plan(study, tier, list(results.values()), cells)


@dataclass(frozen=True)
class _Planner:
    study: Study
    tier: str

    def result(self, row_name: str, column_name: str, variant: str, seed: int) -> Result:
        row, column = self.study.rows[row_name], self.study.columns[column_name]
        method, size = self.study.methods[column.method], self.study.tiers[self.tier]
        training = self.training(row_name, column.method, variant, seed)
        options = self.joined(size.evaluate, method.evaluate, row.evaluate, column.evaluate)
        named = {key: str(value)[1:] for key, value in options.items() if str(value).startswith("@")}
        for key, other in named.items():
            if other not in self.study.methods:
                raise UserError(f"{self.study.name}: {key} names the method {other!r}, which there is not")
        others = {key: self.training(row_name, other, "", seed) for key, other in named.items()}
        values = options | {key: other.digest for key, other in others.items()}
        own_row = row_name if row.evaluate and not row.is_trained_apart else ""
        return Result(
            f"{training.name}-{_name(own_row, column_name if column.evaluate else '')}".rstrip("-"),
            training,
            method.checkpoint,
            {key: value for key, value in options.items() if key not in others},
            others,
            _digest([training.digest, method.checkpoint, sorted(values.items())]),
            tuple(row.keep),
            row.minutes.get(self.tier, method.minutes.get("evaluate")),
        )

    def training(self, row_name: str, method_name: str, variant: str, seed: int) -> Training:
        row, method = self.study.rows[row_name], self.study.methods[method_name]
        chosen = method.variants[variant] if variant else {}
        overrides = self.joined(self.study.tiers[self.tier].train, method.train, chosen, row.train)
        overrides["seed_everything"] = seed
        configs = self.study.paths(row.config or method.config)
        content = reduce(_merged, (_content(config, config.stat().st_mtime_ns) for config in configs))
        name = _name(method_name, variant, row_name if row.is_trained_apart else "", f"s{seed}")
        digest = _digest([content, sorted(overrides.items())])
        return Training(name, tuple(map(str, configs)), overrides, digest, method.minutes.get(self.tier))

    def joined(self, *parts: Options) -> dict[str, Any]:
        """Join options, of which later ones win: of each what holds in every tier, over it what holds in this one."""
        joined: dict[str, Any] = {}
        for part in parts:
            joined |= {key: value for key, value in part.items() if key not in self.study.tiers}
            joined |= part.get(self.tier, {})
        return joined


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
        elif all(isinstance(part, Mapping) for part in (value, merged.get(name))):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _name(*parts: str) -> str:
    return "-".join(re.sub(r"[^a-z0-9.]+", "_", part.lower()).strip("_") for part in parts if part)


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
