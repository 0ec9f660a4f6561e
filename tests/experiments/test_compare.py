"""Runs side by side, and a sweep of a few without an account."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import study
from made_up_images import write_config
from terminal import Terminal

from l2nnn_lightning.__main__ import main
from l2nnn_lightning.experiments.compare import compare_rows, read_run
from l2nnn_lightning.experiments.pareto import plot_pareto
from l2nnn_lightning.experiments.sweep import split_values

pytestmark = pytest.mark.usefixtures("elsewhere")
ROOT = Path(__file__).parents[2]


def write_run(name: str, **changes: Any) -> str:
    results = json.loads((ROOT / "results" / "mnist5k.json").read_text(encoding="utf-8")) | changes
    folder = Path("runs", name, "evaluation")
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return str(folder.parent)


def test_runs_stand_side_by_side_with_what_differs(terminal: Terminal) -> None:
    config = json.loads((ROOT / "results" / "mnist5k.json").read_text(encoding="utf-8"))["config"]
    other = json.loads(json.dumps(config))
    other["objective"]["init_args"]["omega"] = 9.5
    one = write_run("one", accuracy=0.9, gap_mean=2.0)
    two = write_run("two", accuracy=0.8, gap_mean=3.0, config=other, seed=4)
    header, rows = compare_rows([read_run(Path(one)), read_run(Path(two))])
    assert header[:6] == ("run", "omega", "seed", "accuracy", "mean gap", "mean radius")
    assert [list(row[:5]) for row in rows] == [
        ["runs/one", str(config["objective"]["init_args"]["omega"]), "0", "90.0%", "2.000"],
        ["runs/two", "9.5", "4", "80.0%", "3.000"],
    ]
    assert main(["compare", one, two, "--output", "out"]) == 0
    assert "page: out/comparison.html" in terminal.read()[0]
    page = Path("out/comparison.html").read_text(encoding="utf-8")
    assert "<td>runs/two</td><td>9.5</td>" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing is fetched
    assert Path("out/pareto.png").stat().st_size > 10_000


def test_the_front_joins_what_no_other_run_beats() -> None:
    axes = plot_pareto(["a", "b", "c"], [(0.9, 1.0, 0.1), (0.8, 2.0, 0.2), (0.7, 1.5, 0.3)], "0.5").axes
    assert [axis.lines[0].get_xydata().tolist() for axis in axes] == [
        [[80.0, 2.0], [90.0, 1.0]],
        [[70.0, 30.0], [80.0, 20.0], [90.0, 10.0]],
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["runs/none"], "there is no run runs/none"),
        (
            ["runs"],
            "runs holds no evaluation: python -m l2nnn_lightning evaluate --ckpt_path runs/checkpoints/best.ckpt",
        ),
        (["broken.json"], "broken.json is no results.json of an evaluation (KeyError: 'config')"),
        (["runs/one", "--radius", "7"], "--radius 7 was not measured in every run: they share 0.5, 1, 1.58, 2, 3"),
        ([], "the following arguments are required: runs"),
    ],
)
def test_bad_input_is_one_line(terminal: Terminal, args: list[str], message: str) -> None:
    write_run("one")
    Path("broken.json").write_text("{}", encoding="utf-8")
    said = terminal.error_line(main, "compare", *args)
    assert message.replace("python -m l2nnn_lightning evaluate", "evaluate.py") in said
    assert not Path("comparison").exists()


def test_several_values_vary_and_lists_do_not() -> None:
    given = ["-c", "a.yaml", "--model.network.channels", "[8,16]", "--data.attack={eps: 1, steps: 2}", "--a.b", "1,2"]
    fixed, varied = split_values([*given, "--compile", "--seed_everything=0,1"])
    assert fixed == [*given[:5], "--compile"]
    assert varied == {"--a.b": ["1", "2"], "--seed_everything": ["0", "1"]}


def test_a_sweep_trains_evaluates_and_compares_and_repeats_nothing(
    images: Path, tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(tasks: list[Any], jobs: int, say: Any) -> list[str]:
        """In this process, which saves the start of four others."""
        for task in tasks:
            say(f"started {task.name}")
            program, *args = list(task.command())[2:]
            assert main(["train" if "train" in program else "evaluate", *args]) == 0
            task.finish(0.0)
        return []

    monkeypatch.setattr("l2nnn_lightning.experiments.study.schedule.run_tasks", run_here)
    for name in ("accuracy_by_radius", "accuracy_by_gap", "gap_histogram", "gallery", "iterations", "history"):
        monkeypatch.setattr(f"l2nnn_lightning.evaluation.report.report.plot_{name}", lambda *_: None)
    config = write_config(tmp_path / "a.yaml", images)
    sweep = ["sweep", "--config", config, "--trainer.max_epochs", "3", "--jobs", "2", "--sweep", "all", "--limit", "5"]
    assert "nothing varies" in terminal.error_line(study, *sweep)
    assert "--jobs must be" in terminal.error_line(study, "sweep", "--jobs", "0", "--model.objective.omega", "0,1")
    sweep += ["--model.objective.omega", "0.1,1.0"]
    assert study(sweep) == 0
    out, _ = terminal.read()
    assert out.count("started train omega=") == 2
    assert {"omega=0.1", "omega=1.0"} <= {path.name for path in Path("all").iterdir()}
    assert "omega=1.0" in Path("all/comparison.md").read_text(encoding="utf-8")
    assert study(sweep) == 0
    assert "started" not in terminal.read()[0]
