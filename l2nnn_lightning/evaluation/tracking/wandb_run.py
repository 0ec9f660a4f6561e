"""One W&B run for one run folder: its id is kept there, so that resuming and evaluating go on with the same run."""

import json
import netrc
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from jsonargparse import Namespace
from pytorch_lightning.loggers import Logger, WandbLogger

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.run_folder import is_first_process

if TYPE_CHECKING:
    from wandb import Run

__all__ = [
    "DEFAULT_PROJECT",
    "RUN_FILE",
    "finish_run",
    "has_account",
    "keep_run",
    "open_run",
    "refuse_wandb",
    "write_run_file",
]

DEFAULT_PROJECT = "l2nnn"
RUN_FILE = "wandb.json"
"""In the run folder: id, name, project and entity of its W&B run, and whether it is offline."""


def has_account() -> bool:
    """Tell whether W&B will find an API key, or has been told by its environment variables what to do without one."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE")):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def keep_run(config: Any, folder: Path) -> None:
    """Give the WandbLoggers of a config the run of a run folder, in place; offline where there is no account.

    Args:
        config: ``trainer.logger`` as parsed: one logger, a list of them, or none.
        folder: the run folder; it need not exist.
    """
    for logger in config if isinstance(config, list) else [config]:
        if not isinstance(logger, Namespace) or logger.class_path.rsplit(".", 1)[-1] != WandbLogger.__name__:
            continue
        options = logger.init_args
        kept = _read_run_file(folder)
        # A sweep's agent names the run by an environment variable.
        name = options.id or options.version or kept.get("id") or os.environ.get("WANDB_RUN_ID") or uuid4().hex[:8]
        options.id, options.version = name, None
        options.name = options.name or kept.get("name") or "/".join(folder.parts[-2:])
        options.project = options.project or kept.get("project") or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
        if options.get("resume") is None:
            options.resume = "allow"  # the config's null would take the place of the logger's own "allow"
        if options.save_dir in (None, "."):
            options.save_dir = str(folder)
        if not options.offline and not has_account():
            options.offline = True
            if is_first_process():
                print(
                    f"no W&B account is set up here: the run is kept offline; later, wandb login and wandb sync "
                    f"{folder / 'wandb' / 'offline-run-*'}",
                    file=sys.stderr,
                )


def write_run_file(folder: Path, run: "Run") -> None:
    """Keep in the run folder what :func:`keep_run` and :func:`open_run` need to find its W&B run again."""
    values = {"id": run.id, "name": run.name, "project": run.project, "entity": run.entity, "offline": run.offline}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def open_run(folder: Path) -> "Run":
    """Go on with the W&B run of a run folder.

    Args:
        folder: a run folder with a :data:`RUN_FILE`.

    Raises:
        UserError: if that is damaged, or W&B refuses.
    """
    kept = _read_run_file(folder)
    import wandb

    try:
        return wandb.init(
            id=kept["id"],
            name=kept.get("name"),
            project=kept.get("project"),
            entity=kept.get("entity") or None,
            dir=str(folder),
            resume="allow",
            mode="offline" if kept.get("offline") else None,
        )
    except wandb.Error as error:
        refuse_wandb(error)
        raise


def refuse_wandb(error: Exception) -> None:
    """Turn an error of W&B, such as a wrong key or no network, into one line; others are left alone.

    Raises:
        UserError: if it is one.
    """
    if type(error).__module__.split(".")[0] == "wandb":
        text = " ".join(str(error).split())
        raise UserError(f"W&B: {text}; to do without it for now, set WANDB_MODE=offline") from error


def finish_run(loggers: Iterable[Logger], succeeded: bool) -> None:
    """End the W&B run of a training, so that another one in this process starts its own."""
    if not any(isinstance(logger, WandbLogger) for logger in loggers):
        return
    import wandb

    if wandb.run is not None:
        wandb.run.finish(exit_code=0 if succeeded else 1)


def _read_run_file(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{folder / RUN_FILE} is damaged: remove it to start another W&B run") from error
    return values if isinstance(values, dict) else {}
