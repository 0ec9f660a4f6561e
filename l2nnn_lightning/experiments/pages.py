"""``python -m l2nnn_lightning.pages``: fill the pages' tables from the stored results that they name."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from l2nnn_lightning.evaluation.report.tables import markdown_table, summary_rows
from l2nnn_lightning.experiments.benchmark.rows import HEADER, Row, cells
from l2nnn_lightning.experiments.comparison import comparison
from l2nnn_lightning.experiments.study import make_plan, read_study, study_markdown
from l2nnn_lightning.experiments.study.store import Store

__all__ = ["fill", "main", "pages"]

_PLACE = re.compile(r"<!-- (results/[\w-]+\.json) -->\n.*?<!-- end -->", re.DOTALL)
_COMPARISON = re.compile(r"(<!-- compare\n(.*?)-->\n).*?<!-- end -->", re.DOTALL)
_STUDY = re.compile(r"<!-- study/(\w+)(?:/(\w+))? -->\n.*?<!-- end -->", re.DOTALL)


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

    def table(match: re.Match[str]) -> str:
        path = root / match[1]
        body = "not run yet"
        if path.is_file():
            results = json.loads(path.read_text())
            body = _benchmark(results) if "rows" in results else _evaluation(results)
        return f"<!-- {match[1]} -->\n{body}\n<!-- end -->"

    def study_table(match: re.Match[str]) -> str:
        plan = make_plan(read_study(match[1], root / "configs" / "study"), match[2] or "cpu")
        body = study_markdown(plan, Store(plan, root / "results" / "study", root))
        return f"{match[0].splitlines()[0]}\n{body}<!-- end -->"

    def compared(match: re.Match[str]) -> str:
        return f"{match[1]}{comparison(match[2], root)}\n<!-- end -->"

    return _STUDY.sub(study_table, _COMPARISON.sub(compared, _PLACE.sub(table, text)))


def _evaluation(results: dict[str, Any]) -> str:
    table = markdown_table(*summary_rows(results)).rstrip()
    return f"{table}\n\nSeed {results['seed']}, {results['hardware']}; `{results['command']}`."


def _benchmark(results: dict[str, Any]) -> str:
    # Without the part, which the command names.
    table = markdown_table(HEADER[1:], [cells(Row(**row))[1:] for row in results["rows"]])
    threads = f"{results['threads']} thread{'s' if results['threads'] > 1 else ''}"
    command = f"; `{results['command']}`" if "command" in results else ""  # the first files have none
    return f"{table}\n\n{threads}, {results['hardware']}{command}."


def pages(root: Path) -> list[Path]:
    """List the pages that may hold tables."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def main() -> int:
    """Rewrite the pages of the current folder; return the exit code."""
    for page in pages(Path()):
        page.write_text(fill(page.read_text(), Path()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
