"""The folder of a run: where it is, that it is not overwritten, metrics.csv across a resume, whole checkpoints."""

import csv
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml  # type: ignore[import-untyped]  # its types are a package of their own
from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.plugins.io import TorchCheckpointIO

from l2nnn_lightning.data.errors import UserError

__all__ = ["AtomicCheckpointIO", "RunConfig", "RunLogger"]
__all__ += ["check_free", "discard_unstarted", "is_first_process", "new_run_folder"]

# How torchrun, SLURM and Lightning's own launcher number processes and nodes. Of these, a first process has only zeros.
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")


def is_first_process() -> bool:
    """Tell whether this is the one process of a training that writes, before any process group exists."""
    return all(int(os.environ.get(name) or 0) == 0 for name in _RANKS)


def new_run_folder(name: str, root: str | Path = "runs") -> Path:
    """Choose ``root/name/version_N`` with the first N above all that exist.

    Processes that a launcher starts from this one get the same folder, by way of the environment.
    """
    inherited = os.environ.get("L2NNN_RUN_DIR")
    if inherited and "LOCAL_RANK" in os.environ:
        return Path(inherited)
    versions = [int(p.name[8:]) for p in (Path(root) / name).glob("version_*") if p.name[8:].isdigit()]
    folder = Path(root) / name / f"version_{max(versions, default=-1) + 1}"
    os.environ["L2NNN_RUN_DIR"] = str(folder)
    return folder


def check_free(folder: Path) -> None:
    """Refuse a folder that already holds a run, or is a file, with a UserError."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose another --run_dir")
    for sign in ("config.yaml", "metrics.csv", "checkpoints"):
        if (folder / sign).exists():
            raise UserError(
                f"{folder} already holds a run: choose another --run_dir, "
                f"or resume it with --ckpt_path {folder / 'checkpoints' / 'last.ckpt'}"
            )


def discard_unstarted(folder: Path) -> None:
    """Remove what a run has left that ended before its first checkpoint: its settings, and folders that are empty.

    Anything that it has not written stays, and so do its folders then.
    """
    checkpoints = folder / "checkpoints"
    if checkpoints.is_dir() and any(checkpoints.iterdir()):
        return
    for name in ("config.yaml", "config.yaml.part", "metrics.csv", "hparams.yaml"):
        (folder / name).unlink(missing_ok=True)
    if checkpoints.is_dir():
        checkpoints.rmdir()
    default = [folder.parent, folder.parent.parent] if folder.name.startswith("version_") else []
    for place in (folder, *default):
        try:
            place.rmdir()
        except OSError:  # there is something in it, or it never was there
            return


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml`` without where the run is and what it was resumed from, so that it can start another one.

    A run that is resumed with the same settings keeps its file; what it says of the run until now is kept as
    ``config_1.yaml`` and so on where they are others.

    Args:
        parser: what knows how to write settings.
        _config: all settings, with what the command line has added.
        asked: the settings that the user has given.
        folder: the run folder.
        **kwargs: Lightning's own.
    """

    def __init__(
        self, parser: LightningArgumentParser, _config: Namespace, asked: Namespace, folder: Path, **kwargs: Any
    ) -> None:
        asked.run_dir = asked.ckpt_path = None
        super().__init__(parser, asked, **kwargs)
        self.folder = folder

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Write the file, in one step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, part = self.folder / "config.yaml", self.folder / "config.yaml.part"
        self.parser.save(self.config, str(part), skip_none=False, overwrite=True, multifile=False)
        if path.is_file():
            old, new = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in (path, part))
            if old == new:
                part.unlink()
                return
            numbers = itertools.count(1)
            shutil.copy2(path, next(k for n in numbers if not (k := self.folder / f"config_{n}.yaml").exists()))
        part.replace(path)


class RunLogger(CSVLogger):
    """Write ``metrics.csv`` straight into the run folder; a resumed run goes on with the file it finds.

    Args:
        folder: the run folder.
        resumed_at: the step that is resumed from: later rows, of an epoch that is repeated, are dropped.
    """

    def __init__(self, folder: str | Path, resumed_at: int | None = None) -> None:
        super().__init__(save_dir=str(folder), name="", version="")
        self._resumed_at = resumed_at

    @property
    def experiment(self) -> Any:
        """The writer of the file; on processes other than the first, one that does nothing."""
        if self._experiment is not None or self._resumed_at is None:
            return super().experiment
        # The writer deletes what it finds, so that is read before.
        rows: list[dict[str, Any]] = []
        if (path := Path(self.log_dir) / "metrics.csv").is_file():
            with path.open(newline="") as file:
                rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        writer = super().experiment
        if isinstance(writer, ExperimentWriter):
            writer.metrics.extend(row for row in rows if int(row["step"]) < self._resumed_at)
            writer.save()
        return writer


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and move it there once it is on the disk.

    Lightning's own writer goes by way of the temporary folder, often another disk, from where a file is copied and not
    moved: a process killed while it copies leaves a torn ``last.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint to a local or mounted disk; ``s3://`` and the like are left to Lightning."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + ".part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)  # of a full disk
