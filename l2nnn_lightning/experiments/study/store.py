"""Where a study keeps its runs and results, and what is there already."""

import json
import shutil
from pathlib import Path
from typing import Any

from l2nnn_lightning.evaluation.report.files import write_json
from l2nnn_lightning.experiments.study.plan import Plan, Result, Training

__all__ = ["Store"]


class Store:
    """The files of one study in one tier.

    A training's folder carries the fingerprint of its settings, and a stored result states it: what was made with
    other settings is never taken for what is planned now.

    Args:
        plan: the study and its tier.
        output: folder of all studies' results, small files to keep.
        runs: folder of all studies' runs, large files that can be made again.
    """

    def __init__(self, plan: Plan, output: Path, runs: Path) -> None:
        self.folder = output / plan.study.name / plan.tier
        self.runs = runs / plan.study.name / plan.tier
        self._all_runs = runs

    def run_folder(self, training: Training) -> Path:
        """Name the run folder of a training; if another study has finished the same one, that."""
        own = self.runs / f"{training.name}-{training.digest}"
        if own.is_dir():
            return own
        return min((path.parent for path in self._all_runs.glob(f"*/*/*-{training.digest}/trained")), default=own)

    def checkpoint(self, training: Training, kind: str) -> Path:
        """Name a checkpoint of a training."""
        return self.run_folder(training) / "checkpoints" / f"{kind}.ckpt"

    def trained(self, training: Training) -> Path:
        """Name the file that is there once a training came to its end."""
        return self.run_folder(training) / "trained"

    def evaluation_folder(self, result: Result) -> Path:
        """Name the folder that ``evaluate.py`` writes."""
        return self.run_folder(result.training) / f"evaluation-{result.digest}"

    def read(self, result: Result) -> dict[str, Any] | None:
        """Read a stored result; None if it is missing, or was made with other settings."""
        try:
            values: dict[str, Any] = json.loads((self.folder / f"{result.name}.json").read_text(encoding="utf-8"))
            return values if values["study"]["digest"] == result.digest else None
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return None

    def keep(self, result: Result) -> None:
        """Copy what ``evaluate.py`` wrote to the results, with the training's settings, and pictures to be kept."""
        values = json.loads((self.evaluation_folder(result) / "results.json").read_text(encoding="utf-8"))
        configs = " ".join(Path(config).name for config in result.training.configs)
        values["study"] = {"digest": result.digest, "config": configs, "overrides": result.training.overrides}
        for name in result.keep:
            picture = self.evaluation_folder(result) / "figures" / f"{name}.png"
            if picture.is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(picture, self.folder / f"{result.name}-{name}.png")
        write_json(self.folder / f"{result.name}.json", values)

    def finish(self, training: Training, seconds: float) -> None:
        """Note that a training came to its end, and how long it took."""
        self.trained(training).write_text(f"{seconds:.0f}\n", encoding="utf-8")
