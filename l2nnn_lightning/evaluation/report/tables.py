"""How tables and the numbers in them are written, for the terminal and for the report."""

from collections.abc import Sequence

from rich.table import Table

__all__ = ["Row", "markdown_table", "percent", "radius_name", "rich_table"]

Row = Sequence[str]


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with one decimal."""
    return f"{100 * fraction:.1f}%"


def radius_name(radius: str) -> str:
    """Name a radius of ``results.json``: whole steps of 8-bit pixels as a fraction, unless the decimal is short.

    Example:
        >>> [radius_name(radius) for radius in ("0.5", "1.58", "0.141176")]
        ['0.5', '1.58', '36/255']
    """
    steps = 255 * float(radius)
    return f"{steps:.0f}/255" if len(radius) > 6 and abs(steps - round(steps)) < 1e-3 else radius


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
