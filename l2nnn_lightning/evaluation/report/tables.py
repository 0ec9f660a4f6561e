"""The tables of an evaluation, for the terminal and for the report, from the same rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from l2nnn_lightning.evaluation.measure.results import GapBin

__all__ = ["bin_rows", "markdown_table", "radius_name", "rich_table", "summary_rows", "why_unproved"]


Row = Sequence[str]


def summary_rows(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return the header and the rows of the summary.

    Args:
        results: the content of ``results.json``.
    """
    rows: list[Row] = [
        ("accuracy", percent(results["accuracy"])),
        ("mean confidence gap", f"{results['gap_mean']:.3f}"),
    ]
    if results["hard"]:
        rows.append((f"mean certified radius ({results['radius_kind']})", f"{results['radius_mean']:.3f}"))
        rows += [
            (f"certified accuracy, L2 radius {radius_name(r)}", percent(a)) for r, a in results["certified"].items()
        ]
    else:
        rows.append(("certified accuracy", why_unproved(results)))
    if results["hard"] and "certified_box" in results:
        rows.append(("mean certified radius, pixels in [0, 1]", f"{results['radius_box_mean']:.3f}"))
        rows += [
            (f"certified accuracy, L2 radius {radius_name(r)}, pixels in [0, 1]", percent(a))
            for r, a in results["certified_box"].items()
        ]
    if "jacobian" in results:
        rows.append(
            (f"mean norm of the Jacobian, {results['jacobian']['n']} images", f"{results['jacobian']['mean_norm']:.3f}")
        )
    for attack in results["attacks"]:
        setting = f"{attack['norm']} eps {attack['eps']:g}, {attack['max_iter']} iterations"
        if attack.get("restarts", 1) > 1:
            setting += f", {attack['restarts']} attempts"
        rows.append((f"accuracy under {attack['name']}, {setting}", percent(attack["accuracy"])))
    return ("measure", "value"), [*rows, *_hybrid_rows(results.get("hybrid")), *_noisy_rows(results.get("noisy"))]


def radius_name(radius: str) -> str:
    """Name a radius of ``results.json``: whole steps of 8-bit pixels as a fraction, unless the decimal is short.

    Example:
        >>> [radius_name(radius) for radius in ("0.5", "1.58", "0.141176")]
        ['0.5', '1.58', '36/255']
    """
    steps = 255 * float(radius)
    return f"{steps:.0f}/255" if len(radius) > 6 and abs(steps - round(steps)) < 1e-3 else radius


def why_unproved(results: Mapping[str, Any]) -> str:
    """Say in a few words why a network that is not hard proves nothing."""
    ordinary = results["config"].get("classifier") == "OrdinaryClassifier"
    return f"{'ordinary network' if ordinary else 'penalty mode'}: nothing is proved"


def _hybrid_rows(hybrid: Mapping[str, Any] | None) -> list[Row]:
    if hybrid is None:
        return []
    name = f"hybrid, threshold {hybrid['threshold']:g}"
    return [
        (f"{name}: accuracy", percent(hybrid["accuracy"])),
        (f"{name}: delegated", percent(hybrid["delegated"])),
        *(
            (f"{name}: kept and certified, L2 radius {radius_name(r)}", percent(a))
            for r, a in hybrid["certified"].items()
        ),
    ]


def _noisy_rows(noisy: Mapping[str, Any] | None) -> list[Row]:
    names = {
        "train": "training images",
        "train_clean": "training images, clean labels",
        "train_changed": "training images, changed labels",
        "val": "held-out images",
    }
    rows: list[Row] = []
    for part, name in names.items():
        values = None if noisy is None else noisy[part]
        if values is not None:
            rows.append((f"{name}: accuracy on the labels given", percent(values["accuracy"])))
            if part == "train_changed":
                rows.append((f"{name}: accuracy on the original labels", percent(values["accuracy_clean"])))
            rows.append((f"{name}: mean confidence gap", f"{values['gap_mean']:.3f}"))
    return rows


def bin_rows(bins: Sequence[GapBin], radius: float) -> tuple[Row, list[Row]]:
    """Return the header and the rows of accuracy per gap bin.

    Args:
        bins: the bins, largest gaps first.
        radius: L2 radius of their certified fraction.
    """
    names = list(bins[0].robust) if bins else []
    header = ("bin", "gaps", "n", "accuracy", f"certified @{radius:g}", *(f"under {name}" for name in names))
    rows: list[Row] = [
        (
            str(position),
            f"{part.gap_max:.2f} to {part.gap_min:.2f}",
            str(part.n),
            percent(part.accuracy),
            percent(part.certified),
            *(percent(part.robust[name]) for name in names),
        )
        for position, part in enumerate(bins, start=1)
    ]
    return header, rows


def rich_table(title: str, header: Row, rows: Sequence[Row]) -> Table:
    """Build a table for the terminal."""
    table = Table(title=title, title_justify="left")
    for position, name in enumerate(header):
        table.add_column(name, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """Write a table in Markdown.

    Example:
        >>> print(markdown_table(("measure", "value"), [("accuracy", "97.0%")]))
        | measure | value |
        |:---|---:|
        | accuracy | 97.0% |
    """
    first, *others = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (header, *rows)]
    return "\n".join([f"| {first} |", f"|:---|{'---:|' * (len(header) - 1)}", *(f"| {row} |" for row in others)])


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with one decimal."""
    return f"{100 * fraction:.1f}%"
