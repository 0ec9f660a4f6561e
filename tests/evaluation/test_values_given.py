"""How radii, eps and data sets may be written on a command line, and what eps is where none is given."""

import json
from pathlib import Path

import pytest
from terminal import Terminal

from l2nnn_lightning.__main__ import evaluate
from l2nnn_lightning.data import DATAMODULES, build_datamodule, short_name
from l2nnn_lightning.evaluation.options import evaluate_options, predict_options


@pytest.mark.parametrize("words", [["--eps", "8/255"], ["--eps=8/255"]])
def test_fractions_are_numbers(words: list[str]) -> None:
    options = evaluate_options(["--ckpt_path", "a.ckpt", *words, "--radii", "36/255,0.5"])
    assert options.eps == 8 / 255
    assert options.radius_values == [36 / 255, 0.5]
    hybrid = evaluate_options(["--ckpt_path", "a/b.ckpt", "--fallback", "c/d.ckpt", "--threshold", "1/2"])
    assert (hybrid.threshold, hybrid.ckpt_path, hybrid.fallback) == (0.5, "a/b.ckpt", "c/d.ckpt")
    assert predict_options(["--ckpt_path", "a.ckpt", "b/c.png", "--abstain_below", "1/4"]).abstain_below == 0.25


@pytest.mark.parametrize("given", ["8/0", "8/x", "1/2/3"])
def test_what_is_no_fraction_is_refused_in_one_line(terminal: Terminal, given: str) -> None:
    line = terminal.error_line(evaluate, "--ckpt_path", "a.ckpt", "--eps", given)
    assert f"--eps: expected float, got {given}; see evaluate.py --help" in line


def test_eps_is_that_of_the_norm_where_none_is_given(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any network falls at 1.58 in L-infinity: each pixel may then have any value."""
    monkeypatch.chdir(tmp_path)
    args = ["--ckpt_path", checkpoint, "--limit=3", "--attacks=pgd_l2,pgd_linf", "--max_iter=1", "--output=out"]
    for words, expected in (([], [1.58, 8 / 255]), (["--eps=1/10"], [0.1, 0.1])):
        assert evaluate([*args, *words]) == 0
        attacks = json.loads(Path("out/results.json").read_text())["attacks"]
        assert [attack["eps"] for attack in attacks] == expected
        assert [attack["norm"] for attack in attacks] == ["L2", "Linf"]


@pytest.mark.parametrize("name", DATAMODULES)
def test_data_sets_are_known_by_every_name(name: str) -> None:
    kind = DATAMODULES[name]
    for given in (name, kind.__name__, f"l2nnn_lightning.data.{kind.__name__}", f"{kind.__module__}.{kind.__name__}"):
        assert short_name(given) == name
        assert type(build_datamodule(given, {})) is kind
    assert short_name("my_package.MNIST") == "my_package.MNIST"


def test_evaluation_takes_the_class_for_its_own_data(checkpoint: str, tmp_path: Path) -> None:
    """Its options are those of the training: the folder needs no --root."""
    args = ["--ckpt_path", checkpoint, "--limit", "3", "--output", str(tmp_path)]
    assert evaluate([*args, "--data", "ImageFolderDataModule"]) == 0
