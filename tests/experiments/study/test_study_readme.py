"""Study tables in the README, filled from the stored results."""

from pathlib import Path

import pytest
from made_up_study import result, write_result, write_study

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.pages import fill
from l2nnn_lightning.experiments.study import make_plan, read_study
from l2nnn_lightning.experiments.study.store import Store


def test_study_table_is_filled_from_stored_results(tmp_path: Path) -> None:
    plan = make_plan(read_study("table0", write_study(tmp_path / "configs" / "study", tmp_path)), "cpu")
    store = Store(plan, tmp_path / "results" / "study", tmp_path)
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


def test_unknown_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no study 'none'"):
        fill("<!-- study/none -->\n<!-- end -->", tmp_path)
