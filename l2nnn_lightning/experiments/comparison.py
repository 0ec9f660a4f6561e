"""A table that sets stored results side by side."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from l2nnn_lightning.evaluation.report.tables import markdown_table, radius_name

__all__ = ["comparison"]


def comparison(lines: str, root: Path) -> str:
    """Compare results in Markdown: clean accuracy, mean certified radius, certified accuracies.

    Args:
        lines: one row each, ``NAME: FILE [FILE ...]``, the files below ``root``; of several, which differ in their
            seed, the mean is shown. ``#box`` after a name of a file takes the radii inside the image box.
        root: the folder that holds the files.

    Returns:
        The table; a missing file shows as missing.

    Raises:
        ValueError: if a line is of another form.
    """
    rows: dict[str, list[dict[str, Any]] | None] = {}
    for line in filter(None, (line.strip() for line in lines.splitlines())):
        name, colon, files = line.rpartition(": ")
        if not colon or not files.split():
            raise ValueError(f"a row of a comparison is 'NAME: FILE [FILE ...]', got {line!r}")
        rows[name] = _read([root / file for file in files.split()])
    radii = list(dict.fromkeys(radius for runs in rows.values() for run in runs or [] for radius in run["certified"]))
    table = []
    for name, runs in rows.items():
        if runs is None:
            table.append((name, "not run yet", *[""] * (len(radii) + 2)))
            continue
        cells = [f"{100 * fmean(run['accuracy'] for run in runs):.1f}", f"{fmean(run['radius'] for run in runs):.2f}"]
        for radius in radii:
            values = [run["certified"][radius] for run in runs if radius in run["certified"]]
            cells.append(f"{100 * fmean(values):.1f}" if len(values) == len(runs) else "")
        table.append((name, *cells, str(len(runs))))
    return markdown_table(
        ("", "clean %", "mean radius", *(f"@{radius_name(radius)} %" for radius in radii), "seeds"), table
    )


def _read(paths: list[Path]) -> list[dict[str, Any]] | None:
    """Pick what is compared out of every file; None where one is missing."""
    runs = []
    for path in paths:
        file, _, box = str(path).partition("#")
        if not Path(file).is_file():
            return None
        results = json.loads(Path(file).read_text())
        runs.append(
            {
                "accuracy": results["accuracy"],
                "radius": results["radius_box_mean" if box else "radius_mean"],
                "certified": results["certified_box" if box else "certified"],
            }
        )
    return runs
