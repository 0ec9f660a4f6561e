"""Numbers of an evaluation, each computed from the records alone."""

from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from l2nnn_lightning.evaluation.measure.measures import MEASURES
from l2nnn_lightning.evaluation.measure.records import BoolArray, Records
from l2nnn_lightning.evaluation.measure.run import Evaluation
from l2nnn_lightning.evaluation.measure.soundness import rounding_slack
from l2nnn_lightning.training.metrics import radius_key

__all__ = ["certified_accuracy", "certified_curve", "gap_bins", "robust_accuracy", "robust_curve", "summarize"]

RadiusKind = Literal["radius", "radius_box"]


def certified_accuracy(records: Records, radius: float, kind: RadiusKind = "radius") -> float:
    """Return the fraction of samples that are correct and proven within ``radius``.

    A sample with certified radius 0 never counts, not even at radius 0.

    Args:
        records: the records, at least one.
        radius: L2 radius in pixel units, >= 0.
        kind: whole-space radius, or the one for images in [0, 1], where the records have it.
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


def gap_bins(evaluation: Evaluation, radius: float, count: int = 10) -> pd.DataFrame:
    """Sort samples by gap, largest first, and summarize equal parts of them (section 3.2, figure 2).

    Args:
        evaluation: the evaluation.
        radius: L2 radius of the certified fraction.
        count: number of parts; fewer where there are fewer samples.

    Returns:
        A row for each part: ``n``, ``gap_max``, ``gap_min``, the fractions that are correct (``accuracy``), and
        ``certified`` at the radius, and for each attack, by its name, what it left correct at its eps.
    """
    records = evaluation.records
    fractions = {"accuracy": records.correct, "certified": _certified(records, radius, "radius")}
    fractions |= {attack.name: _robust(records, attack.name, attack.eps) for attack in evaluation.attacks}
    order = np.argsort(-records.gap, kind="stable")
    return pd.DataFrame(
        {
            "n": len(rows),
            "gap_max": float(records.gap[rows].max()),
            "gap_min": float(records.gap[rows].min()),
            **{name: float(column[rows].mean()) for name, column in fractions.items()},
        }
        for rows in np.array_split(order, min(count, records.n))
    )


def summarize(evaluation: Evaluation) -> dict[str, Any]:
    """Compute the content of ``results.json``.

    Returns:
        Plain values; accuracies are fractions in [0, 1], mean radii count 0 for wrong samples. Where the records hold
        ``radius_box``, its certified accuracies and mean are under ``certified_box`` and ``radius_box_mean``; what is
        measured only when asked for stands under its name.
    """
    records = evaluation.records
    keys = {radius_key(r).replace("_", "."): float(r) for r in evaluation.radii}
    results: dict[str, Any] = {
        **asdict(evaluation.run),
        "n": records.n,
        "accuracy": float(records.correct.mean()),
        "gap_mean": float(records.gap.mean(dtype=np.float64)),
        "radius_mean": _mean_radius(records, "radius"),
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
            for attack in evaluation.attacks
        ],
    }
    if records.radius_box is not None:
        results["certified_box"] = {key: certified_accuracy(records, r, "radius_box") for key, r in keys.items()}
        results["radius_box_mean"] = _mean_radius(records, "radius_box")
    for measure in MEASURES:
        numbers = evaluation.whole.get(measure.name) or measure.summary(records)
        if numbers is not None:
            results[measure.name] = numbers
    return results


def _radius(records: Records, kind: RadiusKind) -> npt.NDArray[np.float64]:
    # In float32 a radius just below a threshold would be rounded to it.
    return np.asarray(records.get(kind), np.float64)


def _mean_radius(records: Records, kind: RadiusKind) -> float:
    return float(np.mean(np.where(records.correct, _radius(records, kind), 0.0)))


def _certified(records: Records, radius: float, kind: RadiusKind) -> BoolArray:
    values = _radius(records, kind)
    return records.correct & (values > 0) & (values >= radius)


def _robust(records: Records, attack: str, eps: float) -> BoolArray:
    record = records.attacks[attack]
    within = record.norm.astype(np.float64) <= eps + rounding_slack(eps)
    return records.correct & ~(record.broken & within)
