"""From a study's file to its runs: names, overrides in their order, fingerprints; and files that are refused."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_study import STUDY, result, write_study

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.study.plan import Plan, make_plan
from l2nnn_lightning.experiments.study.read import read_study, study_names
from l2nnn_lightning.experiments.study.run import STUDIES

METHODS = yaml.safe_load(STUDY)["methods"]


def test_plan_lists_every_row_method_variant_and_seed(plan: Plan) -> None:
    assert [result.name for result in plan.results] == [
        *("l2nnn-0-s0", "l2nnn-0-s1", "tuned-a-0-s0", "tuned-b-0-s0", "tuned-a-0-s1", "tuned-b-0-s1"),
        *("l2nnn-50-s0", "l2nnn-50-s1"),
    ]
    assert plan.rows == ["0%", "50%"]
    assert result(plan, "tuned-b-0-s1").training.overrides == {
        "trainer.max_epochs": 1,
        "model.optimizer.lr": 0.1,
        "model.objective.v": 2.0,
        "data.label_noise": 0.0,
        "seed_everything": 1,
    }
    assert result(plan, "tuned-b-0-s1").checkpoint == "best"
    assert result(plan, "l2nnn-50-s0").options == {"noisy": True}
    assert [result.name for result in plan.select(["l2nnn-*-s1"])] == ["l2nnn-0-s1", "l2nnn-50-s1"]
    full = make_plan(plan.study, "gpu")
    assert len(full.results) == 3 * 3 + 2 * 3
    assert result(full, "l2nnn-50-s2").training.overrides["model.objective.z"] == 9.0


def test_fingerprint_follows_config_and_overrides_but_not_comments(tmp_path: Path) -> None:
    folder = write_study(tmp_path, tmp_path)

    def digests(**changes: Any) -> dict[str, str]:
        (folder / "table0.yaml").write_text(yaml.safe_dump(yaml.safe_load(STUDY) | changes))
        return {result.name: result.digest for result in make_plan(read_study("table0", folder), "cpu").results}

    before = digests()
    assert len(set(before.values())) == len(before)
    assert digests(title="Another") == before
    changed = digests(methods=METHODS | {"L2NNN": {"config": "models/tiny.yaml"}})
    assert changed["tuned-a-0-s0"] == before["tuned-a-0-s0"]
    assert changed["l2nnn-0-s0"] != before["l2nnn-0-s0"]
    config = folder / "models" / "tiny.yaml"
    config.write_text("# a comment\n" + config.read_text())
    assert digests() == before
    configs = ["models/tiny.yaml", "models/overlay.yaml"]
    methods = {name: {**method, "config": configs} for name, method in METHODS.items()}
    overlay = folder / "models" / "overlay.yaml"
    overlay.write_text("data: {init_args: {batch_size: 10}}")  # says nothing new
    assert digests(methods=methods) == before
    overlay.write_text("data: {init_args: {batch_size: 11}}")
    os.utime(overlay, (0, 0))  # a clock may be coarser than this test
    merged = digests(methods=methods)
    assert not set(merged.values()) & set(before.values())
    config.write_text(config.read_text().replace("batch_size: 10", "batch_size: 11"))
    os.utime(config, (0, 0))
    assert digests() == merged


def test_rows_and_columns_that_only_evaluate_share_their_training(tmp_path: Path) -> None:
    cw = {"attacks": "cw", "max_iter": "100,1000", "cpu": {"limit": 10}}
    rows = {
        "natural": {"value": "accuracy"},
        "100": {"evaluate": cw, "value": {"attack": "cw", "max_iter": 100}},
        "1000": {"evaluate": cw, "value": {"attack": "cw", "max_iter": 1000}},
    }
    methods = {
        "M1": {"config": "models/tiny.yaml", "evaluate": {"fallback": "@other"}},
        "other": {"config": "models/tiny.yaml", "train": {"model.objective.v": 3.0}},
    }
    tiers = {"cpu": {"note": "", "minutes": "", "seeds": [0]}}
    columns = {"M1": {"method": "M1"}, "Linf": {"method": "M1", "evaluate": {"eps": 0.3}}}
    changes = {"rows": rows, "methods": methods, "tiers": tiers, "columns": columns, "paper": {}, "figure": None}
    plan = make_plan(read_study("table0", write_study(tmp_path, tmp_path, **changes)), "cpu")
    assert [run.name for run in plan.results] == ["m1-s0", "m1-s0-linf", "m1-s0-100", "m1-s0-100-linf"]
    assert plan.cells["100", "M1"] == plan.cells["1000", "M1"]
    assert len({run.training.digest for run in plan.results}) == 1
    assert plan.results[2].options == {"attacks": "cw", "max_iter": "100,1000", "limit": 10}
    assert plan.results[2].others["fallback"].name == "other-s0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"acc": {"method": "nobody", "value": "accuracy"}}}, "shows the method 'nobody'"),
        ({"columns": {"acc": {"method": "L2NNN"}}, "paper": {}, "figure": None}, "has no value"),
        ({"columns": {"acc": {"method": "L2NNN", "colour": 3}}}, "colour"),
        ({"paper": {"0%": [1.0]}}, "paper needs 3 numbers for row '0%', got 1"),
        ({"paper": {"7%": [1.0, 1.0, 1.0]}}, "paper names rows that there are not: 7%"),
        ({"figure": {"x": "acc", "y": "weight"}}, "figure needs columns"),
        ({"methods": {"L2NNN": {"config": "none.yaml"}, "tuned": {"config": "none.yaml"}}}, "there is no config"),
        ({"methods": {"L2NNN": {"config": "models/tiny.yaml", "checkpoint": "first"}, "tuned": {}}}, "config"),
        ({"tiers": 3}, "is not a study"),
    ],
)
def test_file_that_is_no_study_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_study("table0", write_study(tmp_path, tmp_path, **changes))


@pytest.mark.parametrize("name", study_names(STUDIES))
def test_studies_of_the_project_can_be_planned(name: str) -> None:
    study = read_study(name, STUDIES)
    assert "cpu" in study.tiers
    for tier in study.tiers:
        plan = make_plan(study, tier)
        assert plan.results
        assert all(Path(config).is_file() for run in plan.results for config in run.training.configs)
        # One name, one run: otherwise one would pass for the other.
        trainings = {(run.training.name, run.training.digest) for run in plan.results}
        assert len(trainings) == len({name for name, _ in trainings})
