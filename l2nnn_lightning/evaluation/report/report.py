"""The report of an evaluation in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from l2nnn_lightning.evaluation.measure.measures import MEASURES
from l2nnn_lightning.evaluation.report.tables import bin_rows, markdown_table, summary_rows, why_unproved

__all__ = ["CAPTIONS", "write_report"]

CAPTIONS = {
    "accuracy_by_radius": "Certified accuracy against the L2 radius, and the accuracy that L2 attacks leave.",
    "accuracy_by_gap": "Accuracy in equal parts of the samples, sorted by gap.",
    "gap_histogram": "How the gaps of correct and of wrong samples are spread.",
    "largest_gaps": "The images of each label that the network is surest of.",
    "smallest_gaps": "The images of each label that the network is least sure of.",
    "attack_iterations": "The same images attacked with more and more iterations.",
    "training": "Accuracy and mean gap while the network was trained.",
    **{measure.name: measure.caption for measure in MEASURES if measure.caption},
}

HOW_TO_READ = """\
A sample is certified at radius r when the network's label is right and provably stays the same for every image
within Euclidean distance r, measured where pixel values run from 0 to 1. No attack, present or future, can bring the
accuracy below the certified accuracy; an attack shows only that the true value is not above what it leaves, so the
truth lies between the two. The confidence gap, the largest logit minus the second largest, is what a radius is computed
from: a network that separates its classes well has large gaps, and its wrong answers have small ones."""


def write_report(results: Mapping[str, Any], bins: pd.DataFrame, radius: float, figures: Sequence[str]) -> str:
    """Return the text of ``report.md``.

    Args:
        results: the content of ``results.json``.
        bins: accuracy per gap bin.
        radius: L2 radius of the bins' certified fraction.
        figures: names of the figures drawn, each with a caption in ``CAPTIONS``.
    """
    parts = [f"# Evaluation on {results['dataset']}, {results['n']} images"]
    if not results["hard"]:
        parts.append(f"**{why_unproved(results).capitalize()}.**")
    parts += [markdown_table(*summary_rows(results)), "## How to read this", HOW_TO_READ, "## Figures"]
    parts += [f"![{CAPTIONS[name]}](figures/{name}.png)\n\n{CAPTIONS[name]}" for name in figures]
    parts += ["## Accuracy by gap", markdown_table(*bin_rows(bins, radius))]
    parts += ["## How it was made", f"```\n{results['command']}\n```"]
    origin = [
        ("checkpoint", f"`{results['checkpoint']}`"),
        ("seed", str(results["seed"])),
        ("hardware", str(results["hardware"])),
        ("time", f"{results['seconds']:.1f} s"),
        *((name, str(version)) for name, version in results["versions"].items()),
    ]
    parts.append(markdown_table(("what", "value"), origin))
    return "\n\n".join(parts) + "\n"
