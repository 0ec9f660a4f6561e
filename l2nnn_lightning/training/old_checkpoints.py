"""Checkpoints of version 0.1.0, whose classifiers had flat arguments, in today's form."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch.optim import SGD, Adam, AdamW

from l2nnn_lightning.models import NETWORKS
from l2nnn_lightning.training.arguments import MOVED
from l2nnn_lightning.training.factories import describe
from l2nnn_lightning.training.objectives import CrossEntropy, OffsetCrossEntropy, RadiusHinge, RadiusSigmoid
from l2nnn_lightning.training.optimizers import ScaledAdam
from l2nnn_lightning.training.paper_loss import PaperLoss
from l2nnn_lightning.training.schedule import CosineAfterSwitch

__all__ = ["upgrade"]

_OBJECTIVES = {
    "paper": PaperLoss,
    "offset_cross_entropy": OffsetCrossEntropy,
    "radius_hinge": RadiusHinge,
    "radius_sigmoid": RadiusSigmoid,
}


def upgrade(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Write the contents of an old checkpoint in today's form; a current one stays what it is."""
    options: Mapping[str, Any] = checkpoint["hyper_parameters"]
    if not isinstance(options.get("network"), str):
        return dict(checkpoint)
    state = {
        name.replace("loss.", "objective.", 1) if name.startswith("loss.") else name: value
        for name, value in checkpoint["state_dict"].items()
        if not name.startswith(("train_", "eval_"))
    }
    is_ordinary = checkpoint["l2nnn_lightning"].get("classifier") == "OrdinaryClassifier"
    return {**checkpoint, "state_dict": state, "hyper_parameters": _nested(options, is_ordinary)}


def _nested(flat: Mapping[str, Any], is_ordinary: bool) -> dict[str, Any]:
    moved: dict[str, dict[str, Any]] = {"network": {}, "objective": {}, "optimizer": {}, "scheduler": {}}
    for old, new in MOVED.items():
        part, _, name = new.partition(".")
        if old in flat and name and part in moved:
            moved[part][name] = flat[old]
    objective = CrossEntropy if is_ordinary else _OBJECTIVES[flat.get("objective", "paper")]
    known = inspect.signature(objective).parameters
    optimizers: dict[str, Any] = {
        "adam": ScaledAdam if flat.get("scale_lr") else partial(Adam, fused=True),
        "adamw": partial(AdamW, fused=True),
        "sgd": partial(SGD, momentum=0.9, nesterov=True),
    }
    shared = {} if is_ordinary else moved["network"]
    if flat["network"] == "templates":
        shared = {name: value for name, value in shared.items() if name == "hard"}
    network = partial(NETWORKS[flat["network"]], **(flat.get("network_args") or {}), **shared)
    return {
        "network": describe(network),
        "objective": describe(partial(objective, **{k: v for k, v in moved["objective"].items() if k in known})),
        "optimizer": describe(partial(optimizers[flat["optimizer"]], **moved["optimizer"])),
        "scheduler": describe(partial(CosineAfterSwitch, **moved["scheduler"])),
        **{key: flat[key] for key in ("image_shape", "num_labels", "radii", "penalty_weight") if key in flat},
    }
