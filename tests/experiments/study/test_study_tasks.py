"""What is left to do: trainings go on where they stopped, and nothing is done twice."""

from made_up_study import result, write_result

from l2nnn_lightning.experiments.study.plan import Plan
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.tasks import evaluation_command, missing_tasks, training_command


def names(plan: Plan, store: Store, pattern: str) -> list[str]:
    return [task.name for task in missing_tasks(plan.select([pattern]), store)]


def test_only_what_is_missing_is_done(plan: Plan, store: Store) -> None:
    run = result(plan, "l2nnn-0-s0")
    assert names(plan, store, run.name) == ["train l2nnn-0-s0", "evaluate l2nnn-0-s0"]
    tasks = missing_tasks(plan.select(["l2nnn-*"]), store)
    assert [sorted(task.needs) for task in tasks[:4]] == [[], ["train l2nnn-0-s0"], [], ["train l2nnn-0-s1"]]
    store.run_folder(run.training).mkdir(parents=True)
    tasks[0].finish()  # the training ended well
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
