"""The attacks by name, for configs and the command line."""

import inspect
import pkgutil
from typing import TypeVar

from torch import nn

from l2nnn_lightning.attacks.autoattack import AutoAttack, AutoAttackL2
from l2nnn_lightning.attacks.base import ImageAttack
from l2nnn_lightning.attacks.carlini_wagner import CarliniWagnerL2
from l2nnn_lightning.attacks.carlini_wagner_linf import CarliniWagnerLinf
from l2nnn_lightning.attacks.pgd import FGSM, PGD, PGDL2

__all__ = ["ATTACKS", "build_attack", "find_attack", "find_class"]

Kind = TypeVar("Kind")

ATTACKS: dict[str, type[ImageAttack]] = {
    "cw": CarliniWagnerL2,
    "cw_linf": CarliniWagnerLinf,
    "pgd_l2": PGDL2,
    "pgd_linf": PGD,
    "fgsm": FGSM,
    "autoattack_l2": AutoAttackL2,
    "autoattack_linf": AutoAttack,
}


def find_attack(name: str) -> type[ImageAttack]:
    """Look an attack up by its name in :data:`ATTACKS`, or by its path ``package.module.Class``; or a ValueError."""
    if name not in ATTACKS and "." not in name:
        raise ValueError(f"unknown attack {name!r}: use one of {', '.join(ATTACKS)}, or package.module.Class")
    return ATTACKS[name] if name in ATTACKS else find_class(name, ImageAttack)  # type: ignore[type-abstract]


def find_class(path: str, base: type[Kind]) -> type[Kind]:
    """Import a subclass of ``base`` by its path ``package.module.Class``; or a ValueError."""
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} cannot be imported: {error}") from error
    if not inspect.isclass(found) or not issubclass(found, base):
        raise ValueError(f"{path} is not a subclass of {base.__module__}.{base.__qualname__}")
    return found


def build_attack(
    name: str, model: nn.Module, *, eps: float | None = None, max_iter: int | None = None, **settings: int
) -> ImageAttack:
    """Build an attack by its name or its path; the other arguments are those of :class:`ImageAttack`.

    Example:
        >>> build_attack("pgd_l2", nn.Identity(), eps=1.58).norm_kind
        'L2'
    """
    return find_attack(name)(model, eps=eps, max_iter=max_iter, **settings)
