"""The report for looking: one page with curves, tables by label and every sample, which opens without a network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from l2nnn_lightning.evaluation.measure.results import Evaluation, certified_accuracy, robust_accuracy
from l2nnn_lightning.evaluation.report.page import html_page, html_table
from l2nnn_lightning.evaluation.report.style import ATTACK_COLOURS, BLUE
from l2nnn_lightning.evaluation.report.tables import Row, percent
from l2nnn_lightning.evaluation.report.viewer import SCRIPT, STYLE, sample_viewer

__all__ = ["confusion_rows", "label_rows", "report_html", "selective_curve"]

_WIDTH, _HEIGHT, _LEFT, _BASE = 560, 260, 46, 30
Curve = Sequence[tuple[float, float]]


def report_html(
    evaluation: Evaluation,
    results: Mapping[str, Any],
    summary: tuple[Row, list[Row]],
    bins: pd.DataFrame,
    radius: float,
) -> str:
    """Write the page of an evaluation.

    Args:
        evaluation: what was found.
        results: its ``results.json``.
        summary: header and rows of its summary.
        bins: accuracy by parts of the gap, see :func:`gap_bins`.
        radius: the radius of their certified accuracy.
    """
    records = evaluation.records
    largest = max([1.0, float(records.radius.max()), *(a.eps for a in evaluation.attacks if a.norm == "L2")])
    steps = np.linspace(0, 1.02 * largest, 61)
    by_radius: dict[str, Curve] = {"certified": [(r, certified_accuracy(records, float(r))) for r in steps]}
    for attack in evaluation.attacks:
        if attack.norm == "L2":
            reach = steps if attack.minimum_norm else [attack.eps]
            by_radius[f"under {attack.name}"] = [(r, robust_accuracy(records, attack.name, float(r))) for r in reach]
    parts = range(1, len(bins) + 1)
    calibration = {
        name: [(part, float(share)) for part, share in zip(parts, bins[name], strict=True)]
        for name in ("accuracy", "certified")
    }
    calibration[f"certified @{radius:g}"] = calibration.pop("certified")
    body = [
        html_table(*summary),
        "<h2>Certified accuracy, and what L2 attacks leave, by radius</h2>",
        _chart(by_radius, "L2 radius"),
        "<h2>Accuracy of the answers that are given, where the smallest gaps abstain</h2>",
        _chart({"accuracy of the rest": selective_curve(evaluation)}, "share that abstains"),
        "<h2>Accuracy by gap: ten equal parts of the images, the largest gaps first</h2>",
        _chart(calibration, "part"),
        "<h2>By label</h2>",
        html_table(*label_rows(evaluation)),
        "<h2>Which label is taken for which</h2>",
        html_table(*confusion_rows(evaluation)),
        *sample_viewer(evaluation),
        f"<h2>How it was made</h2><pre>{escape(str(results['command']))}</pre>",
    ]
    title = f"Evaluation on {results['dataset']}, {results['n']} images"
    return html_page(title, body, style=STYLE, script=SCRIPT)


def label_rows(evaluation: Evaluation) -> tuple[Row, list[Row]]:
    """Return header and rows by label: images, accuracy, mean certified radius (0 where wrong), certified shares."""
    records = evaluation.records
    rows: list[Row] = []
    for label in np.unique(records.label):
        own = records.select(records.label == label)
        mean = float(np.mean(np.where(own.correct, own.radius.astype(np.float64), 0.0)))
        shares = [percent(certified_accuracy(own, radius)) for radius in evaluation.radii]
        rows.append([evaluation.name(label), str(own.n), percent(float(own.correct.mean())), f"{mean:.3f}", *shares])
    return ("label", "images", "accuracy", "mean radius", *(f"@{radius:g}" for radius in evaluation.radii)), rows


def confusion_rows(evaluation: Evaluation) -> tuple[Row, list[Row]]:
    """Return header and rows of the confusion matrix, a row for each true label that occurs, at most forty of them."""
    records = evaluation.records
    labels = np.unique(np.r_[records.label, records.prediction])[:40]
    rows: list[Row] = [
        [
            evaluation.name(true),
            *(str(int(((records.label == true) & (records.prediction == k)).sum())) for k in labels),
        ]
        for true in labels
    ]
    return ("label, as", *(evaluation.name(label) for label in labels)), rows


def selective_curve(evaluation: Evaluation) -> list[tuple[float, float]]:
    """Return pairs: the share of images with the smallest gaps that get no answer, and the accuracy on the others."""
    records = evaluation.records
    correct = records.correct[np.argsort(records.gap, kind="stable")]
    dropped = np.unique(np.linspace(0, records.n - 1, 60).astype(int))
    return [(float(n / records.n), float(correct[n:].mean())) for n in dropped]


def _chart(curves: Mapping[str, Curve], x_name: str) -> str:
    """Draw shares against a number; each point says its values where the mouse is."""
    right = max(x for curve in curves.values() for x, _ in curve) or 1.0
    wide, high = _WIDTH - _LEFT - 10, _HEIGHT - _BASE - 10

    def place(x: float, y: float) -> tuple[float, float]:
        return round(_LEFT + wide * x / right, 1), round(10 + high * (1 - y), 1)

    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = place(0, share)[1]
        lines.append(f'<path d="M{_LEFT} {y}H{_WIDTH - 10}" stroke="#8884"/><text x="4" y="{y + 4}">{share:.0%}</text>')
    for tick in np.linspace(0, right, 5):
        lines.append(f'<text x="{place(float(tick), 0)[0] - 8}" y="{_HEIGHT - 12}">{tick:.2g}</text>')
    legend = []
    for colour, (name, curve) in zip((BLUE, *ATTACK_COLOURS) * len(curves), curves.items(), strict=False):
        spots = [place(x, y) for x, y in curve]
        joined = " ".join(f"{x},{y}" for x, y in spots)
        lines.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for (x, y), (given, share) in zip(spots, curve, strict=True):
            said = escape(f"{name}: {share:.1%} at {given:.3g}")
            lines.append(
                f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}" fill-opacity=".25"><title>{said}</title></circle>'
            )
        legend.append(f'<span style="color:{colour}">&#9632; {escape(name)}</span>')
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" font-size="11" fill="currentColor" role="img">{"".join(lines)}</svg>'
        f"<p>{' '.join(legend)}; across: {escape(x_name)}</p>"
    )
