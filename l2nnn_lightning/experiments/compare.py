"""``l2nnn compare RUN RUN ...``: evaluated runs side by side, and which of them no other beats."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from l2nnn_lightning.evaluation.arguments import parse_options
from l2nnn_lightning.training.arguments import program

__all__ = ["CompareOptions", "Run", "compare", "compare_rows", "read_run", "run_compare"]


@dataclass(frozen=True)
class CompareOptions:
    """Put evaluated runs side by side: a table, plots with the Pareto front, a page.

    Args:
        runs: run folders, evaluation folders or results.json files.
        radius: the L2 radius of certified accuracy in the plot (default: the middle one that all have)
        output: the folder to write: comparison.html, comparison.md, pareto.png
    """

    runs: list[str]
    radius: str | None = None
    output: Path = Path("comparison")


class Run(NamedTuple):
    """What is compared: a name, the contents of its ``results.json``, and its settings by their dotted names."""

    name: str
    results: Mapping[str, Any]
    settings: Mapping[str, Any]


def run_compare(args: Sequence[str]) -> None:
    """Compare, print the table and write the rest; a UserError where a run is not evaluated."""
    options = parse_options(CompareOptions, args, program("compare"), {"runs": "+"})
    compare([read_run(Path(run)) for run in options.runs], options.output, options.radius)


def compare(runs: Sequence[Run], output: Path, radius: str | None = None) -> None:
    """Print the table of runs; write it, the plots and a page of both to a folder.

    Raises:
        UserError: if a radius was not measured in all of them, or the folder cannot be written.
    """
    from rich.console import Console

    from l2nnn_lightning.evaluation.report.files import write_text
    from l2nnn_lightning.evaluation.report.page import figure_tag, html_page, html_table
    from l2nnn_lightning.evaluation.report.tables import markdown_table, rich_table
    from l2nnn_lightning.experiments.pareto import plot_pareto

    header, rows = compare_rows(runs)
    chosen = _radius(runs, radius)
    figure = plot_pareto([run.name for run in runs], points(runs, chosen), chosen)
    Console(highlight=False).print(rich_table("runs side by side", header, rows))
    note = "On the front: no other run is at least as accurate and has more of what is on the other axis."
    data = {(run.results["dataset"], run.results["n"]) for run in runs}
    notes = [note] if len(data) == 1 else [note, "Not all of them were evaluated on the same images."]
    for line in notes[1:]:
        print(f"note: {line}")
    body = [html_table(header, rows), figure_tag(figure, note), *(f"<p>{line}</p>" for line in notes)]
    body += ["<h2>Where they come from</h2>", html_table(("run", "command"), [(r.name, _origin(r)) for r in runs])]
    write_text(output / "comparison.md", markdown_table(header, rows) + "\n\n" + "\n".join(notes) + "\n")
    write_text(output / "comparison.html", html_page("Runs side by side", body))
    figure.savefig(output / "pareto.png")
    print(f"page: {output / 'comparison.html'}")


def read_run(path: Path) -> Run:
    """Read the latest evaluation of a run folder, or an evaluation; a UserError if there is none."""
    from l2nnn_lightning.data.errors import UserError

    places = [path / "evaluation" / "results.json", path / "results.json", path]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        todo = f"{program('evaluate')} --ckpt_path {path / 'checkpoints' / 'best.ckpt'}"
        raise UserError(f"{path} holds no evaluation: {todo}" if path.is_dir() else f"there is no run {path}")
    try:
        results: dict[str, Any] = dict(json.loads(file.read_text(encoding="utf-8")))
        settings = dict(_leaves("", {**results["config"], "seed": results["seed"]}))
        numbers = [float(results[key]) for key in ("accuracy", "gap_mean", "radius_mean", "n")]
        numbers += [float(radius) + float(share) for radius, share in results["certified"].items()]
        _ = [(attack["name"], attack["norm"], float(attack["accuracy"])) for attack in results["attacks"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is no results.json of an evaluation ({type(error).__name__}: {error})") from error
    return Run(_name(path), results, settings)


def compare_rows(runs: Sequence[Run]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return the header and the rows of the table: settings in which runs differ, then their figures."""
    from l2nnn_lightning.evaluation.report.tables import percent, radius_name

    keys = dict.fromkeys(key for run in runs for key in run.settings)
    differing = [key for key in keys if len({json.dumps(run.settings.get(key)) for run in runs}) > 1]
    radii = list(dict.fromkeys(radius for run in runs for radius in run.results["certified"]))
    attacks = list(dict.fromkeys(_attack_name(attack) for run in runs for attack in run.results["attacks"]))
    rows: list[Sequence[str]] = []
    for run in runs:
        left = {_attack_name(attack): percent(attack["accuracy"]) for attack in run.results["attacks"]}
        shares = run.results["certified"]
        rows.append(
            [
                run.name,
                *(_text(run.settings.get(key)) for key in differing),
                percent(run.results["accuracy"]),
                f"{run.results['gap_mean']:.3f}",
                f"{run.results['radius_mean']:.3f}",
                *(percent(shares[radius]) if radius in shares else "" for radius in radii),
                *(left.get(attack, "") for attack in attacks),
            ]
        )
    short = _short_names(differing)
    figures = ("accuracy", "mean gap", "mean radius", *(f"@{radius_name(radius)}" for radius in radii), *attacks)
    return ("run", *short, *figures), rows


def points(runs: Sequence[Run], radius: str) -> list[tuple[float, float, float]]:
    """Return accuracy, mean gap and certified accuracy at a radius of each run."""
    return [(run.results["accuracy"], run.results["gap_mean"], run.results["certified"][radius]) for run in runs]


def _radius(runs: Sequence[Run], asked: str | None) -> str:
    from l2nnn_lightning.data.errors import UserError

    shared = [r for r in runs[0].results["certified"] if all(r in run.results["certified"] for run in runs)]
    if asked is not None and asked not in shared:
        raise UserError(f"--radius {asked} was not measured in every run: they share {', '.join(shared) or 'none'}")
    if not shared:
        raise UserError("the runs share no radius of certified accuracy: evaluate them with the same --radii")
    return asked or shared[len(shared) // 2]


def _name(path: Path) -> str:
    parts = [part for part in path.absolute().parts if part not in ("results.json", "evaluation")]
    return "/".join(parts[-2:]).removesuffix(".json")


def _origin(run: Run) -> str:
    return f"{run.results.get('command', '')} ({run.results['dataset']}, {run.results['n']} images)"


def _attack_name(attack: Mapping[str, Any]) -> str:
    return f"under {attack['name']} {attack.get('eps', 0):g}, {attack.get('max_iter')}"


def _short_names(keys: Sequence[str]) -> list[str]:
    """Shorten dotted names to their last part, where that is not another's too."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    parts = {key: (name if key in ("class_path", "init_args") else f"{name}.{key}".lstrip(".")) for key in value}
    return [leaf for key, entry in value.items() for leaf in _leaves(parts[key], entry)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.rpartition(".")[2]
    return "" if value is None else json.dumps(value)
