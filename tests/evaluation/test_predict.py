"""The command predict: labels, gaps, radii and abstentions of image files."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_images import LABELS, made_up_pixels
from PIL import Image
from terminal import Terminal

from l2nnn_lightning.__main__ import main
from l2nnn_lightning.evaluation.predict import run_predict
from l2nnn_lightning.training.checkpoints import Checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five grey PNGs of 6x6 pixels, one of them in a folder of its own."""
    root = tmp_path / "images"
    (root / "more").mkdir(parents=True)
    for i, pixels in enumerate(made_up_pixels(5, seed=9)[0]):
        Image.fromarray(pixels[0]).save(root / ("more" if i == 4 else ".") / f"{i}.png")
    return root


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_folder_of_images_as_csv(checkpoint: str, folder: Path, terminal: Terminal) -> None:
    assert main(["predict", "--ckpt_path", checkpoint, str(folder), "--format", "csv", "--batch_size", "2"]) == 0
    found = rows(terminal.read()[0])
    assert [Path(row["image"]).name for row in found] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    images = torch.from_numpy(made_up_pixels(5, seed=9)[0]).float() / 255
    expected = Checkpoint.read(checkpoint).classifier().certify(images)
    assert [row["label"] for row in found] == [LABELS[k] for k in expected.label.tolist()]
    np.testing.assert_allclose([float(row["gap"]) for row in found], expected.gap, atol=1e-6)
    np.testing.assert_allclose([float(row["radius"]) for row in found], expected.radius, atol=1e-6)
    assert {row["abstain"] for row in found} == {"no"}


def test_abstention_below_a_radius(checkpoint: str, folder: Path, tmp_path: Path) -> None:
    radii = sorted(p.radius for p in run_predict(["--ckpt_path", checkpoint, str(folder)]))
    output = tmp_path / "out" / "table.csv"
    args = ["--ckpt_path", checkpoint, str(folder), "--format", "csv", "--output", str(output)]
    assert main(["predict", *args, "--abstain_below", repr(radii[2])]) == 0
    found = rows(output.read_text())
    assert sum(row["abstain"] == "yes" for row in found) == 2
    assert all((row["abstain"] == "yes") == (float(row["radius"]) < radii[2]) for row in found)


def test_the_table_names_abstentions_and_rounds_radii_down(
    checkpoint: str, folder: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # short paths, one line each
    predictions = run_predict(["--ckpt_path", checkpoint, ".", "--abstain_below", "100"])
    out = terminal.read()[0]
    assert out.count("abstain") == 5
    shown = [float(line.split("│")[4]) for line in out.splitlines() if line.startswith("│")]
    assert len(shown) == 5
    for prediction, radius in zip(predictions, shown, strict=True):
        assert radius <= prediction.radius < radius + 1e-4


def test_colour_and_jpeg_become_grey(checkpoint: str, tmp_path: Path) -> None:
    pixels = made_up_pixels(1, seed=3)[0][0, 0]
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(pixels[:, :, None], 3, 2)).save(tmp_path / "colour.png")
    Image.fromarray(pixels).save(tmp_path / "grey.jpg", quality=100)
    grey, colour, jpeg = run_predict(
        ["--ckpt_path", checkpoint, *(str(tmp_path / name) for name in ("grey.png", "colour.png", "grey.jpg"))]
    )
    assert colour.gap == pytest.approx(grey.gap, abs=0.02)  # the weights of the three colours add up to one, nearly
    assert jpeg.gap == pytest.approx(grey.gap, abs=0.3)
    assert grey.label == colour.label


def test_resize_takes_the_centred_square(checkpoint: str, tmp_path: Path, terminal: Terminal) -> None:
    pixels = made_up_pixels(1, seed=3)[0][0, 0]
    wide = np.zeros((12, 20), np.uint8)
    wide[:, 4:16] = np.kron(pixels, np.ones((2, 2), np.uint8))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(pixels).save(tmp_path / "right.png")
    line = terminal.error_line(main, "predict", "--ckpt_path", checkpoint, str(tmp_path / "wide.png"))
    assert "wide.png has 12x20 pixels, the network takes 6x6: use --resize" in line
    right, wide_prediction = run_predict(["--ckpt_path", checkpoint, "--resize", str(tmp_path)])
    assert wide_prediction.label == right.label


def test_one_bad_file_is_one_line_and_the_others_are_predicted(
    checkpoint: str, folder: Path, terminal: Terminal
) -> None:
    (folder / "2.png").write_bytes(b"not an image")
    assert main(["predict", "--ckpt_path", checkpoint, str(folder), "--format", "csv"]) == 2
    out, err = terminal.read()
    assert len(rows(out)) == 4
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "2.png cannot be read as an image" in err
    (folder / "3.png").write_bytes(b"")
    assert main(["predict", "--ckpt_path", checkpoint, str(folder), "--format", "csv"]) == 2
    out, err = terminal.read()
    assert len(rows(out)) == 3
    assert "2 of 5 images were left out; the first: " in err
