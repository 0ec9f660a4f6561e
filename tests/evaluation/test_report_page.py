"""report.html: whole in one file, true to the records, small."""

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_records import made_up_evaluation, made_up_images, made_up_records
from PIL import Image

from l2nnn_lightning.evaluation.measure.records import AttackInfo
from l2nnn_lightning.evaluation.measure.results import Evaluation, gap_bins, robust_accuracy, summarize
from l2nnn_lightning.evaluation.report.html import confusion_rows, label_rows, report_html, selective_curve
from l2nnn_lightning.evaluation.report.report import summary_rows
from l2nnn_lightning.evaluation.report.viewer import SCRIPT, sample_viewer

NAMES = ["</script><b>cat", *"abcdefghi"]


@pytest.fixture
def evaluation() -> Evaluation:
    records, images = made_up_records(130, attacked=True), made_up_images(130)
    return made_up_evaluation(records, images=images, attacked={"cw": images.float() / 510}, label_names=NAMES)


def test_the_page_asks_nothing_of_a_network_and_no_name_breaks_it(evaluation: Evaluation) -> None:
    results = summarize(evaluation)
    page = report_html(evaluation, results, summary_rows(results), gap_bins(evaluation, 1.0), 1.0)
    assert not re.search(r"(src|href|action)=\"(?!data:image/png;base64,)|url\(|@import|https?:", page)
    assert "default-src 'none'" in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "<b>cat" not in page


def test_samples_are_those_of_the_records(evaluation: Evaluation) -> None:
    text = "".join(sample_viewer(evaluation))
    found = re.search(r'id="samples">(.*?)</script>', text, re.S)
    assert found is not None
    data, records = json.loads(found[1]), evaluation.records
    assert data["names"] == NAMES
    assert len(data["samples"]) == 130
    for i, sample in enumerate(data["samples"]):
        assert sample[:3] == [records.index[i], records.label[i], records.prediction[i]]
        assert sample[3] == pytest.approx(records.gap[i], abs=1e-4)
        assert records.radius[i] - 1.1e-4 <= sample[4] <= records.radius[i]  # rounded down
        assert sample[5:] == [
            1,
            pytest.approx(records.attacks["cw"].norm[i], abs=1e-4),
            records.attacks["cw"].prediction[i],
        ]
    atlas = re.search(r'id="atlas" src="data:image/png;base64,([^"]+)"', text)
    assert atlas is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(atlas[1]))))
    for i in (0, 99, 100, 129):
        row, column = divmod(i, data["across"])
        part = pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert np.array_equal(part, evaluation.images[i, 0].numpy())


def test_tables_and_curves_count_the_records(evaluation: Evaluation) -> None:
    records = evaluation.records
    header, rows = label_rows(evaluation)
    assert header[:4] == ("label", "images", "accuracy", "mean radius")
    assert sum(int(row[1]) for row in rows) == records.n
    _, matrix = confusion_rows(evaluation)
    counts = np.array([[int(cell) for cell in row[1:]] for row in matrix])
    assert counts.trace() == records.correct.sum()
    assert counts.sum() == records.n
    (first, accuracy), (_, surest) = selective_curve(evaluation)[0], selective_curve(evaluation)[-1]
    assert (first, accuracy) == (0.0, pytest.approx(records.correct.mean()))
    assert surest in (0.0, 1.0)


def test_several_attacks_show_the_worst_case_over_them(evaluation: Evaluation) -> None:
    """Each leaves others right; together they leave less than either."""
    records = evaluation.records
    half = torch.arange(records.n) % 2 == 0
    columns = {"cw_broken": half, "pgd_l2_broken": ~half}
    columns |= {f"{name}_norm": torch.where(columns[f"{name}_broken"], 1.2, torch.inf) for name in ("cw", "pgd_l2")}
    records = records.with_columns({"radius": torch.zeros(records.n), **columns})
    attacks = [AttackInfo(name, "L2", eps=1.5, max_iter=10) for name in ("cw", "pgd_l2")]
    found = summarize(made_up_evaluation(records, attacks=attacks))
    assert all(robust_accuracy(records, name, 1.5) > 0.3 for name in ("cw", "pgd_l2"))
    assert found["worst_case"] == [{"norm": "L2", "eps": 1.5, "attacks": ["cw", "pgd_l2"], "accuracy": 0.0}]
    assert "worst_case" not in summarize(made_up_evaluation(records, attacks=attacks[:1]))


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript here")
def test_the_script_is_javascript(tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text(SCRIPT, encoding="utf-8")
    subprocess.run(["node", "--check", "page.js"], cwd=tmp_path, check=True, timeout=60)
