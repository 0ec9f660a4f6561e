"""The paper's table with our numbers beside it, from stored results alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l2nnn_lightning.evaluation.report.tables import markdown_table
from l2nnn_lightning.experiments.study.plan import Plan, Result
from l2nnn_lightning.experiments.study.read import Column, Value
from l2nnn_lightning.experiments.study.store import Store

__all__ = ["MISSING", "NOT_RUN", "cell_numbers", "look_up", "study_markdown", "table_rows"]

MISSING, NOT_RUN = "missing", "not run"


def look_up(results: Mapping[str, Any], value: Value) -> float | None:
    """Find a number in the content of ``results.json``.

    Args:
        results: the content.
        value: keys joined by "/", such as ``noisy/train/gap_mean``; or fields of one attack, of which ``attack`` is the
            name's beginning: its accuracy.

    Returns:
        The number, None where there is none.

    Example:
        >>> look_up({"certified": {"1.58": 0.5}}, "certified/1.58")
        0.5
    """
    found: Any = results
    if isinstance(value, str):
        for key in value.split("/"):
            found = found.get(key) if isinstance(found, Mapping) else None
    else:
        fields = {key: wanted for key, wanted in value.items() if key != "attack"}
        fitting = [
            attack
            for attack in results.get("attacks", [])
            if str(attack["name"]).startswith(value["attack"])
            and all(attack.get(key) == wanted for key, wanted in fields.items())
        ]
        found = fitting[0]["accuracy"] if len(fitting) == 1 else None
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def cell_numbers(plan: Plan, store: Store, row: str, column_name: str) -> list[float | None] | None:
    """Read one cell's number for every seed, None where it is missing; None for a cell that is not run.

    Of several variants the one is shown that is best on held-out images, and only once all of them are there.
    """
    seeds = plan.cells.get((row, column_name))
    if seeds is None:
        return None
    value = plan.study.rows[row].value or plan.study.columns[column_name].value
    assert value is not None
    numbers: list[float | None] = []
    for candidates in seeds.values():
        best = _best(plan, store, candidates)
        numbers.append(None if best is None else look_up(best, value))
    return numbers


def _best(plan: Plan, store: Store, candidates: Sequence[Result]) -> Mapping[str, Any] | None:
    found = [store.read(result) for result in candidates]
    stored = [values for values in found if values is not None]
    if len(stored) < len(found):
        return None
    if len(stored) == 1:
        return stored[0]
    scores = [look_up(values, plan.study.select) for values in stored]
    if any(score is None for score in scores):
        return None
    return stored[int(np.argmax(np.array(scores, dtype=float)))]


def table_rows(plan: Plan, store: Store) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows: our number, in parentheses the paper's."""
    rows = []
    for row in plan.rows:
        cells = []
        for position, (name, column) in enumerate(plan.study.columns.items()):
            paper = plan.study.paper.get(row, (None,) * len(plan.study.columns))[position]
            text = _cell(cell_numbers(plan, store, row, name), column)
            cells.append(text if paper is None else f"{text} ({paper:g})")
        rows.append([row, *cells])
    return ["", *plan.study.columns], rows


def study_markdown(plan: Plan, store: Store) -> str:
    """Write the table in Markdown, with what it rests on."""
    kept = [values for values in (store.read(result) for result in plan.results) if values is not None]
    size = plan.study.tiers[plan.tier]
    seeds = ", ".join(map(str, size.seeds))
    machines = sorted({str(values["hardware"]) for values in kept})
    facts = [
        f"Ours, in parentheses the paper's. Tier {plan.tier}: {size.note}",
        f"Seeds {seeds}; {len(kept)} of {len(plan.results)} runs stored" + (f"; {', '.join(machines)}" if kept else ""),
        f"`python -m l2nnn_lightning.study {plan.study.name} --tier {plan.tier}`, about {size.minutes}.",
    ]
    picked = _picked(plan)
    if picked:
        facts.insert(1, picked)
    text = ". ".join(fact.rstrip(".") for fact in facts) + "."
    return f"{plan.study.title}\n\n{markdown_table(*table_rows(plan, store))}\n\n{text}\n"


def _picked(plan: Plan) -> str:
    counts = {name: len(method.variants) for name, method in plan.study.methods.items() if len(method.variants) > 1}
    if not counts:
        return ""
    listed = ", ".join(f"{name} (of {count})" for name, count in counts.items())
    return f"The setting that is best on held-out noisy images is shown for {listed}"


def _cell(numbers: list[float | None] | None, column: Column) -> str:
    if numbers is None:
        return NOT_RUN
    known = [number * (100 if column.percent else 1) for number in numbers if number is not None]
    if not known:
        return MISSING
    text = f"{np.mean(known):.{column.digits}f}"
    if len(known) > 1:
        text += f" ± {np.std(known, ddof=1):.{column.digits}f}"
    return text if len(known) == len(numbers) else f"{text} [{len(known)} of {len(numbers)} seeds]"
