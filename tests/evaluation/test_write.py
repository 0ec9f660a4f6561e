import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_records import ATTACKS, made_up_evaluation, made_up_images, made_up_records, made_up_run

from l2nnn_lightning.evaluation.measure.records import CertificateViolation, Records
from l2nnn_lightning.evaluation.report.report import bin_radius, write_evaluation

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
