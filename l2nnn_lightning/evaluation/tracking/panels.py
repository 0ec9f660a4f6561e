"""Put an evaluation into the W&B run of its training: summary, certified curve, extreme images with their attacks."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.results import certified_curve
from l2nnn_lightning.evaluation.measure.run import Evaluation
from l2nnn_lightning.evaluation.report.gallery import to_pixels
from l2nnn_lightning.evaluation.tracking.wandb_run import RUN_FILE, in_one_line, open_run
from l2nnn_lightning.training.checkpoints import run_folder_of
from l2nnn_lightning.training.metrics import radius_key

if TYPE_CHECKING:
    import wandb

__all__ = ["track_evaluation", "tracked_folder"]


def tracked_folder(checkpoint: str | Path) -> Path:
    """Find the run folder of a checkpoint whose training was logged to W&B.

    Raises:
        UserError: if it was not.
    """
    folder = run_folder_of(checkpoint)
    if folder is None or not (folder / RUN_FILE).is_file():
        raise UserError(
            f"the training of {checkpoint} was not logged to W&B: leave out --wandb, "
            "or train with --config configs/logger/wandb.yaml as well"
        )
    return folder


def track_evaluation(run_folder: Path, results: Mapping[str, Any], evaluation: Evaluation, *, shown: int = 25) -> None:
    """Write to the W&B run of a run folder what was evaluated.

    The summary gets ``evaluation/accuracy``, ``gap_mean``, ``radius_mean``, ``certified_R``, ``robust_ATTACK`` and what
    they hold for; the run gets the curve ``evaluation/certified_curve`` and the tables ``evaluation/largest_gaps`` and
    ``evaluation/smallest_gaps``.

    Args:
        run_folder: the folder of a run that was logged to W&B.
        results: the content of results.json.
        evaluation: what it was computed from.
        shown: rows of each table, >= 1.

    Raises:
        UserError: if W&B refuses.
    """
    import wandb

    run, records = open_run(run_folder), evaluation.records
    # The whole curve: certified accuracy falls to 0 just above the largest radius.
    radii = np.linspace(0, float(records.radius.max()) * 1.02, 101)
    curve = np.stack([radii, certified_curve(records, radii)], axis=1)
    order = np.argsort(-records.gap, kind="stable")
    panels: dict[str, Any] = {
        "evaluation/certified_curve": wandb.plot.line(
            wandb.Table(columns=["radius", "certified accuracy"], data=curve),
            "radius",
            "certified accuracy",
            title=f"certified accuracy, {results['dataset']}",
        )
    }
    for name, rows in (("largest", order[:shown]), ("smallest", order[::-1][:shown])):
        shown_rows = [_row(evaluation, int(i)) for i in rows]
        columns: list[str | int] = list(shown_rows[0])
        table = wandb.Table(columns=columns, data=[list(row.values()) for row in shown_rows])
        panels[f"evaluation/{name}_gaps"] = table
    with in_one_line():
        run.log(panels)
        run.summary.update({f"evaluation/{key}": value for key, value in _summary(results).items()})
        run.finish()


def _summary(results: Mapping[str, Any]) -> dict[str, Any]:
    plain = ("dataset", "n", "accuracy", "gap_mean", "radius_mean", "checkpoint", "hard")
    values = {key: results[key] for key in plain}
    values |= {f"certified_{radius_key(float(r))}": share for r, share in results["certified"].items()}
    for attack in results["attacks"]:  # in the order of their iterations, where one was run several times
        values[f"robust_{attack['name']}"] = attack["accuracy"]
        values[f"robust_{attack['name']}_eps"] = attack["eps"]
    return values


def _row(evaluation: Evaluation, i: int) -> dict[str, Any]:
    """Describe an image: what the network says of it, what each attack made of it and what came of that."""
    records, name = evaluation.records, evaluation.name
    row: dict[str, Any] = {
        "index": int(records.index[i]),
        "image": _image(evaluation.images[i]),
        "label": name(records.label[i]),
        "prediction": name(records.prediction[i]),
        "gap": float(records.gap[i]),
        "radius": float(records.radius[i]),
    }
    for attack, attacked in evaluation.attacked.items():
        record = records.attacks[attack]
        row[f"{attack} image"] = _image(attacked[i])
        row[f"{attack} broken"] = bool(record.broken[i])
        # A norm of inf, for what was not broken, is no number in W&B's tables.
        row[f"{attack} norm"] = float(record.norm[i]) if np.isfinite(record.norm[i]) else None
        row[f"{attack} prediction"] = None if record.prediction is None else name(record.prediction[i])
    return row


def _image(image: Any) -> "wandb.Image":
    import wandb

    return wandb.Image(np.rint(255 * to_pixels(image)).astype(np.uint8))
