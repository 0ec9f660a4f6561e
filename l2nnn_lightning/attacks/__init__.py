"""Attacks on classifiers of images in [0, 1]: what their robustness is worth against an adversary."""

from l2nnn_lightning.attacks.carlini_wagner import CarliniWagnerL2
from l2nnn_lightning.attacks.progress import AttackProgress, OnProgress
from l2nnn_lightning.attacks.registry import ATTACKS, AttackSpec, build_attack
from l2nnn_lightning.attacks.result import AttackResult

__all__ = [
    "ATTACKS",
    "AttackProgress",
    "AttackResult",
    "AttackSpec",
    "CarliniWagnerL2",
    "OnProgress",
    "build_attack",
]
