"""``python -m l2nnn_lightning.evaluation.readme``: fill the README's tables from the results.json files they name."""

import json
import re
import sys
from pathlib import Path

from l2nnn_lightning.evaluation.tables import markdown_table, summary_rows

__all__ = ["fill", "main"]

_PLACE = re.compile(r"<!-- (results/[\w-]+\.json) -->\n.*?<!-- end -->", re.DOTALL)


def fill(text: str, root: Path) -> str:
    """Replace what stands between ``<!-- results/NAME.json -->`` and ``<!-- end -->`` by that file's table.

    Args:
        text: the README.
        root: the folder that holds ``results/``.

    Returns:
        The README with its tables; a missing file shows as missing.
    """

    def table(match: re.Match[str]) -> str:
        path = root / match[1]
        body = "not run yet"
        if path.is_file():
            results = json.loads(path.read_text())
            body = markdown_table(*summary_rows(results))
            body = body.rstrip() + f"\n\nSeed {results['seed']}, {results['hardware']}; `{results['command']}`."
        return f"<!-- {match[1]} -->\n{body}\n<!-- end -->"

    return _PLACE.sub(table, text)


def main() -> int:
    """Rewrite README.md in the current folder; return the exit code."""
    readme = Path("README.md")
    readme.write_text(fill(readme.read_text(), Path()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
