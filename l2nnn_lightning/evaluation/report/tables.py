"""The tables of an evaluation, for the terminal and for the report, from the same rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table

from l2nnn_lightning.evaluation.measure.measures import MEASURES
from l2nnn_lightning.evaluation.report.cells import Row, percent, radius_name

__all__ = ["bin_rows", "markdown_table", "radius_name", "rich_table", "summary_rows", "why_unproved"]


def summary_rows(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return the header and the rows of the summary.

    Args:
        results: the content of ``results.json``.
    """
    rows: list[Row] = [
        ("accuracy", percent(results["accuracy"])),
        ("mean confidence gap", f"{results['gap_mean']:.3f}"),
    ]
    if results["hard"]:
        rows.append((f"mean certified radius ({results['radius_kind']})", f"{results['radius_mean']:.3f}"))
        rows += [
            (f"certified accuracy, L2 radius {radius_name(r)}", percent(a)) for r, a in results["certified"].items()
        ]
    else:
        rows.append(("certified accuracy", why_unproved(results)))
    if results["hard"] and "certified_box" in results:
        rows.append(("mean certified radius, pixels in [0, 1]", f"{results['radius_box_mean']:.3f}"))
        rows += [
            (f"certified accuracy, L2 radius {radius_name(r)}, pixels in [0, 1]", percent(a))
            for r, a in results["certified_box"].items()
        ]
    rows += _measured(results, before_attacks=True)
    for attack in results["attacks"]:
        setting = f"{attack['norm']} eps {attack['eps']:g}, {attack['max_iter']} iterations"
        if attack.get("restarts", 1) > 1:
            setting += f", {attack['restarts']} attempts"
        rows.append((f"accuracy under {attack['name']}, {setting}", percent(attack["accuracy"])))
    return ("measure", "value"), [*rows, *_measured(results, before_attacks=False)]


def why_unproved(results: Mapping[str, Any]) -> str:
    """Say in a few words why a network that is not hard proves nothing."""
    ordinary = results["config"].get("classifier") == "OrdinaryClassifier"
    return f"{'ordinary network' if ordinary else 'penalty mode'}: nothing is proved"


def _measured(results: Mapping[str, Any], *, before_attacks: bool) -> list[Row]:
    """Return the rows of what was measured because it was asked for."""
    chosen = [m for m in MEASURES if m.name in results and m.before_attacks is before_attacks]
    return [row for measure in chosen for row in measure.rows(results[measure.name])]


def bin_rows(bins: pd.DataFrame, radius: float) -> tuple[Row, list[Row]]:
    """Return the header and the rows of accuracy per gap bin.

    Args:
        bins: the bins, largest gaps first, as from :func:`gap_bins`.
        radius: L2 radius of their certified fraction.
    """
    under = [f"under {name}" for name in bins.columns[5:]]
    rows: list[Row] = [
        (str(position), f"{largest:.2f} to {smallest:.2f}", str(n), *map(percent, fractions))
        for position, (n, largest, smallest, *fractions) in enumerate(bins.itertuples(index=False, name=None), start=1)
    ]
    return ("bin", "gaps", "n", "accuracy", f"certified @{radius:g}", *under), rows


def rich_table(title: str, header: Row, rows: Sequence[Row]) -> Table:
    """Build a table for the terminal."""
    table = Table(title=title, title_justify="left")
    for position, name in enumerate(header):
        table.add_column(name, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """Write a table in Markdown.

    Example:
        >>> print(markdown_table(("measure", "value"), [("accuracy", "97.0%")]))
        | measure | value |
        |:---|---:|
        | accuracy | 97.0% |
    """
    first, *others = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (header, *rows)]
    return "\n".join([f"| {first} |", f"|:---|{'---:|' * (len(header) - 1)}", *(f"| {row} |" for row in others)])
