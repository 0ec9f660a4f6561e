"""Say in one line what jsonargparse says of classes and their options in twenty, with the name that was meant."""

import difflib
import inspect
import re
from collections.abc import Iterable

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from l2nnn_lightning.data import ImageDataModule
from l2nnn_lightning.models import Network
from l2nnn_lightning.training.arguments import program
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.objectives import Objective

__all__ = ["explain"]

_KINDS: dict[str, type] = {
    "network": Network,
    "objective": Objective,
    "optimizer": Optimizer,
    "scheduler": LRScheduler,
    "model": Classifier,
    "data": ImageDataModule,
    "callbacks": Callback,
    "logger": Logger,
}


def explain(message: str) -> str | None:
    """Find in a report of the parser an option that a class does not have, or a class that there is not; else None.

    Example:
        >>> explain("Option 'omga' is not accepted. Got value: Namespace(class_path='PaperLoss')")
        "PaperLoss has no option 'omga': did you mean omega?"
    """
    classes = {kind.__name__: kind for base in _KINDS.values() for kind in _subclasses(base)}
    if option := re.search(r"Option '([\w.]+)' is not accepted", message):
        # Of several classes that were tried, the one that has such an option, else the last that is no mere base.
        named = [path.rpartition(".")[2] for path in re.findall(r"class_path[=' ]*([\w.]+)'", message)]
        named.sort(key=lambda name: name not in {base.__name__ for base in _KINDS.values()})
        owners = {name: _options(classes[name]) for name in reversed(named) if name in classes}
        meant = {name: _meant(option[1], known) for name, known in owners.items()}
        name = next((name for name in meant if meant[name]), next(iter(owners), "the class"))
        return f"{name} has no option {option[1]!r}{meant.get(name) or f'; see --help {name}'}"
    unknown = re.match(r"unrecognized arguments: --trainer\.(\w+)", message) or re.search(
        r"Group 'trainer' does not accept option '(\w+)'", message
    )
    if unknown:
        return f"Trainer has no option {unknown[1]!r}{_meant(unknown[1], _options(Trainer)) or '; see fit --help'}"
    values = re.findall(r'key "([\w.]+)":\s+Expected ([^\n]*?)\. Got value: ([^\n]*?)(?:\. Got value|\n|$)', message)
    if values:
        name, wanted, given = values[-1]
        wanted = wanted.replace("collections.abc.Sequence", "list").removeprefix("a ")
        wanted = re.sub(r"<class '(\w+)'>|typing\.Literal", lambda found: found[1] or "", wanted)
        return f"{name} must be {'one of ' if wanted.startswith('[') else ''}{wanted.strip('[]')}, got {given}"
    path = re.search(r"Expected a dot import path string: (\w+)", message) or re.search(
        r"Import path ([\w.]+) does not", message
    )
    if path is None:
        return None
    keys = [key for key in re.findall(r'(?:key "(?:[\w.]+\.)?|--)(\w+)', message) if key in _KINDS]
    known = {kind.__name__ for kind in _subclasses(_KINDS[keys[-1]])} if keys else set()
    choices = f": choose one of {', '.join(sorted(known))}" if known else f"; see {program('train')} --help"
    return f"there is no class {path[1]!r}{_meant(path[1], known) or _meant(path[1], classes) or choices}"


def _meant(given: str, known: Iterable[str]) -> str:
    """Name the nearest of what is known, whatever its case; nothing where none is near."""
    names = {name.lower(): name for name in sorted(known)}
    nearest = difflib.get_close_matches(given.lower(), names, n=1)
    return f": did you mean {names[nearest[0]]}?" if nearest else ""


def _options(kind: type) -> set[str]:
    named = (inspect.signature(vars(base)["__init__"]).parameters for base in kind.__mro__ if "__init__" in vars(base))
    return {name for names in named for name in names} - {"self", "args"}


def _subclasses(kind: type) -> set[type]:
    children: list[type] = kind.__subclasses__()
    return {kind}.union(*map(_subclasses, children))
