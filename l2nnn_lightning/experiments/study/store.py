"""Where a study keeps its runs and results, and what is there already."""

import json
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

    def run_folder(self, training: Training) -> Path:
        """Name the run folder of a training."""
        return self.runs / f"{training.name}-{training.digest}"

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
        """Copy what ``evaluate.py`` wrote to the results, with the settings of the training."""
        values = json.loads((self.evaluation_folder(result) / "results.json").read_text(encoding="utf-8"))
        configs = " ".join(Path(config).name for config in result.training.configs)
        values["study"] = {"digest": result.digest, "config": configs, "overrides": result.training.overrides}
        write_json(self.folder / f"{result.name}.json", values)
