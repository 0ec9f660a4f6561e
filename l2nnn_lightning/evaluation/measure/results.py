"""What an evaluation found, and its numbers, each computed from the records alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.distances import Distances
from l2nnn_lightning.evaluation.measure.hybrid import Hybrid
from l2nnn_lightning.evaluation.measure.jacobian import Jacobian
from l2nnn_lightning.evaluation.measure.noisy import NoisyLabels
from l2nnn_lightning.evaluation.measure.records import AttackInfo, BoolArray, Records, rounding_slack
from l2nnn_lightning.evaluation.measure.soft import SoftCertificate
from l2nnn_lightning.training.metrics import radius_key

__all__ = ["MEASURES", "Evaluation", "bin_radius", "certified_accuracy", "gap_bins", "robust_accuracy", "summarize"]

#: What there is to measure on request, in the order of its rows.
MEASURES: tuple[type[Measure], ...] = (SoftCertificate, Jacobian, Distances, Hybrid, NoisyLabels)

Images = Tensor | npt.NDArray[np.uint8] | npt.NDArray[np.floating]
RadiusKind = Literal["radius", "radius_box", "radius_soft"]


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, and what was found: everything that results, figures and reports are made from.

    Args:
        records: at least one.
        run: what ``results.json`` says of where they come from: ``dataset``, ``checkpoint``, ``hard``, whether its
            certificates hold, by the rule ``radius_kind``, ``config`` of the training, ``seed``, ``seconds``,
            ``command``, ``versions`` and ``hardware``.
        images: (N, C, H, W) in the order of the records, uint8 in [0, 255] or floating in [0, 1].
        radii: L2 radii at which to report the certified accuracy, in pixel units, at least one.
        attacked: by an attack's name what it made of ``images``; the original where it failed.
        label_names: names of the labels, in their order; by default their numbers.
        whole: by a measure's name what it found on whole data sets.
        metrics_csv: the ``metrics.csv`` of the training, drawn if it can be read.

    Raises:
        ValueError: if a network that is not hard has radii.
    """

    records: Records
    run: Mapping[str, Any]
    images: Images
    radii: Sequence[float]
    attacks: Sequence[AttackInfo] = ()
    attacked: Mapping[str, Images] = field(default_factory=dict)
    label_names: Sequence[str] = ()
    whole: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    metrics_csv: Path | str | None = None

    def __post_init__(self) -> None:
        if not self.run["hard"] and self.records.proved.any():
            raise ValueError("a network in penalty mode proves nothing, but the records hold radii above 0")

    def name(self, label: int) -> str:
        """Return a label's name, or its number where it has none."""
        return self.label_names[label] if label < len(self.label_names) else str(int(label))


def certified_accuracy(records: Records, radius: float, kind: RadiusKind = "radius") -> float:
    """Return the fraction of samples that are correct and proven within an L2 radius >= 0 in pixel units.

    A sample with certified radius 0 never counts, not even at radius 0.
    """
    return float(np.mean(_certified(records, radius, kind)))


def robust_accuracy(records: Records, attack: str, eps: float) -> float:
    """Return the fraction of samples that are correct and that an attack did not break within ``eps``, in its own norm.

    For an attack that is run at one ``eps`` or stops there, the result holds at that ``eps`` only.
    """
    return float(np.mean(_robust(records, attack, eps)))


def gap_bins(evaluation: Evaluation, radius: float) -> pd.DataFrame:
    """Sort samples by gap, largest first, and summarize equal parts of them (section 3.2, figure 2).

    Returns:
        A row for each of ten parts, or for each sample where there are fewer: ``n``, ``gap_max``, ``gap_min``, the
        fractions that are correct (``accuracy``), and ``certified`` at the L2 radius, and for each attack, by its name,
        what it left correct at its eps.
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
        for rows in np.array_split(order, min(10, records.n))
    )


def bin_radius(evaluation: Evaluation) -> float:
    """Choose the radius of the certified share per gap bin: the first L2 attack's eps, else the middle radius."""
    euclidean = [attack.eps for attack in evaluation.attacks if attack.norm == "L2"]
    return euclidean[0] if euclidean else sorted(evaluation.radii)[len(evaluation.radii) // 2]


def gap_norm_correlation(records: Records, attack: str) -> float | None:
    """Correlate the gap with the norm that an attack needed, over samples that were right and then broken (Pearson).

    None where fewer than three samples, or equal ones, tell nothing.
    """
    record = records.attacks[attack]
    chosen = records.correct & record.broken & np.isfinite(record.norm)
    gap, norm = (column[chosen].astype(np.float64) for column in (records.gap, record.norm))
    if len(gap) < 3 or not (np.ptp(gap) > 0 and np.ptp(norm) > 0):
        return None
    return float(np.corrcoef(gap, norm)[0, 1])


def _by_gap(evaluation: Evaluation) -> dict[str, Any]:
    """Compute figure 2 as numbers, and how far gaps tell the norms that minimum-norm attacks need (figures 3 and 4)."""
    radius = bin_radius(evaluation)
    smallest = [attack.name for attack in evaluation.attacks if attack.minimum_norm]
    correlation = {name: gap_norm_correlation(evaluation.records, name) for name in smallest}
    return {"radius": radius, "bins": gap_bins(evaluation, radius).to_dict("records"), "correlation": correlation}


def summarize(evaluation: Evaluation) -> dict[str, Any]:
    """Compute the content of ``results.json``.

    Returns:
        Plain values; accuracies are fractions in [0, 1], mean radii count 0 for wrong samples. Where the records hold
        ``radius_box``, its certified accuracies and mean are under ``certified_box`` and ``radius_box_mean``; what is
        measured only when asked for stands under its name. With attacks ``by_gap`` holds :func:`gap_bins` and by each
        minimum-norm attack's name the correlation of its norms with the gap.
    """
    records = evaluation.records
    results: dict[str, Any] = {
        **evaluation.run,
        "n": records.n,
        "accuracy": float(records.correct.mean()),
        "gap_mean": float(records.gap.mean(dtype=np.float64)),
        "attacks": [
            {
                **{key: getattr(attack, key) for key in ("norm", "eps", "max_iter", "restarts")},
                "name": attack.attack,
                "record": attack.name,
                "n": records.n,
                "accuracy": robust_accuracy(records, attack.name, attack.eps),
            }
            for attack in evaluation.attacks
        ],
    }
    if worst := _worst_cases(evaluation):
        results["worst_case"] = worst
    keys = {radius_key(r).replace("_", "."): float(r) for r in evaluation.radii}
    kinds: dict[str, RadiusKind] = {"certified": "radius"}
    if records.radius_box is not None:
        kinds["certified_box"] = "radius_box"
    for name, kind in kinds.items():
        results[name], results[f"{kind}_mean"] = _shares(records, kind, keys)
    if evaluation.attacks:
        results["by_gap"] = _by_gap(evaluation)
    for measure in MEASURES:
        numbers = evaluation.whole.get(measure.name) or measure.summary(records)
        if numbers is not None:
            results[measure.name] = numbers
            if measure.radius is not None:
                certified, mean = _shares(records, measure.radius, keys)
                results[measure.name] = {**numbers, "certified": certified, "radius_mean": mean}
    return results


def _worst_cases(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Count what all attacks of one norm and one eps together leave, where there are several."""
    groups: dict[tuple[str, float], list[AttackInfo]] = {}
    for attack in evaluation.attacks:
        groups.setdefault((attack.norm, attack.eps), []).append(attack)
    return [
        {
            **{"norm": norm, "eps": eps, "attacks": [attack.name for attack in attacks]},
            "accuracy": float(np.mean(np.all([_robust(evaluation.records, a.name, eps) for a in attacks], axis=0))),
        }
        for (norm, eps), attacks in groups.items()
        if len({attack.attack for attack in attacks}) > 1
    ]


def _shares(records: Records, kind: RadiusKind, keys: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """Count what is certified at each radius, by its key; and average the radii, of which wrong samples have none."""
    shares = {key: certified_accuracy(records, r, kind) for key, r in keys.items()}
    return shares, float(np.mean(np.where(records.correct, _radius(records, kind), 0.0)))


def _radius(records: Records, kind: RadiusKind) -> npt.NDArray[np.float64]:
    # In float32 a radius just below a threshold would be rounded to it.
    return np.asarray(records.get(kind), np.float64)


def _certified(records: Records, radius: float, kind: RadiusKind) -> BoolArray:
    values = _radius(records, kind)
    return records.correct & (values > 0) & (values >= radius)


def _robust(records: Records, attack: str, eps: float) -> BoolArray:
    record = records.attacks[attack]
    within = record.norm.astype(np.float64) <= eps + rounding_slack(eps)
    return records.correct & ~(record.broken & within)
