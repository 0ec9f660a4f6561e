"""Compare certificates with attacks: an attack that beats a certificate shows a bug in the proof."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.run import AttackInfo

__all__ = ["CertificateViolation", "check_sound", "rounding_slack"]


class CertificateViolation(AssertionError):  # noqa: N818 (it names what happened)
    """An attack changed a label inside its certified radius: the certificate is wrong and no number may be used."""


def rounding_slack(norm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Bound the rounding error of a norm measured between two float32 images, ``1e-6 + 1e-5 norm``.

    Comparisons give this much to the attacker when robustness is counted, and to the certificate when it is
    tested, where both can be exact and differ in their last digits.
    """
    return 1e-6 + 1e-5 * np.asarray(norm, dtype=np.float64)


def check_sound(records: Records, attacks: Iterable[AttackInfo]) -> None:
    """Check on every sample that no L2 attack changed the label inside the certified radius.

    Where the attacked image's label is known, every sample counts; else only those that were correct, because a
    wrong one is broken by an image that keeps its label. Attacked images stay in [0, 1], so they are also held
    against ``radius_box``.

    Args:
        records: the records.
        attacks: how the attacks were run; those of another norm say nothing about an L2 radius and are left out.

    Raises:
        CertificateViolation: naming the sample, its radius and the attack's norm.
    """
    radius = records.radius.astype(np.float64)
    if records.radius_box is not None:
        radius = np.maximum(radius, records.radius_box)
    for info in attacks:
        if info.norm != "L2":
            continue
        attack = records.attacks[info.name]
        changed = records.correct if attack.prediction is None else attack.prediction != records.prediction
        violated = np.flatnonzero(attack.broken & changed & (attack.norm < radius - rounding_slack(radius)))
        if violated.size:
            worst = violated[np.argmax((radius - attack.norm)[violated])]
            raise CertificateViolation(
                f"{info.name} changed the label of sample {records.index[worst]} at L2 norm {attack.norm[worst]:.6g}, "
                f"inside its certified radius {radius[worst]:.6g} ({violated.size} such samples): "
                "the certificate is wrong"
            )
