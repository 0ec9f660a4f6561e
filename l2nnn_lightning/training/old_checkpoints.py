"""Checkpoints of version 0.1.0, whose classifiers had flat arguments, in today's form."""

from collections.abc import Mapping
from typing import Any

from l2nnn_lightning.models import NETWORKS
from l2nnn_lightning.training.factories import describe

__all__ = ["upgrade"]

_HERE = "l2nnn_lightning.training"
_OBJECTIVES = {
    "paper": (
        "PaperLoss",
        ("gamma", "omega", "omega_late", "late", "z", "u", "v", "train_v", "adversarial_terms"),
    ),
    "offset_cross_entropy": ("OffsetCrossEntropy", ("offset", "temperature")),
    "radius_hinge": ("RadiusHinge", ("margin", "margin_in_box")),
    "radius_sigmoid": ("RadiusSigmoid", ("margin", "temperature", "margin_in_box")),
}
_SCHEDULE = {"schedule": "shape", "warmup_steps": "warmup_steps", "final_lr": "final"}


def upgrade(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Write the contents of an old checkpoint in today's form; a current one stays what it is.

    Args:
        checkpoint: with ``hyper_parameters``, ``state_dict`` and ``l2nnn_lightning``.
    """
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
    network = describe(NETWORKS[flat["network"]])
    network["init_args"] = {**network["init_args"], **(flat.get("network_args") or {})}
    if not is_ordinary:
        moved = ("hard",) if flat["network"] == "templates" else ("hard", "certificate", "init")
        given = {**flat, "hard": flat["start_hard"]} if "start_hard" in flat else flat
        network["init_args"] |= {key: given[key] for key in moved if key in given}
    name, keys = ("CrossEntropy", ()) if is_ordinary else _OBJECTIVES[flat.get("objective", "paper")]
    objective = {"in_box" if key == "margin_in_box" else key: flat[key] for key in keys if key in flat}
    rates = {"lr": flat["learning_rate"], "weight_decay": flat["weight_decay"]}
    optimizers = {
        "adam": {"class_path": "torch.optim.Adam", "init_args": {**rates, "fused": True}},
        "adamw": {"class_path": "torch.optim.AdamW", "init_args": {**rates, "fused": True}},
        "sgd": {"class_path": "torch.optim.SGD", "init_args": {**rates, "momentum": 0.9, "nesterov": True}},
    }
    optimizer = optimizers[flat["optimizer"]]
    if flat.get("scale_lr") and flat["optimizer"] == "adam":
        optimizer = {"class_path": f"{_HERE}.ScaledAdam", "init_args": rates}
    return {
        "network": network,
        "objective": {"class_path": f"{_HERE}.{name}", "init_args": objective},
        "optimizer": optimizer,
        "scheduler": {
            "class_path": f"{_HERE}.CosineAfterSwitch",
            "init_args": {new: flat[old] for old, new in _SCHEDULE.items() if old in flat},
        },
        **{key: flat[key] for key in ("image_shape", "num_labels", "radii", "penalty_weight") if key in flat},
    }
