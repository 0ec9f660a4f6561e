"""Attacks on classifiers of images in [0, 1]: what their robustness is worth against an adversary."""

from l2nnn_lightning.attacks.base import AttackResult, ImageAttack
from l2nnn_lightning.attacks.carlini_wagner import CarliniWagnerL2
from l2nnn_lightning.attacks.carlini_wagner_linf import CarliniWagnerLinf
from l2nnn_lightning.attacks.registry import ATTACKS, build_attack, find_attack

__all__ = ["ATTACKS", "AttackResult", "CarliniWagnerL2", "CarliniWagnerLinf", "ImageAttack", "build_attack"]
__all__ += ["find_attack"]
