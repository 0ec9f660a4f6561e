"""The card beside an exported file: what it is, what it was trained on, what it reached, what it proves."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.export.graph import OUTPUTS
from l2nnn_lightning.evaluation.measure.environment import versions
from l2nnn_lightning.training.checkpoints import run_folder_of
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["describe", "find_results"]

_RULES = {
    "none": "nothing is proved: the radius is 0",
    "gap/2": "gap / 2: every logit is 1-Lipschitz (Lemma 6)",
    "gap/sqrt(2)": "gap / sqrt(2): the logits are jointly 1-Lipschitz (Lemma 1)",
    "pairwise": "min over other labels j of (y_i - y_j) / c_ij, c_ij a Lipschitz constant of that difference",
}
_RESULTS = ("dataset", "n", "accuracy", "gap_mean", "radius_mean", "certified", "attacks", "hard")


def describe(
    classifier: Classifier, contents: Mapping[str, Any], ckpt_path: str, results: Path | None
) -> dict[str, Any]:
    """Describe a classifier.

    Args:
        classifier: the classifier.
        contents: of its checkpoint, with the names of the labels.
        ckpt_path: where it came from.
        results: the results.json of its evaluation, if there is one.

    Returns:
        Plain values; of the results the summary alone.
    """
    rule = classifier.certified().rule.name
    return {
        "classifier": type(classifier).__name__,
        "hyper_parameters": contents["hyper_parameters"],
        "hard": classifier.is_hard,
        "radius_rule": _RULES.get(rule, rule),
        "norm": "L2 over the whole image, pixels in [0, 1]",
        "input": {
            "name": "image",
            "dtype": "float32",
            "range": [0, 1],
            "shape": ["batch", *classifier.image_shape],
        },
        "outputs": list(OUTPUTS),
        "labels": contents["l2nnn_lightning"]["label_names"],
        "data": contents["l2nnn_lightning"].get("data"),
        "results": None if results is None else _summary(results),
        "checkpoint": ckpt_path,
        "commit": _commit(),
        "versions": versions(),
    }


def find_results(ckpt_path: str, given: str | None) -> Path | None:
    """Find the results.json to quote: the one given, or the evaluation of this checkpoint in its run folder."""
    if given is not None:
        return Path(given)
    folder = run_folder_of(ckpt_path)
    path = None if folder is None else folder / "evaluation" / "results.json"
    if path is None or not path.is_file():
        return None
    evaluated = Path(_read(path).get("checkpoint", ""))
    return path if evaluated.name == Path(ckpt_path).name else None


def _summary(path: Path) -> dict[str, Any]:
    results = _read(path)
    return {key: results[key] for key in _RESULTS if key in results}


def _read(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        return dict(results)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no results.json of evaluate.py: {error}") from error


def _commit() -> str | None:
    """Return the commit of the source that exports, where it is a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
