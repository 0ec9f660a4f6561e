"""One measured comparison, and the table of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

__all__ = ["HEADER", "Row", "cells", "table"]

HEADER = ("part", "subject", "what", "ours", "other", "ratio", "quartiles", "target")
"""What :func:`cells` gives."""


@dataclass(frozen=True)
class Row:
    """One comparison: ours, what it is measured against, and their ratio.

    Args:
        part: the part of the benchmark, such as ``"step"``.
        subject: what is measured, such as a network's name.
        what: the two sides, as ``"ours / other"``.
        ours: median of ours, in ``unit``.
        other: median of the other side; None where there is no other side, only an amount.
        unit: ``"s"``, ``"images/s"``, ``"MiB"``, ``"L2"`` (a norm), or ``"fraction"``.
        ratio: median of ``ours / other`` over neighbouring runs; None without another side.
        quartiles: the first and third quartile of that ratio.
        target: what is asked of the ratio (or of the amount, without another side), such as ``"<= 1.05"``.
    """

    part: str
    subject: str
    what: str
    ours: float
    other: float | None
    unit: str
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None
    target: str | None = None


def cells(row: Row) -> tuple[str, ...]:
    """Write a comparison as the cells of a table, see :data:`HEADER`."""
    return (
        row.part,
        row.subject,
        row.what,
        _amount(row.ours, row.unit),
        "" if row.other is None else _amount(row.other, row.unit),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        "" if row.quartiles is None else f"{row.quartiles[0]:.3f} to {row.quartiles[1]:.3f}",
        row.target or "",
    )


def table(rows: Sequence[Row], title: str) -> Table:
    """Build the table for the terminal."""
    result = Table(*HEADER, title=title)
    for row in rows:
        result.add_row(*cells(row))
    return result


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1e3 * value:.1f} ms" if value < 10 else f"{value:.1f} s"
    if unit == "fraction":
        return f"{100 * value:.1f}%"
    if unit == "L2":
        return f"{value:.4f}"
    return f"{value:,.0f} {unit}"
