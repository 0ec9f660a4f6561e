"""Put an evaluation into the W&B run of its training: summary, certified curve, extreme images with their attacks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.results import certified_curve
from l2nnn_lightning.evaluation.report.gallery import Images
from l2nnn_lightning.evaluation.tracking.wandb_run import RUN_FILE, open_run
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


def track_evaluation(
    run_folder: Path,
    results: Mapping[str, Any],
    records: Records,
    images: Images,
    *,
    attacked_images: Mapping[str, Images] | None = None,
    label_names: Sequence[str] | None = None,
    shown: int = 25,
) -> None:
    """Write to the W&B run of a run folder what was evaluated.

    The summary gets ``evaluation/accuracy``, ``gap_mean``, ``radius_mean``, ``certified_R``, ``robust_ATTACK`` and what
    they hold for; the run gets the curve ``evaluation/certified_curve`` and the tables ``evaluation/largest_gaps`` and
    ``evaluation/smallest_gaps``.

    Args:
        run_folder: the folder of a run that was logged to W&B.
        results: the content of results.json.
        records: the records behind it.
        images: (N, C, H, W) in the order of the records, uint8 in [0, 255] or floating in [0, 1].
        attacked_images: by an attack's name what it made of them.
        label_names: names of the labels, in their order.
        shown: rows of each table, >= 1.

    Raises:
        UserError: if the training was not logged to W&B, or W&B refuses.
    """
    import wandb

    run = open_run(run_folder)
    # The whole curve: certified accuracy falls to 0 just above the largest radius.
    radii = np.linspace(0, float(records.radius.max()) * 1.02, 101)
    curve = np.stack([radii, certified_curve(records, radii)], axis=1).tolist()
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
        panels[f"evaluation/{name}_gaps"] = _table(records, rows, images, attacked_images or {}, label_names)
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


def _table(
    records: Records,
    rows: npt.NDArray[np.intp],
    images: Images,
    attacked_images: Mapping[str, Images],
    label_names: Sequence[str] | None,
) -> "wandb.Table":
    """Make a table with an image a row and, for each attack, what it made of it and what came of that."""
    import wandb

    columns: list[str | int] = ["index", "image", "label", "prediction", "gap", "radius"]
    shown = {name: attacked for name, attacked in attacked_images.items() if name in records.attacks}
    for name in shown:
        columns += [f"{name} image", f"{name} broken", f"{name} norm", f"{name} prediction"]
    table = wandb.Table(columns=columns)
    for i in rows:
        row: list[Any] = [
            int(records.index[i]),
            _image(images[i]),
            _name(records.label[i], label_names),
            _name(records.prediction[i], label_names),
            float(records.gap[i]),
            float(records.radius[i]),
        ]
        for name, attacked in shown.items():
            record = records.attacks[name]
            # A norm of inf, for what was not broken, is no number in W&B's tables.
            norm = float(record.norm[i]) if np.isfinite(record.norm[i]) else None
            label = None if record.prediction is None else _name(record.prediction[i], label_names)
            row += [_image(attacked[i]), bool(record.broken[i]), norm, label]
        table.add_data(*row)
    return table


def _image(image: Any) -> "wandb.Image":
    import wandb

    pixels = image.detach().cpu().float().numpy() if isinstance(image, Tensor) else np.asarray(image, np.float32)
    scale = 1 if image.dtype.itemsize == 1 else 255
    bytes_CHW = np.clip(np.rint(pixels * scale), 0, 255).astype(np.uint8)
    return wandb.Image(bytes_CHW[0] if len(bytes_CHW) == 1 else np.moveaxis(bytes_CHW, 0, -1))


def _name(label: int, names: Sequence[str] | None) -> str:
    return names[int(label)] if names is not None else str(int(label))
