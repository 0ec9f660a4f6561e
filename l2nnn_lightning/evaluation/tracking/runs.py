"""One W&B run for one run folder, whose id is kept there: resuming and evaluating go on with the same run."""

import json
import netrc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np

from l2nnn_lightning.data.errors import UserError, need
from l2nnn_lightning.evaluation.measure.results import Evaluation, certified_accuracy
from l2nnn_lightning.evaluation.report.gallery import to_pixels
from l2nnn_lightning.training.checkpoints import run_folder_of
from l2nnn_lightning.training.metrics import radius_key

if TYPE_CHECKING:
    import wandb

__all__ = ["certified_line", "has_account", "in_one_line", "open_run", "track_evaluation", "tracked_folder"]

_RUN_FILE = "wandb.json"
"""In the run folder: id, name, project and entity of its W&B run, and whether it is offline."""
_SHOWN = 25  # rows of a table of images


def has_account() -> bool:
    """Tell whether W&B will find an API key, or has been told by its environment variables what to do without one."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE")):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def open_run(
    folder: Path, *, project: str | None = None, name: str | None = None, offline: bool | None = None
) -> "wandb.Run":
    """Go on with the W&B run of a run folder, or start it; offline where there is no account.

    By default a new run is in the environment's project, else in ``l2nnn``, and has the last two parts of the folder as
    its name; nothing is sent if nothing was before.

    Raises:
        UserError: if what the folder holds about its run is damaged, or W&B refuses.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)  # else W&B writes elsewhere
    kept = _read_run_file(folder)
    is_offline = bool(kept.get("offline")) if offline is None else offline
    if not is_offline and not has_account():
        is_offline = True
        print(
            f"no W&B account is set up here: the run is kept offline; later, wandb login and wandb sync "
            f"{folder / 'wandb' / 'offline-run-*'}",
            file=sys.stderr,
        )
    with in_one_line():
        run = wandb.init(
            # A sweep's agent names the run by an environment variable.
            id=kept.get("id") or os.environ.get("WANDB_RUN_ID") or uuid4().hex[:8],
            name=name or kept.get("name") or "/".join(folder.parts[-2:]),
            project=project or kept.get("project") or os.environ.get("WANDB_PROJECT") or "l2nnn",
            entity=kept.get("entity") or None,
            dir=str(folder),
            resume="allow",
            mode="offline" if is_offline else None,
        )
    write_run_file(folder, run)
    return run


def write_run_file(folder: Path, run: "wandb.Run") -> None:
    """Keep in the run folder what :func:`open_run` needs to find its W&B run again."""
    values = {name: getattr(run, name) for name in ("id", "name", "project", "entity", "offline")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RUN_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _read_run_file(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / _RUN_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{folder / _RUN_FILE} is damaged: remove it to start another W&B run") from error


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn an error of W&B, such as a wrong key or no network, into a UserError of one line."""
    import wandb

    try:
        yield
    except wandb.Error as error:
        text = " ".join(str(error).split())
        raise UserError(f"W&B: {text}; to do without it for now, set WANDB_MODE=offline") from error


def certified_line(points: Any, of: str) -> Any:
    """Draw the certified accuracy against the radius from pairs of both."""
    import wandb

    columns: list[str | int] = ["radius", "certified accuracy"]
    table = wandb.Table(columns=columns, data=points)
    return wandb.plot.line(table, "radius", "certified accuracy", title=f"certified accuracy{of}")


def tracked_folder(checkpoint: str | Path) -> Path:
    """Find the run folder of a checkpoint whose training was logged to W&B; a UserError if it was not."""
    need("wandb", "wandb")
    folder = run_folder_of(checkpoint)
    if folder is None or not (folder / _RUN_FILE).is_file():
        raise UserError(
            f"the training of {checkpoint} was not logged to W&B: leave out --wandb, "
            "or train with --config configs/logger/wandb.yaml as well"
        )
    return folder


def track_evaluation(run_folder: Path, results: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write to the W&B run of a run folder what was evaluated.

    The summary gets ``evaluation/accuracy``, ``gap_mean``, ``radius_mean``, ``certified_R``, ``robust_ATTACK`` and what
    they hold for; the run gets the curve ``evaluation/certified_curve`` and the tables ``evaluation/largest_gaps`` and
    ``evaluation/smallest_gaps``.

    Raises:
        UserError: if W&B refuses.
    """
    import wandb

    run, records = open_run(run_folder), evaluation.records
    # The whole curve: certified accuracy falls to 0 just above the largest radius.
    curve = np.array([[r, certified_accuracy(records, r)] for r in np.linspace(0, records.radius.max() * 1.02, 101)])
    order = np.argsort(-records.gap, kind="stable")
    panels: dict[str, Any] = {"evaluation/certified_curve": certified_line(curve, f", {results['dataset']}")}
    for name, rows in (("largest", order[:_SHOWN]), ("smallest", order[::-1][:_SHOWN])):
        shown = [_row(evaluation, int(i)) for i in rows]
        columns: list[str | int] = list(shown[0])
        panels[f"evaluation/{name}_gaps"] = wandb.Table(columns=columns, data=[list(row.values()) for row in shown])
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
