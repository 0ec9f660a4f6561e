"""Write everything that an evaluation leaves behind."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.measure.measures import MEASURES
from l2nnn_lightning.evaluation.measure.results import gap_bins, summarize
from l2nnn_lightning.evaluation.measure.run import Evaluation
from l2nnn_lightning.evaluation.measure.soundness import check_sound
from l2nnn_lightning.evaluation.report.figures import plot_accuracy_by_gap, plot_accuracy_by_radius, plot_gap_histogram
from l2nnn_lightning.evaluation.report.files import write_json, write_text
from l2nnn_lightning.evaluation.report.gallery import plot_gallery, plot_iterations
from l2nnn_lightning.evaluation.report.history import History, plot_history, read_history
from l2nnn_lightning.evaluation.report.report import CAPTIONS, write_report

__all__ = ["bin_radius", "write_evaluation"]


def write_evaluation(output_dir: Path | str, evaluation: Evaluation) -> dict[str, Any]:
    """Check the records, then write ``results.json``, ``records.csv``, ``report.md`` and ``figures/*.png``.

    Nothing is written before the certificates have been held against the attacks. ``results.json`` is written last,
    so that where it exists the rest does too.

    Args:
        output_dir: the folder, created where it is missing; an earlier evaluation there is replaced.
        evaluation: what was found.

    Returns:
        The content of ``results.json``.

    Raises:
        CertificateViolation: if an L2 attack changed a label inside its certified radius.
    """
    records = evaluation.records
    check_sound(records, evaluation.attacks)
    results = summarize(evaluation)
    radius = bin_radius(evaluation)
    bins = gap_bins(evaluation, radius)
    history = _history(evaluation.metrics_csv)
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
    drawn = {name: figure for name, figure in figures.items() if figure is not None}

    folder = Path(output_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in CAPTIONS:
        # A figure of an earlier evaluation must not pass for one of this.
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")
    records.to_csv(Path(output_dir) / "records.csv")
    write_text(Path(output_dir) / "report.md", write_report(results, bins, radius, list(drawn)))
    write_json(Path(output_dir) / "results.json", results)
    return results


def _history(metrics_csv: Path | str | None) -> History:
    """Read the history; a damaged one costs its figures, not the hours that the attacks took."""
    try:
        return History() if metrics_csv is None else read_history(metrics_csv)
    except (FileNotFoundError, ValueError):
        return History()


def bin_radius(evaluation: Evaluation) -> float:
    """Choose the radius of the certified share per gap bin: the first L2 attack's eps, else the middle radius."""
    euclidean = [attack.eps for attack in evaluation.attacks if attack.norm == "L2"]
    return euclidean[0] if euclidean else sorted(evaluation.radii)[len(evaluation.radii) // 2]
