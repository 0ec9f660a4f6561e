from pathlib import Path

import pytest
from made_up_study import write_study

from l2nnn_lightning.experiments.study.plan import Plan, make_plan
from l2nnn_lightning.experiments.study.read import read_study
from l2nnn_lightning.experiments.study.store import Store


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The made-up study in its small tier."""
    return make_plan(read_study("table0", write_study(tmp_path / "configs" / "study", tmp_path)), "cpu")


@pytest.fixture
def store(plan: Plan, tmp_path: Path) -> Store:
    return Store(plan, tmp_path / "results" / "study", tmp_path / "runs")
