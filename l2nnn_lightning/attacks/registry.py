"""The attacks by name, for configs and the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from l2nnn_lightning.attacks.autoattack import AutoAttack
from l2nnn_lightning.attacks.carlini_wagner import CarliniWagnerL2
from l2nnn_lightning.attacks.pgd import FGSM, PGD
from l2nnn_lightning.attacks.progress import OnProgress
from l2nnn_lightning.attacks.result import AttackResult, NormKind, check_at_least

__all__ = ["ATTACKS", "AttackSpec", "BuiltAttack", "build_attack"]


class BuiltAttack(Protocol):
    """What an attack offers once it is built."""

    @property
    def norm_kind(self) -> NormKind:
        """The norm it is measured in."""

    @property
    def minimum_norm(self) -> bool:
        """Whether its norms are minima, so that one run gives robust accuracy at every radius."""

    def run(
        self, images: Tensor, labels: Tensor, radius: Tensor | None = None, on_progress: OnProgress | None = None
    ) -> AttackResult:
        """Attack a batch of images in [0, 1]; ``radius`` are certified L2 radii."""


@dataclass(frozen=True)
class AttackSpec:
    """An entry of the registry.

    Args:
        norm_kind: "L2" or "Linf".
        max_iter: the number of iterations where none is given.
        needs_eps: whether the attack works at a fixed radius only.
        summary: one line for tables and help texts.
        build: makes the attack from model, eps, max_iter, restarts and seed.
    """

    norm_kind: NormKind
    max_iter: int
    needs_eps: bool
    summary: str
    build: Callable[[nn.Module, float | None, int, int, int], BuiltAttack]


def _carlini_wagner(model: nn.Module, eps: float | None, max_iter: int, restarts: int, seed: int) -> BuiltAttack:
    return CarliniWagnerL2(model, max_iter=max_iter, eps=eps, restarts=restarts, seed=seed)


def _pgd(norm_kind: NormKind) -> Callable[[nn.Module, float | None, int, int, int], BuiltAttack]:
    def build(model: nn.Module, eps: float | None, max_iter: int, restarts: int, seed: int) -> BuiltAttack:
        return PGD(model, norm_kind, _given(eps), max_iter, restarts=restarts, seed=seed)

    return build


def _fgsm(model: nn.Module, eps: float | None, max_iter: int, restarts: int, seed: int) -> BuiltAttack:
    check_at_least(1, max_iter=max_iter, restarts=restarts)  # it takes one step all the same
    check_at_least(0, seed=seed)
    return FGSM(model, _given(eps))


def _autoattack(norm_kind: NormKind) -> Callable[[nn.Module, float | None, int, int, int], BuiltAttack]:
    def build(model: nn.Module, eps: float | None, max_iter: int, restarts: int, seed: int) -> BuiltAttack:
        return AutoAttack(model, norm_kind, _given(eps), max_iter, restarts=restarts, seed=seed)

    return build


def _given(eps: float | None) -> float:
    if eps is None:
        raise ValueError("eps must be given: only cw can search for the minimum norm")
    return eps


ATTACKS: dict[str, AttackSpec] = {
    "cw": AttackSpec("L2", 1000, False, "Carlini-Wagner with a search over c per sample", _carlini_wagner),
    "pgd_l2": AttackSpec("L2", 100, True, "projected gradient descent on the margin", _pgd("L2")),
    "pgd_linf": AttackSpec("Linf", 100, True, "projected gradient descent on the margin", _pgd("Linf")),
    "fgsm": AttackSpec("Linf", 1, True, "one step along the sign of the gradient", _fgsm),
    "autoattack_l2": AttackSpec("L2", 100, True, "AutoAttack, standard version", _autoattack("L2")),
    "autoattack_linf": AttackSpec("Linf", 100, True, "AutoAttack, standard version", _autoattack("Linf")),
}


def build_attack(
    name: str,
    model: nn.Module,
    *,
    eps: float | None = None,
    max_iter: int | None = None,
    restarts: int = 1,
    seed: int = 0,
) -> BuiltAttack:
    """Build an attack by name.

    Args:
        name: a key of :data:`ATTACKS`.
        model: maps images in [0, 1] to logits.
        eps: radius of the attack in its own norm, > 0; None, for ``cw`` only, searches for the minimum norm.
        max_iter: iterations, >= 1: of each c for ``cw``, of each attempt for ``pgd``, of each gradient attack for
            ``autoattack`` (whose standard is 100); ``fgsm`` takes one step. None takes the registry's default.
        restarts: number of attempts, >= 1.
        seed: seed of random starts, >= 0.

    Raises:
        ValueError: for an unknown name or a setting outside its range.

    Example:
        >>> build_attack("pgd_l2", nn.Identity(), eps=1.58).norm_kind
        'L2'
    """
    if name not in ATTACKS:
        raise ValueError(f"unknown attack {name!r}: use one of {', '.join(ATTACKS)}")
    spec = ATTACKS[name]
    return spec.build(model, eps, spec.max_iter if max_iter is None else max_iter, restarts, seed)
