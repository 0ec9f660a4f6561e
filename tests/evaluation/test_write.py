"""What an evaluation leaves behind: files in one step, tables, the report."""

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_records import ATTACKS, made_up_evaluation, made_up_images, made_up_records, made_up_run
from rich.console import Console

from l2nnn_lightning.evaluation.measure.records import CertificateViolation, Records
from l2nnn_lightning.evaluation.measure.results import gap_bins, summarize
from l2nnn_lightning.evaluation.report.files import hardware, versions, write_json, write_text
from l2nnn_lightning.evaluation.report.report import bin_radius, bin_rows, summary_rows, write_evaluation
from l2nnn_lightning.evaluation.report.tables import markdown_table, rich_table


def test_json_is_strict_sorted_and_free_of_nan(tmp_path: Path) -> None:
    values = {"z": math.nan, "a": [1.5, math.inf, (2, True)], "m": {"path": Path("a/b"), "none": None, "é": "ü"}}
    write_json(tmp_path / "new" / "results.json", values)
    text = (tmp_path / "new" / "results.json").read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    parsed = json.loads(text, parse_constant=refuse)
    assert parsed == {
        "a": [1.5, None, [2, True]],
        "m": {"none": None, "path": str(Path("a/b")), "é": "ü"},
        "z": None,
    }
    assert list(parsed) == ["a", "m", "z"]
    assert text.endswith("}\n")


def test_what_json_cannot_hold_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")

    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_versions_and_hardware_name_what_numbers_depend_on() -> None:
    import torch

    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "l2nnn-lightning", "numpy"} <= set(found)
    assert "CPU core" in hardware()


def test_terminal_and_markdown_show_the_same_numbers() -> None:
    records = made_up_records(200, attacked=True, box=True)
    results = summarize(made_up_evaluation(records))
    rows = summary_rows(results)
    terminal = io.StringIO()
    Console(width=120, file=terminal).print(rich_table("Evaluation", *rows))
    markdown = markdown_table(*rows)
    for name, value in rows[1]:
        assert name in terminal.getvalue()
        assert value in terminal.getvalue()
        assert f"| {name} | {value} |" in markdown
    shown = dict(rows[1])
    assert shown["accuracy"] == f"{100 * results['accuracy']:.1f}%"
    assert shown["certified accuracy, L2 radius 1.58"] == f"{100 * results['certified']['1.58']:.1f}%"
    assert shown["accuracy under cw, L2 eps 3, 1000 iterations"] == f"{100 * results['attacks'][0]['accuracy']:.1f}%"


def test_penalty_mode_shows_no_certified_number() -> None:
    results = summarize(made_up_evaluation(made_up_records(20, hard=False), run=made_up_run(hard=False)))
    shown = dict(summary_rows(results)[1])
    assert shown["certified accuracy"] == "penalty mode: nothing is proved"
    assert not any("radius" in name for name in shown)


def test_bin_table_has_a_row_per_bin_and_a_column_per_attack() -> None:
    bins = gap_bins(made_up_evaluation(made_up_records(200, attacked=True)), 1.0)
    header, rows = bin_rows(bins, 1.0)
    assert header[3:] == ("accuracy", "certified @1", "under cw", "under pgd_l2", "under pgd_linf")
    assert len(rows) == 10
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0][3] == f"{100 * bins['accuracy'][0]:.1f}%"


def test_markdown_escapes_what_would_split_a_cell() -> None:
    lines = markdown_table(("a", "b"), [("x|y", "1")]).splitlines()
    assert lines == ["| a | b |", "|:---|---:|", "| x\\|y | 1 |"]


PNG = b"\x89PNG\r\n\x1a\n"


def test_evaluation_with_attacks_writes_everything(tmp_path: Path) -> None:
    records = made_up_records(60, attacked=True, box=True)
    images = made_up_images(60, channels=3)
    history = tmp_path / "metrics.csv"
    history.write_text("epoch,val/accuracy,val/gap_mean,val/hard\n0,0.5,1.0,0\n1,0.75,0.5,1\n")
    output = tmp_path / "deep" / "evaluation"
    attacked = {"cw": images.float() / 255}
    evaluation = made_up_evaluation(records, images=images, attacked=attacked, metrics_csv=history)
    results = write_evaluation(output, evaluation)
    assert json.loads((output / "results.json").read_text()) == results
    read = Records.from_csv(output / "records.csv")
    assert results["accuracy"] == np.mean(read.label == read.prediction)
    report = (output / "report.md").read_text()
    links = re.findall(r"\]\((figures/\w+\.png)\)", report)
    assert sorted(links) == sorted(f"figures/{path.name}" for path in (output / "figures").iterdir())
    assert len(links) == 6
    assert all((output / link).read_bytes().startswith(PNG) for link in links)
    run = made_up_run()
    for part in (run["command"], run["checkpoint"], run["hardware"], "12.2 s", "| torch | 2.99 |", "| seed | 7 |"):
        assert part in report
    assert "<h2>Samples</h2>" in (output / "report.html").read_text(encoding="utf-8")
    assert f"| accuracy | {100 * results['accuracy']:.1f}% |" in report
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("case", ["one sample", "all wrong", "penalty mode"])
def test_evaluation_of_an_odd_network_can_be_written(tmp_path: Path, case: str) -> None:
    records = made_up_records(1 if case == "one sample" else 12, labels=3, hard=case != "penalty mode")
    if case == "all wrong":
        records = records.with_columns({"prediction": torch.tensor((records.label + 1) % 3)})
    run = made_up_run(hard=case != "penalty mode")
    results = write_evaluation(tmp_path, made_up_evaluation(records, run=run))
    report = (tmp_path / "report.md").read_text()
    assert ("Penalty mode: nothing is proved." in report) == (case == "penalty mode")
    if case != "one sample":
        assert results["radius_mean"] == 0
    assert len(list((tmp_path / "figures").iterdir())) == 5


def test_a_violated_certificate_leaves_an_earlier_evaluation_alone(tmp_path: Path) -> None:
    records = made_up_records(12, attacked=True)
    frame = records.frame.drop(columns="cw_prediction")
    broken = Records(frame).with_columns({"cw_broken": torch.ones(12), "cw_norm": torch.zeros(12)})
    with pytest.raises(CertificateViolation):
        write_evaluation(tmp_path / "new", made_up_evaluation(broken))
    assert not (tmp_path / "new").exists()


def test_an_evaluation_replaces_the_figures_of_an_earlier_one(tmp_path: Path) -> None:
    stale = tmp_path / "figures" / "training.png"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    history = tmp_path / "metrics.csv"
    history.write_text("epoch,val/accuracy\nzero,one\n")
    write_evaluation(tmp_path, made_up_evaluation(made_up_records(4), metrics_csv=history))
    assert not stale.exists()
    assert "training.png" not in (tmp_path / "report.md").read_text()
    assert (tmp_path / "results.json").is_file()


def test_bins_are_certified_at_the_radius_that_is_attacked() -> None:
    records = made_up_records(4, attacked=True)
    linf = Records(records.frame[[name for name in records.frame if not name.startswith(("cw", "pgd_l2"))]])
    assert bin_radius(made_up_evaluation(records)) == 3.0
    assert bin_radius(made_up_evaluation(linf, attacks=ATTACKS[2:])) == 1.0
    assert bin_radius(made_up_evaluation(radii=(2.0,))) == 2.0
