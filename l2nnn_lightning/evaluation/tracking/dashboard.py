"""What W&B shows: of a training its metrics and its path through the gap-against-accuracy plane; a view across runs."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from l2nnn_lightning.data.errors import UserError, need
from l2nnn_lightning.evaluation.options import dashboard_options
from l2nnn_lightning.evaluation.report.files import write_json
from l2nnn_lightning.evaluation.report.plane import PlanePoint, plot_gap_plane
from l2nnn_lightning.evaluation.tracking.runs import certified_line, has_account, in_one_line, open_run, write_run_file
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.metrics import radius_key

__all__ = ["WandbDashboard", "build_workspace", "run_dashboard"]

_SWEPT = (("objective.init_args.omega", "omega"), ("objective.init_args.v", "v"), ("penalty_weight", "lambda"))


class WandbDashboard(pl.Callback):
    """Log to W&B: add it by ``--config configs/logger/wandb.yaml``.

    It adds a WandbLogger with the W&B run of the run folder (the trainer's ``default_root_dir``), whose id is kept
    there, so that resuming and evaluating go on with it; offline where there is no account. Then, beside the metrics:

    - every epoch: the learning rate of each group of parameters, and whether the epoch was trained hard;
    - every few epochs and at the end: ``gap_against_accuracy`` (a picture: training and validation, coloured by epoch,
      the switch to hard scaling ringed), ``gap_against_accuracy_points`` (the same numbers as a scatter and a table)
      and ``certified_curve`` (certified accuracy at the radii of validation).

    A WandbLogger that the trainer has already is used as it is, with a run of its own.

    Args:
        project: the W&B project of a new run (default: ``WANDB_PROJECT``, else l2nnn).
        name: what a new run is called (default: the last two parts of the run folder).
        offline: send nothing, even where there is an account.
        every_n_epochs: the epochs between two drawings, >= 1.

    Raises:
        ValueError: if an argument is out of range, or wandb is not installed.
    """

    def __init__(
        self, project: str | None = None, name: str | None = None, offline: bool = False, every_n_epochs: int = 10
    ) -> None:
        super().__init__()
        need("wandb", "wandb")
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.project, self.name, self.offline, self.every_n_epochs = project, name, offline, every_n_epochs
        self.points: list[PlanePoint] = []
        self.logger: WandbLogger | None = None
        self._trains_hard = False
        self._drawn = 0

    def state_dict(self) -> dict[str, Any]:
        """The points so far, as plain values, so that a resumed run draws the whole path."""
        return {"points": [list(point) for point in self.points]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.points = [PlanePoint(*point) for point in state_dict["points"]]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Find or open the W&B run, before anything is logged; a UserError if W&B refuses."""
        folder, run = Path(trainer.default_root_dir), None
        self.logger = next((logger for logger in trainer.loggers if isinstance(logger, WandbLogger)), None)
        if self.logger is None:
            if trainer.is_global_zero:
                run = open_run(folder, project=self.project, name=self.name, offline=self.offline)
                run.define_metric("trainer/global_step")
                run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            self.logger = WandbLogger(experiment=run)
            trainer.loggers = [*trainer.loggers, self.logger]
        elif trainer.is_global_zero:
            write_run_file(folder, self.logger.experiment)

    def on_train_batch_start(self, trainer: Any, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Note the mode once an epoch: the switch at the epoch's end belongs to the next one."""
        if batch_idx == 0:
            self._trains_hard = bool(pl_module.is_hard)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Note where validation found the network."""
        metrics = trainer.callback_metrics
        if trainer.sanity_checking or "val/accuracy" not in metrics:
            return
        accuracy, gap, hard = (float(metrics[f"val/{name}"]) for name in ("accuracy", "gap_mean", "hard"))
        self.points.append(PlanePoint(trainer.current_epoch, "val", bool(hard), accuracy, gap))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note where training found it; log the learning rates; draw when it is time."""
        assert self.logger is not None
        classifier = cast(Classifier, pl_module)
        # On every process, since these add up over all of them.
        accuracy, gap = float(classifier.train_accuracy.compute()), float(classifier.train_gap.compute())
        self.points.append(PlanePoint(trainer.current_epoch, "train", self._trains_hard, accuracy, gap))
        groups = trainer.optimizers[0].param_groups
        values: dict[str, float] = {f"learning_rate/{i}": group["lr"] for i, group in enumerate(groups)}
        values |= {"train/hard": float(self._trains_hard), "epoch": trainer.current_epoch}
        self.logger.log_metrics(values, step=trainer.global_step - 1)
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, classifier.radii)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw where training ended, if that is not drawn yet."""
        if len(self.points) > self._drawn:
            self._draw(trainer, cast(Classifier, pl_module).radii)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """End the run, so that another training in this process starts its own."""
        self._finish(trainer, 0)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """End the run as a failed one."""
        self._finish(trainer, 1)

    def _finish(self, trainer: pl.Trainer, exit_code: int) -> None:
        if self.logger is not None and trainer.is_global_zero:
            self.logger.experiment.finish(exit_code=exit_code)
            self.logger = None

    def _draw(self, trainer: pl.Trainer, radii: Sequence[float]) -> None:
        self._drawn = len(self.points)
        if not trainer.is_global_zero:
            return
        import wandb

        assert self.logger is not None
        table = wandb.Table(columns=list(PlanePoint._fields), data=[list(point) for point in self.points])
        panels: dict[str, Any] = {
            "gap_against_accuracy": wandb.Image(plot_gap_plane(sorted(self.points))),
            "gap_against_accuracy_points": wandb.plot.scatter(
                table, "accuracy", "gap_mean", title="mean confidence gap against accuracy, a point per epoch and stage"
            ),
        }
        certified: list[Any] = [
            [radius, float(value)]
            for radius in sorted(radii)
            if (value := trainer.callback_metrics.get(f"val/certified_{radius_key(radius)}")) is not None
        ]
        if certified:
            panels["certified_curve"] = certified_line(certified, " of validation images")
        with in_one_line():
            self.logger.log_metrics(panels, step=trainer.global_step - 1)


def build_workspace(entity: str, project: str, name: str) -> Any:
    """Describe the workspace, a ``wandb_workspaces.workspaces.Workspace``; nothing is sent."""
    # By name, since these packages do not export to type checkers what they export to Python.
    wr: Any = importlib.import_module("wandb_workspaces.reports.v2")
    ws: Any = importlib.import_module("wandb_workspaces.workspaces")

    def across_runs(title: str, x: str, y: str, z: str | None = None) -> Any:
        depth, size = None if z is None else wr.Config(z), wr.Layout(w=12, h=10)
        return wr.ScatterPlot(title=title, x=wr.SummaryMetric(x), y=wr.SummaryMetric(y), z=depth, layout=size)

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
    """Save the workspace; a UserError if a package or an account is missing, or W&B refuses."""
    options = dashboard_options(args)
    need("wandb_workspaces", "wandb")
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
