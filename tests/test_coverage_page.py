"""The page docs/coverage.md: every row is whole, and what it names is there."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| detail |")
]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_is_long_enough_to_be_about_the_paper() -> None:
    assert len(ROWS) > 80
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_where_and_by_what_and_how_it_differs(row: list[str]) -> None:
    detail, where, shown, differs = row
    assert detail
    assert differs
    assert named(where)
    for path in named(where):
        assert (ROOT / "l2nnn_lightning" / path).exists(), path
        if path.endswith(".py"):
            importlib.import_module(f"l2nnn_lightning.{path.removesuffix('.py').replace('/', '.')}")
    studies = re.findall(r"study (\w+)", shown)
    assert named(shown) or studies
    for path in named(shown):
        assert path.startswith(("tests/", "results/")), path
        assert (ROOT / path).is_file(), path
        assert not path.startswith("tests/") or "\ndef test_" in (ROOT / path).read_text(encoding="utf-8"), path
    for name in studies:
        assert (ROOT / "configs" / "study" / f"{name}.yaml").is_file(), name
    for link in re.findall(r"\]\(([^)]+)\)", differs):
        assert (ROOT / "docs" / link).is_file(), link
