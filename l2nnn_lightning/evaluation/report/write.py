"""Write everything that an evaluation leaves behind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.results import gap_bins, summarize
from l2nnn_lightning.evaluation.measure.run import AttackInfo, RunInfo
from l2nnn_lightning.evaluation.measure.soundness import check_sound
from l2nnn_lightning.evaluation.report.extra_figures import extra_figures
from l2nnn_lightning.evaluation.report.figures import plot_accuracy_by_gap, plot_accuracy_by_radius, plot_gap_histogram
from l2nnn_lightning.evaluation.report.files import write_json, write_text
from l2nnn_lightning.evaluation.report.gallery import Images, plot_gallery
from l2nnn_lightning.evaluation.report.history import plot_history, read_history
from l2nnn_lightning.evaluation.report.iterations_figure import choose_budgets, plot_iterations
from l2nnn_lightning.evaluation.report.report import CAPTIONS, write_report

__all__ = ["bin_radius", "write_evaluation"]


def write_evaluation(
    output_dir: Path | str,
    records: Records,
    images: Images,
    run: RunInfo,
    *,
    radii: Sequence[float],
    attacks: Sequence[AttackInfo] = (),
    attacked_images: Mapping[str, Images] | None = None,
    label_names: Sequence[str] | None = None,
    metrics_csv: Path | str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Check the records, then write ``results.json``, ``records.csv``, ``report.md`` and ``figures/*.png``.

    Nothing is written before the certificates have been held against the attacks. ``results.json`` is written last,
    so that where it exists the rest does too.

    Args:
        output_dir: the folder, created where it is missing; an earlier evaluation there is replaced.
        records: the records, at least one.
        images: (N, C, H, W) in the order of the records, uint8 in [0, 255] or floating in [0, 1].
        run: where the records come from.
        radii: L2 radii at which to report the certified accuracy, in pixel units, at least one.
        attacks: how the attacks of the records were run.
        attacked_images: by an attack's name what it made of ``images``; of the first attack, the run with the most
            iterations is shown beside the originals, and all its runs beside each other where there are several.
        label_names: names of the labels, in their order.
        metrics_csv: the ``metrics.csv`` of the training, drawn if it can be read.
        extra: further contents of ``results.json``, see :mod:`l2nnn_lightning.evaluation.measure.extras`.

    Returns:
        The content of ``results.json``.

    Raises:
        CertificateViolation: if an L2 attack changed a label inside its certified radius.
        ValueError: if records, images and attacks do not fit together.
    """
    check_sound(records, attacks)
    results = {**summarize(records, run, radii=radii, attacks=attacks), **(extra or {})}
    radius = bin_radius(radii, attacks)
    bins = gap_bins(records, radius, attacks)
    attacked_images = attacked_images or {}
    attack = _strongest([info for info in attacks if info.name in attacked_images])
    attacked = None if attack is None else attacked_images[attack.name]
    budgets = choose_budgets(attacks, attacked_images)
    figures = {
        "accuracy_by_radius": plot_accuracy_by_radius(records, radii, attacks),
        "accuracy_by_gap": plot_accuracy_by_gap(bins, radius),
        "gap_histogram": plot_gap_histogram(records),
        "largest_gaps": plot_gallery(
            records, images, "largest", attack=attack, attacked=attacked, label_names=label_names
        ),
        "smallest_gaps": plot_gallery(
            records, images, "smallest", attack=attack, attacked=attacked, label_names=label_names
        ),
    }
    if budgets:
        figures["attack_iterations"] = plot_iterations(
            records, images, budgets, attacked_images, label_names=label_names
        )
    training = _plot_training(metrics_csv)
    if training is not None:
        figures["training"] = training
    figures |= extra_figures(results, metrics_csv)

    folder = Path(output_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in CAPTIONS:
        # A figure of an earlier evaluation must not pass for one of this.
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    records.to_csv(Path(output_dir) / "records.csv")
    write_text(Path(output_dir) / "report.md", write_report(results, bins, radius, list(figures)))
    write_json(Path(output_dir) / "results.json", results)
    return results


def _strongest(attacks: Sequence[AttackInfo]) -> AttackInfo | None:
    """Choose the run of the first attack that has the most iterations."""
    runs = [info for info in attacks if info.attack == attacks[0].attack]
    return max(runs, key=lambda info: info.max_iter, default=None)


def _plot_training(metrics_csv: Path | str | None) -> Figure | None:
    try:
        return None if metrics_csv is None else plot_history(read_history(metrics_csv))
    except (FileNotFoundError, ValueError):
        # A damaged history costs its figure, not the hours that the attacks took.
        return None


def bin_radius(radii: Sequence[float], attacks: Sequence[AttackInfo]) -> float:
    """Choose the radius of the certified share per gap bin: the first L2 attack's eps, else the middle radius."""
    euclidean = [attack.eps for attack in attacks if attack.norm == "L2"]
    return euclidean[0] if euclidean else sorted(radii)[len(radii) // 2]
