"""The project's studies: train.py understands every training, evaluate.py every evaluation."""

from pathlib import Path

import pytest

from l2nnn_lightning.evaluation.options import evaluate_options
from l2nnn_lightning.experiments.study.plan import make_plan
from l2nnn_lightning.experiments.study.read import read_study, study_names
from l2nnn_lightning.experiments.study.run import STUDIES
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.tasks import evaluation_command, training_command
from l2nnn_lightning.training.command import TrainCLI

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class ParseOnly(TrainCLI):
    """Everything but building model, data and trainer."""

    def instantiate_classes(self) -> None:
        return


PLANS = [
    make_plan(study, tier) for study in (read_study(n, STUDIES) for n in study_names(STUDIES)) for tier in study.tiers
]


@pytest.mark.slow
def test_every_kind_of_training_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    # Each key over each config, with as many others as it comes with: another number in its place needs no second look.
    trainings = {run.training.digest: (plan, run.training) for plan in PLANS for run in plan.results}
    seen: set[tuple[tuple[str, ...], str]] = set()
    count = 0
    for plan, training in sorted(trainings.values(), key=lambda found: -len(found[1].overrides)):
        keys = {(training.configs, key) for key in training.overrides}
        if keys <= seen:
            continue
        seen |= keys
        count += 1
        args = training_command(training, Store(plan, tmp_path, tmp_path))[3:]
        assert "network" in ParseOnly(args, "study").config.model.init_args
    assert count > 20


def test_every_kind_of_evaluation_is_understood(tmp_path: Path) -> None:
    kinds = {str(run.options): (Store(plan, tmp_path, tmp_path), run) for plan in PLANS for run in plan.results}
    assert len(kinds) > 10
    for store, run in kinds.values():
        options = evaluate_options(evaluation_command(run, store)[3:])
        assert options.ckpt_path == str(store.checkpoint(run.training, run.checkpoint))
        assert (options.fallback is not None) == ("fallback" in run.others)
