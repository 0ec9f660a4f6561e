"""The table from stored results: means by hand, the best variant by held-out images, and nothing guessed."""

import json
from pathlib import Path

import pytest
from made_up_study import result, write_result, write_study

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.study.draw import draw_bins, draw_curves
from l2nnn_lightning.experiments.study.plan import Plan, make_plan
from l2nnn_lightning.experiments.study.read import read_study
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.table import look_up, study_markdown, table_rows


def test_missing_runs_show_as_missing(plan: Plan, store: Store) -> None:
    assert table_rows(plan, store) == (
        ["", "acc", "gap", "tuned"],
        [
            ["0%", "missing (98.7)", "missing (2.84)", "missing (99.4)"],
            ["50%", "missing (96)", "missing", "not run (65.5)"],
        ],
    )
    assert "0 of 8 runs stored" in study_markdown(plan, store)


def test_cells_are_means_over_seeds(plan: Plan, store: Store) -> None:
    write_result(store, result(plan, "l2nnn-0-s0"), 0.90, gap=1.0)
    _, rows = table_rows(plan, store)
    assert rows[0][1] == "90.0 [1 of 2 seeds] (98.7)"
    write_result(store, result(plan, "l2nnn-0-s1"), 0.94, gap=1.5)
    _, rows = table_rows(plan, store)
    assert rows[0][1:3] == ["92.0 ± 2.8 (98.7)", "1.25 ± 0.35 (2.84)"]
    text = study_markdown(plan, store)
    assert "| 0% | 92.0 ± 2.8 (98.7) |" in text
    assert "2 of 8 runs stored; 1 core" in text
    assert "held-out noisy images is shown for tuned (of 2)" in text


def test_variant_is_chosen_by_held_out_images_once_all_are_there(plan: Plan, store: Store) -> None:
    for seed in (0, 1):
        write_result(store, result(plan, f"tuned-a-0-s{seed}"), 0.99, val=0.4)
    assert table_rows(plan, store)[1][0][3] == "missing (99.4)"
    for seed in (0, 1):
        write_result(store, result(plan, f"tuned-b-0-s{seed}"), 0.80, val=0.6)
    assert table_rows(plan, store)[1][0][3] == "80.0 ± 0.0 (99.4)"


def test_result_of_other_settings_or_damaged_is_missing(plan: Plan, store: Store) -> None:
    wanted = result(plan, "l2nnn-0-s0")
    write_result(store, wanted, 0.9)
    path = store.folder / "l2nnn-0-s0.json"
    assert store.read(wanted) is not None
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"study": {"digest": "another"}}))
    assert store.read(wanted) is None
    path.write_text("{")
    assert store.read(wanted) is None


def test_numbers_are_found_by_key_and_by_attack() -> None:
    results = {
        "accuracy": 0.5,
        "certified": {"1.58": 0.25},
        "hybrid": None,
        "attacks": [{"name": "cw", "max_iter": n, "accuracy": n / 1e4} for n in (100, 1000)],
    }
    assert look_up(results, "certified/1.58") == 0.25
    assert look_up(results, {"attack": "cw", "max_iter": 1000}) == 0.1
    assert look_up({"by_gap": {"bins": [{"cw@10": 0.1}, {"cw@10": 0.2}]}}, "by_gap/bins/1/cw@10") == 0.2
    both = {"attacks": [{"name": name, "accuracy": 0.5} for name in ("cw", "cw_linf")]}
    assert look_up(both, {"attack": "cw"}) == 0.5
    assert look_up({"bins": []}, "bins/0") is None
    for absent in ("hybrid/accuracy", "gap_mean", "certified", {"attack": "cw"}, {"attack": "cw", "max_iter": 5}):
        assert look_up(results, absent) is None


def test_bins_of_several_models_are_drawn_beside_each_other(tmp_path: Path) -> None:
    rows = {"cw": {"value": {"attack": "cw", "max_iter": 10}, "evaluate": {"attacks": "cw", "max_iter": "10"}}}
    columns = {name: {"method": name} for name in ("L2NNN", "tuned")}
    trained = {"L2NNN": {"model.objective.v": 1.0}, "tuned": {"model.objective.v": 2.0}}
    methods = {name: {"config": "models/tiny.yaml", "train": train} for name, train in trained.items()}
    changes = {"rows": rows, "columns": columns, "methods": methods, "paper": {}, "figure": None}
    tiers = {"cpu": {"note": "", "minutes": "", "seeds": [0]}}
    bins = {"row": "cw", "columns": ["L2NNN", "tuned"]}
    folder = write_study(tmp_path / "studies", tmp_path, tiers=tiers, bins=bins, **changes)
    plan = make_plan(read_study("table0", folder), "cpu")
    store = Store(plan, tmp_path / "results", tmp_path / "runs")
    assert draw_bins(plan, store) is None
    for name, robust in (("l2nnn-s0-cw", [0.9, 0.4]), ("tuned-s0-cw", [0.5, 0.5])):
        run = result(plan, name)
        values = {"by_gap": {"bins": [{"accuracy": 1.0, "cw": share} for share in robust]}}
        path = store.folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values | {"study": {"digest": run.digest}}))
    figure = draw_bins(plan, store)
    assert figure is not None
    lines = {str(line.get_label()): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert lines["L2NNN, under cw"] == [90.0, 40.0]
    assert lines["tuned, natural"] == [100.0, 100.0]
    with pytest.raises(UserError, match="bins needs a row that shows an attack"):
        read_study("table0", write_study(tmp_path / "bad", tmp_path, tiers=tiers, bins={"row": "x"}, **changes))


def test_figures_draw_what_is_stored(plan: Plan, store: Store) -> None:
    for seed in (0, 1):
        write_result(store, result(plan, f"l2nnn-0-s{seed}"), 0.9, gap=1.25)
    figure = draw_curves(plan, store)
    assert figure is not None
    ours, paper, other = figure.axes[0].lines[:3]
    assert (ours.get_xdata().tolist(), ours.get_ydata().tolist()) == ([90.0], [1.25])
    assert (paper.get_xdata().tolist(), paper.get_ydata().tolist()) == ([98.7], [2.84])
    assert other.get_xdata().tolist() != other.get_xdata().tolist()  # nan: the other group has no result
