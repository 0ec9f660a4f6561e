import json
from pathlib import Path

import pytest
from made_up_study import result, write_result

from l2nnn_lightning.experiments.pages import fill, pages
from l2nnn_lightning.experiments.study.plan import Plan
from l2nnn_lightning.experiments.study.store import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_the_tables_of_the_pages_are_those_of_the_results(page):
    text = page.read_text()
    held = {
        "README.md": "<!-- compare",
        "results.md": "<!-- results/mnist5k.json -->",
        "tables.md": "<!-- study/table4",
    }
    assert held.get(page.name, "") in text
    assert fill(text, ROOT) == text


def write_results(folder: Path, name: str, **values: object) -> None:
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results" / f"{name}.json").write_text(json.dumps(values))


def test_a_missing_result_shows_as_missing(tmp_path):
    text = "a\n<!-- results/none.json -->\n| 99% |\n<!-- end -->\nb"
    assert fill(text, tmp_path) == "a\n<!-- results/none.json -->\nnot run yet\n<!-- end -->\nb"


@pytest.mark.parametrize(
    ("text", "message"),
    [("<!-- study/none -->", "there is no study 'none'"), ("<!-- compare\nresults/a.json\n-->", "NAME: FILE")],
)
def test_what_cannot_be_filled_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        fill(f"{text}\n<!-- end -->", tmp_path)


def test_a_result_shows_with_its_seed_and_command(tmp_path):
    results = json.loads((ROOT / "results" / "mnist5k.json").read_text())
    results |= {"gap_mean": 1.25, "seed": 3, "hardware": "1 core", "command": "python evaluate.py"}
    write_results(tmp_path, "x", **results)
    text = fill("<!-- results/x.json -->\n<!-- end -->", tmp_path)
    assert "| mean confidence gap | 1.250 |" in text
    assert "Seed 3, 1 core; `python evaluate.py`" in text


def test_a_benchmark_shows_with_its_command(tmp_path):
    row = {"part": "step", "subject": "mlp", "what": "a / b", "ours": 0.5, "other": 0.25, "unit": "s", "ratio": 2.0}
    write_results(tmp_path, "b", rows=[row], threads=1, hardware="1 core", command="python -m x")
    text = fill("<!-- results/b.json -->\n<!-- end -->", tmp_path)
    assert "| subject | what | ours | other | ratio | quartiles | target |" in text
    assert "| mlp | a / b | 500.0 ms | 250.0 ms | 2.000 |  |  |" in text
    assert "1 thread, 1 core; `python -m x`." in text


def test_results_stand_side_by_side(tmp_path):
    box = {"radius_box_mean": 2.0, "certified_box": {"1": 0.4}}
    write_results(tmp_path, "a", accuracy=0.9, radius_mean=1.0, certified={"1": 0.5, "2": 0.25})
    write_results(tmp_path, "b", accuracy=0.8, radius_mean=1.0, certified={"1": 0.3}, **box)
    text = (
        "<!-- compare\none: two: results/a.json results/b.json\nbox: results/b.json#box\nlater: results/c.json\n-->\n"
        "| stale |\n<!-- end -->"
    )
    filled = fill(text, tmp_path)
    assert filled.splitlines()[5:-1] == [
        "|  | clean % | mean radius | @1 % | @2 % | seeds |",
        "|:---|---:|---:|---:|---:|---:|",
        "| one: two | 85.0 | 1.00 | 40.0 |  | 2 |",
        "| box | 80.0 | 2.00 | 40.0 |  | 1 |",
        "| later | not run yet |  |  |  |  |",
    ]
    assert fill(filled, tmp_path) == filled


def test_study_table_is_filled_from_stored_results(tmp_path: Path, plan: Plan, store: Store) -> None:
    for seed in (0, 1):
        write_result(store, result(plan, f"l2nnn-0-s{seed}"), 0.9)
    text = "before\n<!-- study/table0 -->\n| 99% |\n<!-- end -->\nafter\n<!-- study/table0/gpu -->\n<!-- end -->\n"
    filled = fill(text, tmp_path)
    first, second = filled.split("after\n")
    assert first.startswith("before\n<!-- study/table0 -->\nTable 0. Made up\n")
    assert "| 0% | 90.0 ± 0.0 (98.7) |" in first
    assert "99% |" not in first
    assert "0 of 15 runs stored" in second
    assert "| 100% | missing | missing | not run |" in second
    assert fill(filled, tmp_path) == filled
