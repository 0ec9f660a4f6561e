"""Save a W&B workspace of gap against accuracy across runs: ``python -m l2nnn_lightning dashboard``."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.options import dashboard_options
from l2nnn_lightning.evaluation.report.files import write_json
from l2nnn_lightning.evaluation.tracking.wandb_run import has_account

__all__ = ["build_workspace", "run_dashboard"]

_SWEPT = (("objective.init_args.omega", "omega"), ("objective.init_args.v", "v"), ("penalty_weight", "lambda"))


def build_workspace(entity: str, project: str, name: str) -> Any:
    """Describe the workspace, a ``wandb_workspaces.workspaces.Workspace``; nothing is sent.

    Args:
        entity: the user or team.
        project: the project.
        name: what the workspace is called in the list of views.
    """
    # By name, since these packages do not export to type checkers what they export to Python.
    wr: Any = importlib.import_module("wandb_workspaces.reports.v2")
    ws: Any = importlib.import_module("wandb_workspaces.workspaces")

    def across_runs(title: str, x: str, y: str, z: str | None = None) -> Any:
        return wr.ScatterPlot(
            title=title,
            x=wr.SummaryMetric(x),
            y=wr.SummaryMetric(y),
            z=None if z is None else wr.Config(z),
            layout=wr.Layout(w=12, h=10),
        )

    def by_epoch(title: str, *metrics: str) -> Any:
        return wr.LinePlot(title=title, x="epoch", y=list(metrics), layout=wr.Layout(w=12, h=8))

    trade_off = [
        across_runs("validation: mean gap against accuracy", "val/accuracy", "val/gap_mean"),
        across_runs("training: mean gap against accuracy", "train/accuracy", "train/gap_mean"),
        across_runs("evaluation: mean gap against accuracy", "evaluation/accuracy", "evaluation/gap_mean"),
        across_runs("validation: mean certified radius against accuracy", "val/accuracy", "val/radius_mean"),
        wr.ParallelCoordinatesPlot(
            title="omega, v and lambda to accuracy and gap",
            columns=[
                *(wr.ParallelCoordinatesPlotColumn(wr.Config(key), display_name=text) for key, text in _SWEPT),
                wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("val/gap_mean"), display_name="mean gap"),
                wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("val/accuracy"), display_name="accuracy"),
            ],
            layout=wr.Layout(w=24, h=10),
        ),
        *(across_runs(f"gap against accuracy, depth: {t}", "val/accuracy", "val/gap_mean", k) for k, t in _SWEPT),
    ]
    training = [
        wr.MediaBrowser(title="one run: gap against accuracy by epoch", media_keys=["gap_against_accuracy"]),
        by_epoch("accuracy", "train/accuracy", "val/accuracy"),
        by_epoch("mean gap", "train/gap_mean", "val/gap_mean"),
        by_epoch("mean certified radius", "val/radius_mean"),
        by_epoch("penalty (7)", "train/penalty"),
        by_epoch("hard", "val/hard"),
        by_epoch("learning rate", "learning_rate/0"),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(name="Gap against accuracy", panels=trade_off, is_open=True, pinned=True),
            ws.Section(name="Training", panels=training, is_open=True),
        ],
        auto_generate_panels=True,
    )


def run_dashboard(args: Sequence[str]) -> None:
    """Run ``python -m l2nnn_lightning dashboard``.

    Args:
        args: the command line, see ``--help``.

    Raises:
        ArgumentError: for a bad command line.
        UserError: if a W&B package or an account is missing, or W&B refuses.
    """
    options = dashboard_options(args)
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("wandb-workspaces is missing: pip install wandb-workspaces")
    if options.json is not None:
        workspace = build_workspace(options.entity or "entity", options.project, options.name)
        write_json(Path(options.json), workspace._spec)
        print(f"workspace: {options.json} (not sent)")
        return
    if not has_account():
        raise UserError("no W&B account is set up here: run wandb login first, or write the workspace with --json FILE")
    import wandb

    try:
        entity = options.entity or str(wandb.Api().default_entity)
        saved = build_workspace(entity, options.project, options.name).save()
    except Exception as error:  # whatever the client, its server or the network say
        raise UserError(f"W&B did not save the workspace: {' '.join(str(error).split())}") from error
    print(f"workspace: {saved.url}")
