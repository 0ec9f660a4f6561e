"""One W&B run for one run folder: its id is kept there, so that resuming and evaluating go on with the same run."""

import json
import netrc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from l2nnn_lightning.data.errors import UserError

if TYPE_CHECKING:
    from wandb import Run

__all__ = ["RUN_FILE", "has_account", "in_one_line", "open_run", "write_run_file"]

_DEFAULT_PROJECT = "l2nnn"
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


def open_run(
    folder: Path, *, project: str | None = None, name: str | None = None, offline: bool | None = None
) -> "Run":
    """Go on with the W&B run of a run folder, or start it; offline where there is no account.

    Args:
        folder: the run folder.
        project: the project of a new run, else that of the environment, else ``l2nnn``.
        name: what a new run is called, else the last two parts of the folder.
        offline: whether nothing is sent; by default as before.

    Raises:
        UserError: if the folder's :data:`RUN_FILE` is damaged, or W&B refuses.
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
            project=project or kept.get("project") or os.environ.get("WANDB_PROJECT") or _DEFAULT_PROJECT,
            entity=kept.get("entity") or None,
            dir=str(folder),
            resume="allow",
            mode="offline" if is_offline else None,
        )
    write_run_file(folder, run)
    return run


def write_run_file(folder: Path, run: "Run") -> None:
    """Keep in the run folder what :func:`open_run` needs to find its W&B run again."""
    values = {"id": run.id, "name": run.name, "project": run.project, "entity": run.entity, "offline": run.offline}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn an error of W&B, such as a wrong key or no network, into one line.

    Raises:
        UserError: if there is one.
    """
    import wandb

    try:
        yield
    except wandb.Error as error:
        text = " ".join(str(error).split())
        raise UserError(f"W&B: {text}; to do without it for now, set WANDB_MODE=offline") from error


def _read_run_file(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{folder / RUN_FILE} is damaged: remove it to start another W&B run") from error
    return dict(values)
