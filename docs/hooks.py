"""Fill ``<!-- classes KIND -->`` of a page with every public class of the package of that kind, from its docstring."""

import re
from importlib import import_module
from typing import Any

_BASES = {
    "classifier": "training.classifier:Classifier",
    "network": "models:Network",
    "objective": "training.objectives:Objective",
    "optimizer": "torch.optim:Optimizer",
    "scheduler": "torch.optim.lr_scheduler:LRScheduler",
    "data": "data:ImageDataModule",
    "attack": "attacks.base:ImageAttack",
}
_ROOMS = ("models", "data", "attacks", "training.classifier", "training.optimizers", "training.paper_loss")
_ROOMS += ("training.schedule",)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill a page, before it is rendered."""
    return re.sub(r"<!-- classes (\w+) -->", lambda found: "\n\n".join(f"::: {p}" for p in _paths(found[1])), markdown)


def _paths(kind: str) -> list[str]:
    for room in _ROOMS:
        import_module(f"l2nnn_lightning.{room}")
    place, _, name = _BASES[kind].partition(":")
    base = getattr(import_module(place if place.startswith("torch") else f"l2nnn_lightning.{place}"), name)
    found, left = [], [base]
    while left:
        one = left.pop()
        left += one.__subclasses__()
        if one.__module__.startswith("l2nnn_lightning") and not one.__name__.startswith("_"):
            found.append(one)
    found.sort(key=lambda one: (one is not base, one.__name__))
    return [f"{one.__module__}.{one.__name__}" for one in found]
