"""The command ``python -m l2nnn_lightning.study``: run what is missing, then print the table."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.report.files import write_text
from l2nnn_lightning.experiments.study.draw import write_figures
from l2nnn_lightning.experiments.study.plan import make_plan
from l2nnn_lightning.experiments.study.read import STUDIES, read_study, study_names
from l2nnn_lightning.experiments.study.schedule import default_jobs, run_tasks
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.table import study_markdown
from l2nnn_lightning.experiments.study.tasks import missing_tasks
from l2nnn_lightning.training import command_line

__all__ = ["StudyError", "main", "run_study"]

RESULTS, RUNS = Path("results/study"), Path("runs/study")


class StudyError(Exception):
    """Some runs failed; what they printed is in their logs."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see python -m l2nnn_lightning.study --help")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 if a run failed, or 2 for bad input."""
    try:
        return command_line.main(run_study, args)
    except StudyError:
        return 1


def run_study(args: Sequence[str]) -> None:
    """Run the missing part of a study, one process a run, and print its table from the stored results.

    A run whose result is stored is not repeated; one that was cut short goes on from its last checkpoint.

    Args:
        args: the command line, see ``--help``.

    Raises:
        UserError: for bad input, in one line.
        StudyError: if a run failed; all others have been run then.
    """
    options = _parser().parse_args(args)
    folder = Path(options.configs)
    if options.name is None:
        if not options.list:
            raise UserError(f"name a study: {', '.join(study_names(folder))}")
        for name in study_names(folder):
            study = read_study(name, folder)
            tiers = ", ".join(f"{tier} {size.minutes}" for tier, size in study.tiers.items())
            print(f"{name}: {study.title} ({tiers})")
        return
    if options.jobs is not None and options.jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {options.jobs}")
    plan = make_plan(read_study(options.name, folder), options.tier)
    wanted = plan.select([part.strip() for part in options.only.split(",")] if options.only else ["*"])
    store = Store(plan, Path(options.output), Path(options.runs))
    if options.list:
        for result in wanted:
            print(f"{result.name}: {'missing' if store.read(result) is None else 'stored'}")
        return
    failed: list[str] = []
    if not options.table:
        if options.root is not None:
            # Not on the runs' command lines, which the results quote.
            os.environ["L2NNN_DATA"] = str(Path(options.root).resolve())
        tasks = missing_tasks(wanted, store)
        failed = run_tasks(tasks, options.jobs or default_jobs(), lambda line: print(line, flush=True)) if tasks else []
    text = study_markdown(plan, store)
    print(text)
    write_text(store.folder.with_name(f"{plan.tier}.md"), text)
    for path in write_figures(plan, store):
        print(path)
    if failed:
        raise StudyError


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m l2nnn_lightning.study", description="Fill one of the paper's tables.")
    add = parser.add_argument
    add("name", nargs="?", help="the study, such as table5")
    add("--tier", default="cpu", help="its size: cpu, or gpu for the paper's full set-up (default: cpu)")
    add("--jobs", type=int, help="how many runs at once (default: one a device, or without any one a core)")
    add("--only", help="only these runs, separated by commas; * stands for anything, such as 'l2nnn-75*'")
    add("--list", action="store_true", help="list the studies, or the runs of one")
    add("--table", action="store_true", help="run nothing: print the table from what is stored")
    add("--root", help="folder of the data sets (default: L2NNN_DATA in the environment, else data/)")
    add("--output", default=str(RESULTS), help="folder of the stored results (default: %(default)s)")
    add("--runs", default=str(RUNS), help="folder of the runs (default: %(default)s)")
    add("--configs", default=str(STUDIES), help="folder of the studies (default: the project's configs/study)")
    return parser
