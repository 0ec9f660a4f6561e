import json
from pathlib import Path

from l2nnn_lightning.evaluation.readme import fill

ROOT = Path(__file__).parents[2]


def test_the_readmes_tables_are_those_of_the_results():
    text = (ROOT / "README.md").read_text()
    assert "<!-- results/mnist5k.json -->" in text
    assert fill(text, ROOT) == text


def test_a_missing_result_shows_as_missing(tmp_path):
    text = "a\n<!-- results/none.json -->\n| 99% |\n<!-- end -->\nb"
    assert fill(text, tmp_path) == "a\n<!-- results/none.json -->\nnot run yet\n<!-- end -->\nb"


def test_a_result_shows_with_its_seed_and_command(tmp_path):
    results = {
        "dataset": "MNIST",
        "n": 7,
        "accuracy": 0.5,
        "gap_mean": 1.25,
        "radius_mean": 0.5,
        "radius_kind": "gap/2",
        "certified": {"0.5": 0.25},
        "attacks": [],
        "hard": True,
        "seed": 3,
        "hardware": "1 core",
        "command": "python evaluate.py",
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_text(json.dumps(results))
    text = fill("<!-- results/x.json -->\n<!-- end -->", tmp_path)
    assert "1.250" in text
    assert "25.0%" in text
    assert "Seed 3, 1 core; `python evaluate.py`" in text
