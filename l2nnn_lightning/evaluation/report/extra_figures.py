"""The figures of what an evaluation measures only when it is asked to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.report.history import read_history
from l2nnn_lightning.evaluation.report.hybrid_figure import plot_hybrid
from l2nnn_lightning.evaluation.report.noisy_figure import plot_noisy

__all__ = ["extra_figures"]


def extra_figures(results: Mapping[str, Any], metrics_csv: Path | str | None) -> dict[str, Figure]:
    """Draw ``hybrid`` and ``noisy``, as far as they were measured.

    Args:
        results: the content of ``results.json``.
        metrics_csv: the ``metrics.csv`` of the training.
    """
    figures: dict[str, Figure] = {}
    if "hybrid" in results:
        figures["hybrid"] = plot_hybrid(results["hybrid"])
    if "noisy" in results and metrics_csv is not None:
        try:
            figure = plot_noisy(read_history(metrics_csv))
        except (FileNotFoundError, ValueError):
            figure = None  # a damaged history costs its figure, not the evaluation
        if figure is not None:
            figures["noisy"] = figure
    return figures
