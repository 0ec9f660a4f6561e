"""What is left to do: trainings go on where they stopped, and nothing is done twice."""

from dataclasses import replace
from pathlib import Path

from made_up_study import result, write_result, write_study

from l2nnn_lightning.experiments.study.estimate import core_speed, estimate
from l2nnn_lightning.experiments.study.plan import Plan, make_plan
from l2nnn_lightning.experiments.study.read import read_study
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.tasks import evaluation_command, missing_tasks, training_command

TIER = {"note": "", "minutes": "", "seeds": [0]}


def names(plan: Plan, store: Store, pattern: str) -> list[str]:
    return [task.name for task in missing_tasks(plan.select([pattern]), store)]


def test_only_what_is_missing_is_done(plan: Plan, store: Store) -> None:
    run = result(plan, "l2nnn-0-s0")
    assert names(plan, store, run.name) == ["train l2nnn-0-s0", "evaluate l2nnn-0-s0"]
    tasks = missing_tasks(plan.select(["l2nnn-*"]), store)
    assert [sorted(task.needs) for task in tasks[:4]] == [[], ["train l2nnn-0-s0"], [], ["train l2nnn-0-s1"]]
    store.run_folder(run.training).mkdir(parents=True)
    tasks[0].finish(1.0)  # the training ended well
    assert names(plan, store, run.name) == ["evaluate l2nnn-0-s0"]
    write_result(store, run, 0.5)
    assert names(plan, store, run.name) == []


def test_training_goes_on_from_its_last_checkpoint_or_starts_anew(plan: Plan, store: Store) -> None:
    training = result(plan, "tuned-b-0-s1").training
    folder, last = store.run_folder(training), store.checkpoint(training, "last")
    folder.mkdir(parents=True)
    (folder / "metrics.csv").touch()  # cut short in its first epoch
    command = training_command(training, store)
    assert not folder.exists()
    assert "--ckpt_path" not in command
    assert command[command.index("--run_dir") + 1] == str(folder)
    assert {"--seed_everything=1", "--model.objective.v=2.0"} <= set(command)
    last.parent.mkdir(parents=True)
    last.touch()
    assert training_command(training, store)[-2:] == ["--ckpt_path", str(last)]
    assert last.exists()


def test_options_become_a_command_line(plan: Plan, store: Store) -> None:
    run = result(plan, "l2nnn-50-s0")
    command = evaluation_command(run, store)
    assert command[3:5] == ["--ckpt_path", str(store.checkpoint(run.training, "last"))]
    assert command[-1] == "--noisy"


def test_a_training_that_another_study_has_finished_is_taken_over(plan: Plan, store: Store) -> None:
    run = result(plan, "l2nnn-0-s0")
    other = store.runs.parent.parent / "another" / "cpu" / f"model_3-s0-{run.training.digest}"
    other.mkdir(parents=True)
    assert store.run_folder(run.training).parent == store.runs  # it has not come to its end
    (other / "trained").touch()
    assert store.run_folder(run.training) == other
    assert names(plan, store, run.name) == ["evaluate l2nnn-0-s0"]
    assert str(other / "checkpoints" / "last.ckpt") in evaluation_command(run, store)
    store.runs.joinpath(f"{run.training.name}-{run.training.digest}").mkdir(parents=True)
    assert store.run_folder(run.training).parent == store.runs


def test_pictures_are_stored_beside_the_numbers(tmp_path: Path) -> None:
    rows = {"0%": {"train": {"data.label_noise": 0.0}, "keep": ["largest_gaps", "none_such"]}}
    folder = write_study(tmp_path / "studies", tmp_path, rows=rows, tiers={"cpu": TIER}, paper={}, figure=None)
    plan = make_plan(read_study("table0", folder), "cpu")
    store = Store(plan, tmp_path / "results", tmp_path / "runs")
    run = result(plan, "l2nnn-0-s0")
    pictures = store.evaluation_folder(run) / "figures"
    pictures.mkdir(parents=True)
    (pictures / "largest_gaps.png").write_bytes(b"picture")
    (pictures.parent / "results.json").write_text("{}")
    store.keep(run)
    assert (store.folder / "l2nnn-0-s0-largest_gaps.png").read_bytes() == b"picture"
    assert sorted(path.name for path in store.folder.iterdir()) == ["l2nnn-0-s0-largest_gaps.png", "l2nnn-0-s0.json"]


def test_times_are_stated_for_what_is_left(tmp_path: Path) -> None:
    methods = {
        "L2NNN": {"config": "models/tiny.yaml", "minutes": {"cpu": 30, "evaluate": 2}, "seeds": {"cpu": [4, 5, 6]}},
        "tuned": {"config": "models/tiny.yaml", "rows": []},
    }
    rows = {"0%": {}, "50%": {"evaluate": {"limit": 5}, "minutes": {"cpu": 90}}}
    changes = {"methods": methods, "rows": rows, "tiers": {"cpu": TIER}, "paper": {}, "figure": None}
    plan = make_plan(read_study("table0", write_study(tmp_path / "studies", tmp_path, **changes)), "cpu")
    tasks = missing_tasks(plan.results, Store(plan, tmp_path / "results", tmp_path / "runs"))
    assert sorted((task.name, task.minutes) for task in tasks) == [
        *((f"evaluate l2nnn-s{seed}{row}", minutes) for seed in (4, 5, 6) for row, minutes in (("", 2), ("-50", 90))),
        *((f"train l2nnn-s{seed}", 30) for seed in (4, 5, 6)),
    ]
    # 3 (30 + 2 + 90) minutes of one core, by two of half its speed.
    assert estimate(tasks, 2, lambda: 0.5) == "9 runs: about 6.1 hours, 2 at once"
    assert estimate(tasks, 99, lambda: 2.0) == "9 runs: about 45 minutes, 99 at once"
    bare = [replace(task, minutes=None) for task in tasks]
    assert estimate(bare, 2, lambda: 1.0) == "9 runs: its file states no times"
    assert estimate([*tasks, bare[0]], 2, lambda: 1.0).endswith(", without 1 of which its file states no time")
    assert core_speed() > 0
