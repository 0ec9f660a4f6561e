"""Write everything that an evaluation leaves behind: its numbers, its figures and the report on them in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.measure.records import check_sound
from l2nnn_lightning.evaluation.measure.results import MEASURES, Evaluation, bin_radius, gap_bins, summarize
from l2nnn_lightning.evaluation.report.figures import plot_accuracy_by_gap, plot_accuracy_by_radius, plot_gap_histogram
from l2nnn_lightning.evaluation.report.files import write_json, write_text
from l2nnn_lightning.evaluation.report.gallery import plot_gallery, plot_iterations
from l2nnn_lightning.evaluation.report.html import report_html
from l2nnn_lightning.evaluation.report.plane import plot_history, read_history
from l2nnn_lightning.evaluation.report.tables import Row, markdown_table, percent, radius_name

__all__ = ["bin_rows", "summary_rows", "write_evaluation"]

_CAPTIONS = {
    "accuracy_by_radius": "Certified accuracy against the L2 radius, and the accuracy that L2 attacks leave.",
    "accuracy_by_gap": "Accuracy in equal parts of the samples, sorted by gap.",
    "gap_histogram": "How the gaps of correct and of wrong samples are spread.",
    "largest_gaps": "The images of each label that the network is surest of.",
    "smallest_gaps": "The images of each label that the network is least sure of.",
    "attack_iterations": "The same images attacked with more and more iterations.",
    "training": "Accuracy and mean gap while the network was trained.",
    **{measure.name: measure.caption for measure in MEASURES if measure.caption},
}

_HOW_TO_READ = """\
A sample is certified at radius r when the network's label is right and provably stays the same for every image
within Euclidean distance r, measured where pixel values run from 0 to 1. No attack, present or future, can bring the
accuracy below the certified accuracy; an attack shows only that the true value is not above what it leaves, so the
truth lies between the two. The confidence gap, the largest logit minus the second largest, is what a radius is computed
from: a network that separates its classes well has large gaps, and its wrong answers have small ones."""


def write_evaluation(output_dir: Path | str, evaluation: Evaluation) -> dict[str, Any]:
    """Check the records, then write ``results.json``, ``records.csv``, ``report.md``, ``report.html``, figures.

    Nothing is written before the certificates have been held against the attacks. ``results.json`` is written last,
    so that where it exists the rest does too; its content is returned. The folder is created where it is missing.

    Raises:
        CertificateViolation: if an L2 attack changed a label inside its certified radius.
    """
    records = evaluation.records
    check_sound(records, evaluation.attacks)
    results = summarize(evaluation)
    radius = bin_radius(evaluation)
    bins = gap_bins(evaluation, radius)
    history = read_history(evaluation.metrics_csv)
    figures: dict[str, Figure | None] = {
        "accuracy_by_radius": plot_accuracy_by_radius(evaluation),
        "accuracy_by_gap": plot_accuracy_by_gap(bins, radius),
        "gap_histogram": plot_gap_histogram(records),
        "largest_gaps": plot_gallery(evaluation, "largest"),
        "smallest_gaps": plot_gallery(evaluation, "smallest"),
        "attack_iterations": plot_iterations(evaluation),
        "training": plot_history(history),
        **{m.name: m.figure(results[m.name], history) for m in MEASURES if m.name in results},
    }

    folder = Path(output_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CAPTIONS:
        # A figure of an earlier evaluation must not pass for one of this.
        (folder / f"{name}.png").unlink(missing_ok=True)
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")
    records.to_csv(Path(output_dir) / "records.csv")
    write_text(Path(output_dir) / "report.md", _report(results, bins, radius, list(drawn)))
    page = report_html(evaluation, results, summary_rows(results), bins, radius)
    write_text(Path(output_dir) / "report.html", page)
    write_json(Path(output_dir) / "results.json", results)
    return results


def summary_rows(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return the header and the rows of the summary of ``results.json``."""
    rows: list[Row] = [
        ("accuracy", percent(results["accuracy"])),
        ("mean confidence gap", f"{results['gap_mean']:.3f}"),
    ]
    if not results["hard"]:
        rows.append(("certified accuracy", _why_unproved(results)))
    else:
        kinds = [("certified", "radius_mean", f" ({results['radius_kind']})", "")]
        if "certified_box" in results:
            kinds.append(("certified_box", "radius_box_mean", ", pixels in [0, 1]", ", pixels in [0, 1]"))
        for shares, mean, rule, where in kinds:
            rows.append((f"mean certified radius{rule}", f"{results[mean]:.3f}"))
            rows += [
                (f"certified accuracy, L2 radius {radius_name(r)}{where}", percent(a))
                for r, a in results[shares].items()
            ]
    rows += _measured(results, before_attacks=True)
    for attack in results["attacks"]:
        setting = f"{attack['norm']} eps {attack['eps']:g}, {attack['max_iter']} iterations"
        if attack.get("restarts", 1) > 1:
            setting += f", {attack['restarts']} attempts"
        rows.append((f"accuracy under {attack['name']}, {setting}", percent(attack["accuracy"])))
    rows += [
        (f"accuracy under all {worst['norm']} attacks, eps {worst['eps']:g}", percent(worst["accuracy"]))
        for worst in results.get("worst_case", ())
    ]
    return ("measure", "value"), [*rows, *_measured(results, before_attacks=False)]


def bin_rows(bins: pd.DataFrame, radius: float) -> tuple[Row, list[Row]]:
    """Return the header and the rows of accuracy per gap bin, from :func:`gap_bins` with that L2 radius."""
    under = [f"under {name}" for name in bins.columns[5:]]
    rows: list[Row] = [
        (str(position), f"{largest:.2f} to {smallest:.2f}", str(n), *map(percent, fractions))
        for position, (n, largest, smallest, *fractions) in enumerate(bins.itertuples(index=False, name=None), start=1)
    ]
    return ("bin", "gaps", "n", "accuracy", f"certified @{radius:g}", *under), rows


def _measured(results: Mapping[str, Any], *, before_attacks: bool) -> list[Row]:
    """Return the rows of what was measured because it was asked for."""
    chosen = [m for m in MEASURES if m.name in results and m.before_attacks is before_attacks]
    return [row for measure in chosen for row in measure.rows(results[measure.name])]


def _why_unproved(results: Mapping[str, Any]) -> str:
    if "soft_certificate" in results:
        return "penalty mode: nothing is proved as of a hard network"
    ordinary = results["config"].get("classifier") == "OrdinaryClassifier"
    return f"{'ordinary network' if ordinary else 'penalty mode'}: nothing is proved"


def _report(results: Mapping[str, Any], bins: pd.DataFrame, radius: float, figures: Sequence[str]) -> str:
    parts = [f"# Evaluation on {results['dataset']}, {results['n']} images"]
    if not results["hard"]:
        parts.append(f"**{_why_unproved(results).capitalize()}.**")
    parts += [markdown_table(*summary_rows(results)), "## How to read this", _HOW_TO_READ, "## Figures"]
    parts += [f"![{_CAPTIONS[name]}](figures/{name}.png)\n\n{_CAPTIONS[name]}" for name in figures]
    parts += ["## Accuracy by gap", markdown_table(*bin_rows(bins, radius))]
    parts += ["## How it was made", f"```\n{results['command']}\n```"]
    origin = {"checkpoint": f"`{results['checkpoint']}`", "seed": results["seed"], "hardware": results["hardware"]}
    origin |= {"time": f"{results['seconds']:.1f} s", **results["versions"]}
    parts.append(markdown_table(("what", "value"), [(name, str(value)) for name, value in origin.items()]))
    return "\n\n".join(parts) + "\n"
