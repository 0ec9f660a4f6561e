"""The paper's table with our numbers beside it, from stored results alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l2nnn_lightning.evaluation.report.tables import markdown_table
from l2nnn_lightning.experiments.study.plan import Plan, Result
from l2nnn_lightning.experiments.study.read import Column, Row, Value
from l2nnn_lightning.experiments.study.store import Store

__all__ = ["cell_numbers", "look_up", "study_markdown", "table_rows"]


def look_up(results: Mapping[str, Any], value: Value) -> float | None:
    """Find a number in the content of ``results.json``; None where there is none.

    Args:
        results: the content.
        value: keys joined by "/", such as ``noisy/train/gap_mean`` (of a list, places from 0); or fields of one
            attack, of which ``attack`` is the name: its accuracy.

    Example:
        >>> look_up({"certified": {"1.58": 0.5}}, "certified/1.58")
        0.5
    """
    try:
        if isinstance(value, str):
            found: Any = results
            for key in value.split("/"):
                found = found[key] if hasattr(found, "keys") else found[int(key)]
        else:
            fields = {key: wanted for key, wanted in value.items() if key != "attack"}
            attacks = [attack for attack in results.get("attacks", []) if attack["name"] == value["attack"]]
            (found,) = (attack["accuracy"] for attack in attacks if fields.items() <= attack.items())
        return float(found) if math.isfinite(found) else None
    except (KeyError, IndexError, TypeError, ValueError):  # no such key; not a number; not one attack
        return None


def cell_numbers(plan: Plan, store: Store, row: str, column_name: str) -> list[float | None] | None:
    """Read one cell's number for every seed, None where it is missing; None for a cell that is not run.

    Of several variants the one is shown that is best on held-out images, and only once all of them are there.
    """
    seeds = plan.cells.get((row, column_name))
    if seeds is None:
        return None
    value = plan.study.rows[row].value or plan.study.columns[column_name].value
    assert value is not None
    best = [_best(plan, store, candidates) for candidates in seeds.values()]
    return [None if results is None else look_up(results, value) for results in best]


def _best(plan: Plan, store: Store, candidates: Sequence[Result]) -> Mapping[str, Any] | None:
    stored = [values for values in map(store.read, candidates) if values is not None]
    if len(stored) < len(candidates):
        return None
    scores = [look_up(values, plan.study.select) if len(stored) > 1 else 0.0 for values in stored]
    if None in scores:
        return None
    return stored[int(np.argmax(np.array(scores, dtype=float)))]


def table_rows(plan: Plan, store: Store) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows: our number, in parentheses the paper's."""
    columns = plan.study.columns
    rows = []
    for row in plan.rows:
        looks = [_look(plan.study.rows[row], column) for column in columns.values()]
        cells = [_cell(cell_numbers(plan, store, row, name), *look) for name, look in zip(columns, looks, strict=True)]
        paper = plan.study.paper.get(row, (None,) * len(cells))
        shown = [text if number is None else f"{text} ({number:g})" for text, number in zip(cells, paper, strict=True)]
        rows.append([row, *shown])
    return ["", *columns], rows


def study_markdown(plan: Plan, store: Store) -> str:
    """Write the table in Markdown, with what it rests on."""
    kept = [values for values in map(store.read, plan.results) if values is not None]
    size = plan.study.tiers[plan.tier]
    counts = {name: len(method.variants) for name, method in plan.study.methods.items() if len(method.variants) > 1}
    listed = ", ".join(f"{name} (of {count})" for name, count in counts.items())
    stored = [f"{len(kept)} of {len(plan.results)} runs stored", *sorted({str(values["hardware"]) for values in kept})]
    facts = [
        f"Ours, in parentheses the paper's. Tier {plan.tier}: {size.note}",
        f"The setting that is best on held-out noisy images is shown for {listed}" if counts else "",
        f"Seeds {', '.join(map(str, size.seeds))}; {'; '.join([stored[0], ', '.join(stored[1:])]).removesuffix('; ')}",
        f"`python -m l2nnn_lightning.study {plan.study.name} --tier {plan.tier}`, about {size.minutes}.",
    ]
    text = ". ".join(fact.rstrip(".") for fact in facts if fact) + "."
    return f"{plan.study.title}\n\n{markdown_table(*table_rows(plan, store))}\n\n{text}\n"


def _look(row: Row, column: Column) -> tuple[bool, int]:
    """Say whether a cell is in percent, and its digits after the point."""
    percent = column.percent if row.percent is None else row.percent
    return percent, column.digits if row.digits is None else row.digits


def _cell(numbers: list[float | None] | None, percent: bool, digits: int) -> str:
    if numbers is None:
        return "not run"
    known = [number * (100 if percent else 1) for number in numbers if number is not None]
    if not known:
        return "missing"
    text = f"{np.mean(known):.{digits}f}"
    if len(known) > 1:
        text += f" ± {np.std(known, ddof=1):.{digits}f}"
    return text if len(known) == len(numbers) else f"{text} [{len(known)} of {len(numbers)} seeds]"
