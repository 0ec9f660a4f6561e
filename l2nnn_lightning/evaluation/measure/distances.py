"""How much distance each layer keeps between images of different labels, and Lemma 2 at the end of them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from l2nnn_lightning.data import to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.subject import Subject, device_of
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report import style
from l2nnn_lightning.evaluation.report.plane import History
from l2nnn_lightning.evaluation.report.tables import Row, percent
from l2nnn_lightning.nn.certificates import confidence_gap
from l2nnn_lightning.nn.soft import in_sequence

__all__ = ["Distances", "kept_distances", "lemma_2"]


@dataclass(frozen=True)
class Distances(Measure):
    """``--distances COUNT``: over all pairs of different labels among the first images of the data set."""

    name = "distances"
    caption = "What the layers keep of the distance between images of different labels, on average."
    before_attacks = True
    count: int

    @classmethod
    def asked(cls, options: EvaluateOptions, subject: Subject) -> Self | None:  # noqa: ARG003
        """Build it for ``--distances``."""
        return None if options.distances is None else cls(options.distances)

    def whole(self, subject: Subject) -> dict[str, Any]:
        """Measure the images that are asked for."""
        labels = subject.labels[: self.count]
        images = to_float(subject.images[: self.count], device_of(subject.certified))
        layers, logits = kept_distances(subject.certified.network, images, labels)
        return {"n": len(labels), "layers": layers, "lemma_2": lemma_2(logits, labels)}

    @staticmethod
    def rows(numbers: Mapping[str, Any]) -> list[Row]:
        """Return the whole way, and what Lemma 2 says."""
        lemma, last = numbers["lemma_2"], numbers["layers"][-1]
        rows: list[Row] = [(f"distance kept up to the logits, {numbers['n']} images", percent(last["kept"]))]
        if lemma["pairs"]:
            rows.append(("gaps as a share of what Lemma 2 allows", percent(lemma["used"])))
            rows.append(("pairs that break Lemma 2", f"{lemma['broken']} of {lemma['pairs']:,}"))
        return rows

    @staticmethod
    def figure(numbers: Mapping[str, Any], history: History) -> Figure:  # noqa: ARG004
        """Draw a bar for each layer."""
        layers = numbers["layers"]
        figure = style.new_figure(6.2, 1.2 + 0.2 * len(layers))
        axes = figure.subplots()
        axes.barh(range(len(layers)), [100 * layer["kept"] for layer in layers], color=style.BLUE, alpha=0.6)
        axes.set_yticks(range(len(layers)), [layer["layer"] for layer in layers], fontsize=style.SMALL)
        axes.invert_yaxis()
        style.tidy(axes, x="distance between images of different labels that is left", y="")
        axes.xaxis.set_major_formatter(style.PERCENT)
        return figure


@torch.no_grad()
def kept_distances(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[list[dict[str, Any]], Tensor]:
    """Compare the distance between two images' signals with that between the images, averaged over pairs of two labels.

    Where each of K labels has a part of its own, it is the root of the mean square of their K distances: each part is
    nonexpansive for itself. So of a nonexpansive network no value exceeds 1, and none exceeds the one before it.

    Args:
        network: in evaluation mode; an L2NNN's layers and those of a sequence are told apart.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).

    Returns:
        For each layer ``layer``, its place and class, ``kept``, the mean, and ``least``, the smallest; and the logits.

    Raises:
        UserError: if all images have one label.
    """
    signals: list[Tensor] = []
    layers = list(_layers(network))
    handles = [layer.register_forward_hook(lambda *given: signals.append(given[2].double())) for layer, _ in layers]
    try:
        logits: Tensor = network(images)
    finally:
        for handle in handles:
            handle.remove()
    different = (labels[:, None] != labels).triu().to(images.device)
    if not bool(different.any()):
        raise UserError("--distances needs images of two labels: measure more images")
    between = _distances(images.double())[different]
    found = []
    for place, ((layer, parts), signal) in enumerate(zip(layers, signals, strict=True)):
        kept = _distances(signal)[different] / (between * math.sqrt(parts))
        name = f"{place} {type(layer).__name__}"
        found.append({"layer": name, "kept": float(kept.mean()), "least": float(kept.min())})
    return found, logits


def lemma_2(logits_BK: Tensor, labels: Tensor) -> dict[str, Any]:
    """Hold Lemma 2 against logits: ``g(x1) + g(x2) <= sqrt(2) |y1 - y2|`` where both are right, of different labels.

    Returns:
        ``pairs``; how many are ``broken``, beyond rounding; ``used``, the mean of the left side over the right one.
    """
    logits = logits_BK.detach().cpu().double()
    right = logits.argmax(1) == labels.cpu()
    logits, given, gap = logits[right], labels.cpu()[right], confidence_gap(logits[right])
    different = (given[:, None] != given).triu()
    allowed = math.sqrt(2) * torch.cdist(logits, logits, compute_mode="donot_use_mm_for_euclid_dist")[different]
    sums = (gap[:, None] + gap)[different]
    pairs = len(sums)
    return {
        "pairs": pairs,
        "broken": int((sums > allowed * (1 + 1e-9) + 1e-9).sum()),
        "used": float((sums / allowed.clamp_min(1e-300)).mean()) if pairs else None,
    }


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """Iterate over a network's layers in order, each with the number of labels' parts that it gives side by side."""
    parts = 1
    for layer in network.chain() if hasattr(network, "chain") else in_sequence([network]):  # type: ignore[operator]
        weight = None if hasattr(layer, "kernel_size") else getattr(layer, "weight", None)
        # Copies for each label, or one matrix for each; what follows goes on with them.
        parts = getattr(layer, "num_labels", len(weight) if weight is not None and weight.dim() == 3 else parts)
        yield layer, parts


def _distances(signal: Tensor) -> Tensor:
    flat = signal.flatten(1)
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
