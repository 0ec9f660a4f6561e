"""A study of two methods on made-up images, and results for it that never were."""

import json
from pathlib import Path
from typing import Any

import yaml
from made_up_images import write_config

from l2nnn_lightning.experiments.study.plan import Plan, Result
from l2nnn_lightning.experiments.study.store import Store

STUDY = """
title: Table 0. Made up
tiers:
  cpu: {note: small., minutes: 1 minute, seeds: [0, 1], rows: ["0%", "50%"], train: {trainer.max_epochs: 1}}
  gpu: {note: the paper's set-up, minutes: 1 day, seeds: [0, 1, 2]}
methods:
  L2NNN: {config: models/tiny.yaml, evaluate: {noisy: true}, train: {model.objective.omega: 0.25}}
  tuned:
    config: models/tiny.yaml
    checkpoint: best
    train: {cpu: {model.optimizer.lr: 0.1}}
    variants: {a: {model.objective.v: 1.0}, b: {model.objective.v: 2.0}}
    rows: ["0%"]
rows:
  "0%": {train: {data.label_noise: 0.0}, group: few}
  "50%": {train: {data.label_noise: 0.5, gpu: {model.objective.z: 9.0}}, group: many}
  "100%": {train: {data.label_noise: 1.0}, group: many}
columns:
  acc: {method: L2NNN, value: accuracy, percent: true}
  gap: {method: L2NNN, value: noisy/train/gap_mean, digits: 2}
  tuned: {method: tuned, value: accuracy, percent: true}
paper: {"0%": [98.7, 2.84, 99.4], "50%": [96.0, null, 65.5]}
figure: {x: acc, y: gap}
"""


def write_study(folder: Path, images: Path, name: str = "table0", **changes: Any) -> Path:
    (folder / "models").mkdir(parents=True, exist_ok=True)
    write_config(folder / "models" / "tiny.yaml", images)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(yaml.safe_load(STUDY) | changes, sort_keys=False))
    return folder


def write_result(store: Store, result: Result, accuracy: float, gap: float = 1.0, val: float = 0.5) -> None:
    values = {
        "accuracy": accuracy,
        "hardware": "1 core",
        "noisy": {"train": {"gap_mean": gap}, "val": {"accuracy": val}},
        "study": {"digest": result.digest},
    }
    path = store.folder / f"{result.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def result(plan: Plan, name: str) -> Result:
    return next(result for result in plan.results if result.name == name)
