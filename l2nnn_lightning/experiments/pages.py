"""``python -m l2nnn_lightning pages``: fill the tables of the pages from the stored results that they name."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from l2nnn_lightning.evaluation.arguments import parse_options
from l2nnn_lightning.training.arguments import program

__all__ = ["comparison", "fill", "pages", "run_pages"]

_PLACE = re.compile(
    r"(<!-- ((?P<file>results/[\w-]+\.json) |study/(?P<study>\w+)(/(?P<tier>\w+))? |compare\n(?P<lines>.*?))-->\n)"
    r".*?<!-- end -->",
    re.DOTALL,
)


@dataclass(frozen=True)
class PagesOptions:
    """Fill the tables of README.md and docs/ from the stored results that they name.

    Args:
        root: the folder that holds the pages, configs/study and results.
    """

    root: Path = Path()


def run_pages(args: Sequence[str]) -> None:
    """Rewrite the pages."""
    root = parse_options(PagesOptions, args, program("pages")).root
    for page in pages(root):
        page.write_text(fill(page.read_text(), root))


def pages(root: Path) -> list[Path]:
    """List the pages that may hold tables."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def fill(text: str, root: Path) -> str:
    """Replace what stands between ``<!-- results/NAME.json -->`` and ``<!-- end -->`` by that file's table.

    The file is an evaluation's, or one that ``python -m l2nnn_lightning.benchmark --output`` wrote.
    ``<!-- compare``, rows as for :func:`comparison`, ``-->`` becomes a table of several results, and
    ``<!-- study/NAME -->``, or ``<!-- study/NAME/TIER -->``, becomes a study's table, of the tier ``cpu`` by default.

    Args:
        text: the page.
        root: the folder that holds ``configs/study/`` and ``results/``.

    Returns:
        The page with its tables; a missing file shows as missing.
    """

    def filled(match: re.Match[str]) -> str:
        if match["lines"] is not None:
            body = comparison(match["lines"], root)
        elif match["study"] is not None:
            body = _study(match["study"], match["tier"] or "cpu", root)
        else:
            path = root / match["file"]
            body = _result(json.loads(path.read_text())) if path.is_file() else "not run yet"
        return f"{match[1]}{body.rstrip()}\n<!-- end -->"

    return _PLACE.sub(filled, text)


def _result(results: dict[str, Any]) -> str:
    """Write the table of an evaluation or of a benchmark."""
    from l2nnn_lightning.evaluation.report.report import summary_rows
    from l2nnn_lightning.evaluation.report.tables import markdown_table
    from l2nnn_lightning.experiments.benchmark.timing import HEADER, Row, cells

    if "rows" not in results:
        table = markdown_table(*summary_rows(results)).rstrip()
        return f"{table}\n\nSeed {results['seed']}, {results['hardware']}; `{results['command']}`."
    # Without the part, which the command names.
    table = markdown_table(HEADER[1:], [cells(Row(**row))[1:] for row in results["rows"]])
    threads = f"{results['threads']} thread{'s' if results['threads'] > 1 else ''}"
    command = f"; `{results['command']}`" if "command" in results else ""  # the first files have none
    return f"{table}\n\n{threads}, {results['hardware']}{command}."


def _study(name: str, tier: str, root: Path) -> str:
    from l2nnn_lightning.experiments.study.plan import make_plan
    from l2nnn_lightning.experiments.study.read import read_study
    from l2nnn_lightning.experiments.study.store import Store
    from l2nnn_lightning.experiments.study.table import study_markdown

    plan = make_plan(read_study(name, root / "configs" / "study"), tier)
    return study_markdown(plan, Store(plan, root / "results" / "study", root))


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
    from l2nnn_lightning.evaluation.report.tables import markdown_table, radius_name

    rows: dict[str, list[tuple[float, float, dict[str, float]]]] = {}
    for line in filter(None, (line.strip() for line in lines.splitlines())):
        name, colon, files = line.rpartition(": ")
        if not colon or not files.split():
            raise ValueError(f"a row of a comparison is 'NAME: FILE [FILE ...]', got {line!r}")
        rows[name] = _compared(files.split(), root)
    radii = list(dict.fromkeys(radius for runs in rows.values() for *_, certified in runs for radius in certified))
    table = []
    for name, runs in rows.items():
        if not runs:
            table.append((name, "not run yet", *[""] * (len(radii) + 2)))
            continue
        clean, mean_radius, certified = zip(*runs, strict=True)
        at = [[run[radius] for run in certified if radius in run] for radius in radii]
        proven = [f"{100 * fmean(values):.1f}" if len(values) == len(runs) else "" for values in at]
        table.append((name, f"{100 * fmean(clean):.1f}", f"{fmean(mean_radius):.2f}", *proven, str(len(runs))))
    radius_names = (f"@{radius_name(radius)} %" for radius in radii)
    return markdown_table(("", "clean %", "mean radius", *radius_names, "seeds"), table)


def _compared(names: list[str], root: Path) -> list[tuple[float, float, dict[str, float]]]:
    """Pick accuracy, mean radius and certified accuracies out of every file; nothing where one is missing."""
    runs = []
    for file, _, box in (name.partition("#") for name in names):
        if not (root / file).is_file():
            return []
        found = json.loads((root / file).read_text())
        keys = ("radius_box_mean", "certified_box") if box else ("radius_mean", "certified")
        runs.append((found["accuracy"], *(found[key] for key in keys)))
    return runs
