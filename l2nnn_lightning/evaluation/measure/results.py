"""Numbers of an evaluation, each computed from the records alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from l2nnn_lightning.evaluation.measure.records import BoolArray, Records
from l2nnn_lightning.evaluation.measure.run import AttackInfo, RunInfo
from l2nnn_lightning.evaluation.measure.soundness import rounding_slack
from l2nnn_lightning.training.metrics import radius_key

__all__ = [
    "GapBin",
    "certified_accuracy",
    "certified_curve",
    "gap_bins",
    "mean_radius",
    "robust_accuracy",
    "robust_curve",
    "summarize",
]

RadiusKind = Literal["radius", "radius_box"]


@dataclass(frozen=True)
class GapBin:
    """One of the equal parts into which samples fall when sorted by gap, section 3.2.

    Args:
        n: number of samples.
        gap_min: smallest gap.
        gap_max: largest gap.
        accuracy: fraction that is correct.
        certified: fraction that is correct with certified radius at least the asked one.
        robust: fraction that an attack left correct, by its name.
    """

    n: int
    gap_min: float
    gap_max: float
    accuracy: float
    certified: float
    robust: Mapping[str, float]


def certified_accuracy(records: Records, radius: float, kind: RadiusKind = "radius") -> float:
    """Return the fraction of samples that are correct and proven within ``radius``.

    A sample with certified radius 0 never counts, not even at radius 0.

    Args:
        records: the records, at least one.
        radius: L2 radius in pixel units, >= 0.
        kind: whole-space radius, or the one for images in [0, 1].
    """
    return float(np.mean(_certified(records, radius, kind)))


def certified_curve(records: Records, radii: npt.ArrayLike, kind: RadiusKind = "radius") -> npt.NDArray[np.float64]:
    """Return the certified accuracy at each of ``radii``."""
    return np.array([certified_accuracy(records, float(r), kind) for r in np.asarray(radii)])


def robust_accuracy(records: Records, attack: str, eps: float) -> float:
    """Return the fraction of samples that are correct and that the attack did not break within ``eps``.

    Args:
        records: the records, at least one.
        attack: the attack's name.
        eps: norm in pixel units, in the attack's own norm. For an attack that is run at one ``eps`` or stops
            there, the result holds at that ``eps`` only.
    """
    return float(np.mean(_robust(records, attack, eps)))


def robust_curve(records: Records, attack: str, eps: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the robust accuracy at each ``eps`` from the norms of one minimum-norm attack."""
    return np.array([robust_accuracy(records, attack, float(e)) for e in np.asarray(eps)])


def mean_radius(records: Records, kind: RadiusKind = "radius") -> float:
    """Return the mean certified radius over all samples, 0 for wrong ones."""
    return float(np.mean(np.where(records.correct, _radius(records, kind), 0.0)))


def gap_bins(records: Records, radius: float, attacks: Sequence[AttackInfo] = (), count: int = 10) -> list[GapBin]:
    """Sort samples by gap, largest first, and summarize equal parts of them (figure 2).

    Args:
        records: the records, at least one.
        radius: L2 radius of the certified fraction.
        attacks: the attacks to report, each at its own eps.
        count: number of parts; fewer where there are fewer samples.
    """
    order = np.argsort(-records.gap, kind="stable")
    certified = _certified(records, radius, "radius")
    robust = {attack.name: _robust(records, attack.name, attack.eps) for attack in attacks}
    return [
        GapBin(
            n=len(rows),
            gap_min=float(records.gap[rows].min()),
            gap_max=float(records.gap[rows].max()),
            accuracy=float(records.correct[rows].mean()),
            certified=float(certified[rows].mean()),
            robust={name: float(value[rows].mean()) for name, value in robust.items()},
        )
        for rows in np.array_split(order, min(count, records.n))
    ]


def summarize(
    records: Records, run: RunInfo, *, radii: Sequence[float], attacks: Sequence[AttackInfo] = ()
) -> dict[str, Any]:
    """Compute the content of ``results.json``.

    Args:
        records: the records.
        run: where they come from.
        radii: L2 radii at which to report the certified accuracy, in pixel units.
        attacks: how the attacks of the records were run.

    Returns:
        Plain values; accuracies are fractions in [0, 1]. Where the records hold ``radius_box``, its certified
        accuracies and mean are under ``certified_box`` and ``radius_box_mean``, and where they hold ``jacobian``, its
        mean over the ``n`` images at which it was measured is under ``jacobian``.

    Raises:
        ValueError: if there are no records or radii, an attack is not in them, or a network that is not hard has radii.
    """
    if records.n == 0:
        raise ValueError("there are no records: evaluate at least one sample")
    if not radii:
        raise ValueError("radii must hold one or more values")
    if {attack.name for attack in attacks} != set(records.attacks):
        raise ValueError(f"the records hold the attacks {sorted(records.attacks)}, got {[a.name for a in attacks]}")
    boxed = records.radius if records.radius_box is None else records.radius_box
    if not run.hard and (records.radius.any() or boxed.any()):
        raise ValueError("a network in penalty mode proves nothing, but the records hold radii above 0")
    keys = {radius_key(r).replace("_", "."): float(r) for r in radii}
    results: dict[str, Any] = {
        "dataset": run.dataset,
        "n": records.n,
        "accuracy": float(records.correct.mean()),
        "gap_mean": float(records.gap.mean(dtype=np.float64)),
        "radius_mean": mean_radius(records),
        "radius_kind": run.radius_kind,
        "certified": {key: certified_accuracy(records, r) for key, r in keys.items()},
        "attacks": [
            {
                "name": attack.attack,
                "norm": attack.norm,
                "eps": attack.eps,
                "max_iter": attack.max_iter,
                "restarts": attack.restarts,
                "record": attack.name,
                "n": records.n,
                "accuracy": robust_accuracy(records, attack.name, attack.eps),
            }
            for attack in attacks
        ],
        "checkpoint": run.checkpoint,
        "hard": run.hard,
        "config": dict(run.config),
        "versions": dict(run.versions),
        "hardware": run.hardware,
        "seed": run.seed,
        "seconds": run.seconds,
        "command": run.command,
    }
    if records.radius_box is not None:
        results["certified_box"] = {key: certified_accuracy(records, r, "radius_box") for key, r in keys.items()}
        results["radius_box_mean"] = mean_radius(records, "radius_box")
    if records.jacobian is not None:
        measured = records.jacobian[~np.isnan(records.jacobian)]
        results["jacobian"] = {"mean_norm": float(measured.mean(dtype=np.float64)), "n": len(measured)}
    return results


def _radius(records: Records, kind: RadiusKind) -> npt.NDArray[np.float64]:
    values = records.radius if kind == "radius" else records.radius_box
    if values is None:
        raise ValueError("the records hold no radius_box")
    # In float32 a radius just below a threshold would be rounded to it.
    return values.astype(np.float64)


def _certified(records: Records, radius: float, kind: RadiusKind) -> BoolArray:
    values = _radius(records, kind)
    return records.correct & (values > 0) & (values >= radius)


def _robust(records: Records, attack: str, eps: float) -> BoolArray:
    record = records.attacks[attack]
    within = record.norm.astype(np.float64) <= eps + rounding_slack(eps)
    return records.correct & ~(record.broken & within)
