import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_records import ATTACKS, made_up_images, made_up_records, made_up_run

from l2nnn_lightning.evaluation.measure.records import AttackRecords, Records
from l2nnn_lightning.evaluation.measure.soundness import CertificateViolation
from l2nnn_lightning.evaluation.report.write import bin_radius, write_evaluation

RADII = (0.5, 1.0, 1.58)
PNG = b"\x89PNG\r\n\x1a\n"


def test_evaluation_with_attacks_writes_everything(tmp_path: Path) -> None:
    records = made_up_records(60, attacked=True, box=True)
    images = made_up_images(60, channels=3)
    history = tmp_path / "metrics.csv"
    history.write_text("epoch,val/accuracy,val/gap_mean,val/hard\n0,0.5,1.0,0\n1,0.75,0.5,1\n")
    output = tmp_path / "deep" / "evaluation"
    results = write_evaluation(
        output,
        records,
        images,
        made_up_run(),
        radii=RADII,
        attacks=ATTACKS,
        attacked_images={"cw": images.float() / 255},
        metrics_csv=history,
    )
    assert json.loads((output / "results.json").read_text()) == results
    read = Records.from_csv(output / "records.csv")
    assert results["accuracy"] == np.mean(read.label == read.prediction)
    report = (output / "report.md").read_text()
    links = re.findall(r"\]\((figures/\w+\.png)\)", report)
    assert sorted(links) == sorted(f"figures/{path.name}" for path in (output / "figures").iterdir())
    assert len(links) == 6
    assert all((output / link).read_bytes().startswith(PNG) for link in links)
    run = made_up_run()
    for part in (run.command, run.checkpoint, run.hardware, "12.2 s", "| torch | 2.99 |", "| seed | 7 |"):
        assert part in report
    assert f"| accuracy | {100 * results['accuracy']:.1f}% |" in report
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("case", ["one sample", "all wrong", "penalty mode"])
def test_evaluation_of_an_odd_network_can_be_written(tmp_path: Path, case: str) -> None:
    records = made_up_records(1 if case == "one sample" else 12, labels=3, hard=case != "penalty mode")
    if case == "all wrong":
        records = replace(records, prediction=(records.label + 1) % 3)
    run = made_up_run(hard=case != "penalty mode")
    results = write_evaluation(tmp_path, records, made_up_images(records.n), run, radii=RADII)
    report = (tmp_path / "report.md").read_text()
    assert ("Penalty mode: nothing is proved." in report) == (case == "penalty mode")
    if case != "one sample":
        assert results["radius_mean"] == 0
    assert len(list((tmp_path / "figures").iterdir())) == 5


def test_a_violated_certificate_leaves_an_earlier_evaluation_alone(tmp_path: Path) -> None:
    records = made_up_records(12, attacked=True)
    broken = replace(
        records,
        attacks={**records.attacks, "cw": AttackRecords(np.ones(12, bool), np.zeros(12, np.float32))},
    )
    with pytest.raises(CertificateViolation):
        write_evaluation(tmp_path / "new", broken, made_up_images(12), made_up_run(), radii=RADII, attacks=ATTACKS)
    assert not (tmp_path / "new").exists()


def test_an_evaluation_replaces_the_figures_of_an_earlier_one(tmp_path: Path) -> None:
    stale = tmp_path / "figures" / "training.png"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    history = tmp_path / "metrics.csv"
    history.write_text("epoch,val/accuracy\nzero,one\n")
    records = made_up_records(4)
    write_evaluation(tmp_path, records, made_up_images(4), made_up_run(), radii=RADII, metrics_csv=history)
    assert not stale.exists()
    assert "training.png" not in (tmp_path / "report.md").read_text()
    assert (tmp_path / "results.json").is_file()


def test_bins_are_certified_at_the_radius_that_is_attacked() -> None:
    assert bin_radius(RADII, ATTACKS) == 3.0
    assert bin_radius(RADII, ATTACKS[2:]) == 1.0
    assert bin_radius((2.0,), ()) == 2.0
