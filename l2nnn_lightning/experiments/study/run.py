"""``python -m l2nnn_lightning study``: run what is missing, then print the table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jsonargparse.typing import PositiveInt

from l2nnn_lightning.evaluation.arguments import parse_options
from l2nnn_lightning.training.arguments import program
from l2nnn_lightning.training.configs import config_folder

__all__ = ["STUDIES", "StudyOptions", "run_study"]

#: The folder of the studies that come with the project.
STUDIES = config_folder() / "study"


@dataclass(frozen=True)
class StudyOptions:
    """Fill one of the paper's tables; or train every combination of values: study sweep --help.

    Args:
        name: the study, such as table5; or sweep.
        tier: its size: cpu, or gpu for the paper's full set-up.
        jobs: how many runs at once; by default one a device, or without any one a core.
        only: only these runs, separated by commas; ``*`` stands for anything, such as 'l2nnn-75*'.
        list: list the studies, or the runs of one.
        table: run nothing: print the table from what is stored.
        root: folder of the data sets; by default L2NNN_DATA in the environment, else data/.
        output: folder of the stored results.
        runs: folder of the runs.
        configs: folder of the studies; by default the project's configs/study.
    """

    name: str | None = None
    tier: str = "cpu"
    jobs: PositiveInt | None = None
    only: str = "*"
    list: bool = False
    table: bool = False
    root: Path | None = None
    output: Path = Path("results/study")
    runs: Path = Path("runs/study")
    configs: Path = STUDIES


def run_study(args: Sequence[str]) -> None:
    """Run the missing part of a study, one process a run, and print its table from the stored results.

    A run whose result is stored is not repeated; one that was cut short goes on from its last checkpoint. Before
    anything starts it says about how long all of it will take.

    Args:
        args: the command line, see :class:`StudyOptions`.

    Raises:
        ArgumentError, UserError: for bad input, in one line.
        FailedWorkError: if a run failed; all others have been run then.
    """
    if args[:1] == ["sweep"]:
        from l2nnn_lightning.experiments.sweep import run_sweep

        run_sweep(args[1:])
        return
    options = parse_options(StudyOptions, args, program("study"), {"name": "?"})
    # Only now, since they need torch.
    from l2nnn_lightning.data.errors import FailedWorkError, UserError
    from l2nnn_lightning.experiments.study.plan import make_plan
    from l2nnn_lightning.experiments.study.read import read_study, study_names
    from l2nnn_lightning.experiments.study.store import Store

    if options.name is None:
        names = study_names(options.configs)
        if not options.list:
            raise UserError(f"name a study: {', '.join(names)}")
        for study in (read_study(name, options.configs) for name in names):
            tiers = ", ".join(f"{tier} {size.minutes}" for tier, size in study.tiers.items())
            print(f"{study.name}: {study.title} ({tiers})")
        return
    plan = make_plan(read_study(options.name, options.configs), options.tier)
    wanted = plan.select([part.strip() for part in options.only.split(",")])
    store = Store(plan, options.output, options.runs)
    if options.list:
        for result in wanted:
            print(f"{result.name}: {'missing' if store.read(result) is None else 'stored'}")
        return

    from l2nnn_lightning.evaluation.report.files import write_text
    from l2nnn_lightning.experiments.study import schedule
    from l2nnn_lightning.experiments.study.draw import draw_bins, draw_curves
    from l2nnn_lightning.experiments.study.estimate import estimate
    from l2nnn_lightning.experiments.study.table import study_markdown
    from l2nnn_lightning.experiments.study.tasks import missing_tasks

    if options.root is not None:
        # Not on the runs' command lines, which the results quote.
        os.environ["L2NNN_DATA"] = str(options.root.resolve())
    tasks = [] if options.table else missing_tasks(wanted, store)
    jobs = options.jobs or schedule.default_jobs()
    if tasks:
        print(estimate(tasks, jobs), flush=True)
    failed = schedule.run_tasks(tasks, jobs, partial(print, flush=True)) if tasks else []
    text = study_markdown(plan, store)
    print(text)
    write_text(store.folder.with_name(f"{plan.tier}.md"), text)
    for name, draw in (("curves", draw_curves), ("bins", draw_bins)):
        if (figure := draw(plan, store)) is not None:
            path = store.folder.with_name(f"{plan.tier}_{name}.png")
            figure.savefig(path)
            print(path)
    if failed:
        raise FailedWorkError(f"failed: {', '.join(failed)}; what they printed is in their logs")
