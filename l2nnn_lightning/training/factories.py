"""Networks, objectives, optimizers and schedules as plain values, so that a checkpoint can hold and rebuild them."""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from l2nnn_lightning.attacks.registry import find_class

__all__ = ["build", "check_trusted", "describe"]

# Packages whose classes a checkpoint may name. Others must be trusted, or have been imported already.
_TRUSTED = ("l2nnn_lightning", "torch.optim")


def describe(factory: Callable[..., Any]) -> dict[str, Any]:
    """Write a class, or a partial of one, as ``{"class_path": ..., "init_args": {...}}`` of plain values.

    Raises:
        ValueError: if it is something else, such as a lambda, which no checkpoint can hold.

    Example:
        >>> from torch.optim import SGD
        >>> describe(partial(SGD, lr=0.1))["init_args"]
        {'lr': 0.1}
    """
    options: dict[str, Any] = {}
    kind: Any = factory
    while isinstance(kind, partial):
        options = {**kind.keywords, **options}
        # The command line's own partials name the class last.
        kind = next((part for part in reversed(kind.args) if isinstance(part, type)), kind.func)
    if not isinstance(kind, type):
        raise ValueError(f"{factory!r} cannot be kept in a checkpoint: give a class or functools.partial of one")
    return {"class_path": _public_path(kind), "init_args": _plain(options)}


def build(description: Mapping[str, Any], kind: Any) -> Callable[..., Any]:
    """Undo :func:`describe`; a ValueError if the class is not there, is no ``kind``, or is not trusted."""
    options = description.get("init_args", {})
    for path in (description["class_path"], str(options.get("bound", ""))):
        if "." in path:
            check_trusted(path)
    found: Any = find_class(description["class_path"], kind)
    return partial(found, **options)


def check_trusted(path: str) -> None:
    """Refuse what a checkpoint names, if its import would run code of a package that nobody has asked for.

    Trusted are this package, ``torch.optim``, what has been imported already, and what L2NNN_TRUST lists.

    Raises:
        ValueError: saying how to trust it.
    """
    module = path.rpartition(".")[0]
    roots = (*_TRUSTED, *filter(None, os.environ.get("L2NNN_TRUST", "").split(",")))
    if module not in sys.modules and not any(module == root or module.startswith(f"{root}.") for root in roots):
        raise ValueError(f"it needs {path}, of another package: to trust that, set L2NNN_TRUST={module}")


def _public_path(kind: type) -> str:
    """Name a class of this package by its room, ``l2nnn_lightning.models.ConvL2NNN``, wherever in there it stands."""
    package, *rest = kind.__module__.split(".")
    room = f"{package}.{rest[0]}" if package == _TRUSTED[0] and rest else kind.__module__
    is_public = getattr(import_module(room), kind.__name__, None) is kind
    return f"{room if is_public else kind.__module__}.{kind.__qualname__}"


def _plain(value: Any) -> Any:
    """Turn what jsonargparse and users give into what ``torch.load`` reads with ``weights_only=True``."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
