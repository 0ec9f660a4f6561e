"""The project's studies: train.py understands every training, evaluate.py every evaluation."""

import inspect
from pathlib import Path

import pytest

from l2nnn_lightning.evaluation.parser import parse_options
from l2nnn_lightning.experiments.study.plan import Plan, make_plan
from l2nnn_lightning.experiments.study.read import read_study, study_names
from l2nnn_lightning.experiments.study.run import STUDIES
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.tasks import evaluation_command, training_command
from l2nnn_lightning.models import L2NNNS, ORDINARY
from l2nnn_lightning.training.cli import TrainCLI

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class ParseOnly(TrainCLI):
    """Everything but building model, data and trainer."""

    def instantiate_classes(self) -> None:
        return


def plans() -> list[Plan]:
    studies = [read_study(name, STUDIES) for name in study_names(STUDIES)]
    return [make_plan(study, tier) for study in studies for tier in study.tiers]


@pytest.mark.slow
def test_every_kind_of_training_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    seen = set()
    for plan in plans():
        store = Store(plan, tmp_path / "results", tmp_path / "runs")
        for training in {run.training.digest: run.training for run in plan.results}.values():
            # Another number in the same place needs no second look.
            kind = (
                *training.configs,
                *sorted(training.overrides),
                *sorted(training.overrides.get("model.network_args", {})),
            )
            if kind in seen:
                continue
            seen.add(kind)
            args = training_command(training, store)[3:]
            init_args = ParseOnly(args, "study").config.model.init_args
            networks = L2NNNS if "penalty_weight" in init_args else ORDINARY
            inspect.signature(networks[init_args.network]).bind((1, 28, 28), 10, **(init_args.network_args or {}))
    assert len(seen) > 20


def test_every_kind_of_evaluation_is_understood(tmp_path: Path) -> None:
    seen = set()
    for plan in plans():
        store = Store(plan, tmp_path / "results", tmp_path / "runs")
        for run in plan.results:
            kind = str(run.options)
            if kind in seen:
                continue
            seen.add(kind)
            options = parse_options(evaluation_command(run, store)[3:])
            assert options.ckpt_path == str(store.checkpoint(run.training, run.checkpoint))
            assert (options.fallback is not None) == ("fallback" in run.others)
    assert len(seen) > 10
