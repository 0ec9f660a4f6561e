"""The hybrid model: an L2NNN where its gap is at least a threshold, another classifier elsewhere (section 3.2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from l2nnn_lightning.attacks import build_attack, find_attack
from l2nnn_lightning.data import to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.subject import Subject, device_of, eps_of, usual_linf_eps, watched
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report import style
from l2nnn_lightning.evaluation.report.plane import History
from l2nnn_lightning.evaluation.report.tables import Row, percent, radius_name
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.nn.certificates import confidence_gap
from l2nnn_lightning.training.checkpoints import Checkpoint
from l2nnn_lightning.training.label_names import compare_names

__all__ = ["Hybrid", "HybridNetwork", "HybridRecords", "hybrid_records", "measure_hybrid"]

# Thresholds of the curve, beside 0: those that delegate about these fractions of the images.
_DELEGATED = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75)

# Far above the rounding of a difference of float64 logits; a program in float32 claims nothing of its hybrid.
_OUTWARD = 1e-12

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Hybrid(Measure):
    """``--fallback PATH --threshold T``: the fallback, on its device, answers where the gap is below the threshold."""

    name = "hybrid"
    caption = "The hybrid model: what it gains and what it keeps of the proof as more images are delegated."
    path: str
    fallback: Certified
    threshold: float
    radii: Sequence[float]
    options: EvaluateOptions

    @classmethod
    def asked(cls, options: EvaluateOptions, subject: Subject) -> Self | None:
        """Build it for ``--fallback``.

        Raises:
            UserError: if radii of the first classifier do not follow from its logits, or the two do not fit together.
        """
        if options.fallback is None:
            return None
        classifier = subject.classifier
        other = Checkpoint.read(options.fallback)
        fallback = other.classifier()
        if not (classifier.network.can_prove and subject.certified.rule.is_graph):
            raise UserError(
                "a hybrid needs an L2NNN whose confidence gap moves at a known rate: name its checkpoint with "
                "--ckpt_path"
            )
        for name in ("image_shape", "num_labels"):
            if getattr(fallback, name) != getattr(classifier, name):
                raise UserError(
                    f"--fallback was trained for {name} {getattr(fallback, name)}, "
                    f"--ckpt_path for {getattr(classifier, name)}: use checkpoints of one data set"
                )
        ours, theirs = subject.label_names, other.recorded_names
        if not options.ignore_label_names and None not in (ours, theirs) and ours != theirs:
            difference = compare_names("--ckpt_path", ours or [], "--fallback", theirs or [])
            raise UserError(f"the labels differ: {difference}: use checkpoints of one data set")
        certified = fallback.certified().to(device_of(subject.certified))
        threshold = 1.0 if options.threshold is None else options.threshold
        return cls(str(options.fallback), certified, threshold, options.radius_values, options)

    def whole(self, subject: Subject) -> dict[str, Any]:
        """Measure all images, see :func:`measure_hybrid`; and attack the hybrid as the L2NNN is attacked."""
        records = hybrid_records(subject.certified, self.fallback, subject.images, subject.labels, subject.batch_size)
        found = {"fallback": self.path, **measure_hybrid(records, self.threshold, self.radii)}
        if self.options.attack_names:
            radius = torch.tensor(np.where(records.gap >= self.threshold, records.radius(self.threshold), 0.0))
            found["attacks"] = [self._under(name, subject, radius.float()) for name in self.options.attack_names]
        return found

    def _under(self, name: str, subject: Subject, radius: Tensor) -> dict[str, Any]:
        """Attack, with the most iterations asked for, the hybrid, then the fallback, whose images may do too."""
        hybrid, device = HybridNetwork(subject.certified, self.fallback, self.threshold), device_of(subject.certified)
        eps = eps_of(find_attack(name), self.options, usual_linf_eps(subject.datamodule))
        max_iter = max(self.options.budgets, default=None)
        settings = {"restarts": self.options.restarts, "seed": self.options.seed}
        attacks = [
            build_attack(name, network, eps=eps, max_iter=max_iter, **settings)
            for network in (hybrid, self.fallback.network)
        ]
        right = 0
        for rows in watched(torch.split(torch.arange(len(subject.images)), subject.batch_size), f"hybrid, {name}"):
            image, label = to_float(subject.images[rows], device), subject.labels[rows].to(device)
            broken = attacks[0].run(image, label, radius=radius[rows]).broken
            made = attacks[1].run(image, label).images
            with torch.no_grad():
                broken |= hybrid(made).argmax(1) != label
            right += int((~broken).sum())
        spent = attacks[0].max_iter
        given = {"name": name, "norm": attacks[0].norm_kind, "eps": eps, "max_iter": spent, "n": len(subject.images)}
        return {**given, "accuracy": right / len(subject.images)}

    @staticmethod
    def rows(numbers: Mapping[str, Any]) -> list[Row]:
        """Return what holds at the threshold."""
        shares = {name: numbers[name] for name in ("accuracy", "delegated")}
        shares |= {f"kept and certified, L2 radius {radius_name(r)}": a for r, a in numbers["certified"].items()}
        for attack in numbers.get("attacks", []):
            shares[f"accuracy under {attack['name']}, {attack['norm']} eps {attack['eps']:g}"] = attack["accuracy"]
        return [(f"hybrid, threshold {numbers['threshold']:g}: {name}", percent(a)) for name, a in shares.items()]

    @staticmethod
    def figure(numbers: Mapping[str, Any], history: History) -> Figure:  # noqa: ARG004
        """Draw natural and certified accuracy against the fraction of delegated images."""
        figure = style.new_figure(8.6, 3.6)
        natural, proved = figure.subplots(1, 2)
        curve = sorted(numbers["curve"], key=lambda point: float(point["delegated"]))
        delegated = [100 * point["delegated"] for point in curve]
        accuracy = [100 * point["accuracy"] for point in curve]
        natural.plot(delegated, accuracy, "o-", color=style.BLUE, markersize=3, label="hybrid")
        threshold = f"threshold {numbers['threshold']:g}"
        natural.plot(
            100 * numbers["delegated"], 100 * numbers["accuracy"], "s", color=style.VERMILLION, label=threshold
        )
        natural.axhline(100 * numbers["l2nnn_accuracy"], color=style.GREY, linestyle=":", label="L2NNN alone")
        natural.axhline(100 * numbers["fallback_accuracy"], color=style.GREY, linestyle="--", label="fallback alone")
        for radius, colour in zip(numbers["certified"], (style.BLUE, *style.ATTACK_COLOURS), strict=False):
            values = [100 * point["certified"][radius] for point in curve]
            proved.plot(delegated, values, "o-", color=colour, markersize=3)
            proved.annotate(radius, (delegated[0], values[0]), xytext=(-14, -2), textcoords="offset points", fontsize=7)
        proved.margins(x=0.09)
        proved.set_title("by L2 radius, of all images", fontsize=8, color=style.GREY)
        style.tidy(natural, x="delegated", y="natural accuracy")
        style.tidy(proved, x="delegated", y="certified accuracy of the kept part")
        for axis in (natural.xaxis, natural.yaxis, proved.xaxis, proved.yaxis):
            axis.set_major_formatter(style.PERCENT)
        style.legend_above(figure, natural, columns=4)
        return figure


class HybridNetwork(nn.Module):
    """The hybrid as one network, for attacks: the logits of whoever answers, (B, C, H, W) -> (B, K)."""

    def __init__(self, certified: Certified, fallback: Certified, threshold: float) -> None:
        super().__init__()
        self.ours, self.theirs, self.threshold = certified.network, fallback.network, threshold

    def forward(self, image: Tensor) -> Tensor:
        """Ask both; choose by the first one's gap."""
        logits_BK = self.ours(image)
        kept_B = confidence_gap(logits_BK) >= self.threshold
        return torch.where(kept_B[:, None], logits_BK, self.theirs(image))


@dataclass(frozen=True)
class HybridRecords:
    """What both classifiers say of each image, (N,): the L2NNN's gap and radius at a threshold, and who is right."""

    gap: FloatArray
    correct: BoolArray
    fallback_correct: BoolArray
    radius: Callable[[float], FloatArray]


def hybrid_records(
    certified: Certified, fallback: Certified, images: Tensor, labels: Tensor, batch_size: int
) -> HybridRecords:
    """Ask the L2NNN and the fallback, on the same device, about every image, (N, C, H, W), uint8.

    The radius at a threshold t is one within which the hybrid surely answers with the L2NNN's label. While every lead
    ``y_i - y_j`` stays above t, label i is given and the image is not delegated. That is what the classifier's own rule
    proves of logits of which the largest is lowered by t: with the paper's rule the radius is ``(gap - t) / 2``, since
    the gap falls by at most 2 per unit of distance. It is 0 where nothing is proved.
    """
    batches = torch.split(images, batch_size)
    logits = [certified.logits(_image(certified, batch)) for batch in batches]

    def radius(threshold: float) -> FloatArray:
        parts = []
        for batch, logits_BK in zip(batches, logits, strict=True):
            label_B1 = logits_BK.argmax(1, keepdim=True)
            # Lower by more than the rounding of this difference, and of the gap that is compared with the threshold.
            lowered_B1 = threshold * (1 + _OUTWARD) + _OUTWARD * logits_BK.abs().amax(1, keepdim=True)
            lowered_BK = logits_BK.scatter_add(1, label_B1, -lowered_B1 if threshold else 0 * lowered_B1)
            proved = certified.rule(lowered_BK, _image(certified, batch))
            parts.append(torch.where(proved.label == label_B1[:, 0], proved.radius, 0).cpu())
        return torch.cat(parts).double().numpy()

    ours, theirs = (
        torch.cat(logits).cpu(),
        torch.cat([fallback.logits(_image(fallback, batch)).argmax(1).cpu() for batch in batches]),
    )
    return HybridRecords(
        confidence_gap(ours).double().numpy(),
        (ours.argmax(1) == labels.cpu()).numpy(),
        (theirs == labels.cpu()).numpy(),
        radius,
    )


def measure_hybrid(records: HybridRecords, threshold: float, radii: Sequence[float]) -> dict[str, Any]:
    """Compute what ``results.json`` says of the hybrid: at the threshold >= 0, and along a curve of thresholds.

    Returns:
        ``threshold``; ``accuracy`` of the whole, ``delegated`` fraction, ``kept_accuracy``; ``certified``, the share of
        all images that are kept, right, and provably stay both within each radius, and ``certified_kept``, the same as
        a share of the kept ones; the accuracies of each classifier alone; ``curve``, the same for other thresholds.
    """
    thresholds = sorted({0.0, *(float(q) for q in np.quantile(records.gap, _DELEGATED))})
    return {
        **_at(records, threshold, radii),
        "l2nnn_accuracy": float(records.correct.mean()),
        "fallback_accuracy": float(records.fallback_correct.mean()),
        "curve": [_at(records, other, radii) for other in thresholds],
    }


def _at(records: HybridRecords, threshold: float, radii: Sequence[float]) -> dict[str, Any]:
    kept = records.gap >= threshold
    radius = records.radius(threshold)
    proved = kept & records.correct & (radius > 0)
    certified = {f"{r:g}": float((proved & (radius >= r)).mean()) for r in radii}
    share = float(kept.mean())
    return {
        "threshold": threshold,
        "accuracy": float(np.where(kept, records.correct, records.fallback_correct).mean()),
        "delegated": 1 - share,
        "kept_accuracy": float(records.correct[kept].mean()) if kept.any() else None,
        "certified": certified,
        "certified_kept": {key: value / share for key, value in certified.items()} if kept.any() else None,
    }


def _image(certified: Certified, images: Tensor) -> Tensor:
    parameter = next(certified.parameters())
    return to_float(images, parameter.device, parameter.dtype)
