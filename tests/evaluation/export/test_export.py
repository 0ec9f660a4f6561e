"""The command export: what is written says what the checkpoint says, or is refused."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_images import SHAPE
from made_up_training import make_classifier
from small_networks import SMALL
from terminal import Terminal
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.__main__ import main
from l2nnn_lightning.evaluation.export.graph import (
    CertifiedNetwork,
    ParityError,
    check_parity,
    random_images,
    run_onnx,
    run_program,
    write_onnx,
    write_program,
)
from l2nnn_lightning.models import NETWORKS, Certified, TemplateNet
from l2nnn_lightning.nn import (
    BatchScaling,
    BoundedScaling,
    NormPool2d,
    Residual,
    SubtractSubsetMeans,
    UnitSlope,
    harden,
)
from l2nnn_lightning.training.checkpoints import Checkpoint, sha256
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.objectives import CrossEntropy


def export(checkpoint: str, form: str, output: Path, *more: str) -> dict[str, Any]:
    assert main(["export", "--ckpt_path", checkpoint, "--format", form, "--output", str(output), *more]) == 0
    card: dict[str, Any] = json.loads(Path(f"{output}.json").read_text())
    return card


def test_a_program_needs_none_of_our_code_and_agrees(checkpoint: str, tmp_path: Path) -> None:
    card = export(checkpoint, "torch_export", tmp_path / "model.pt2")
    classifier = Checkpoint.read(checkpoint).classifier()
    image = torch.rand(5, *classifier.image_shape)
    logits, label, gap, radius = torch.export.load(tmp_path / "model.pt2").module()(image)
    expected = classifier.certified("float32")(image)
    top = logits.topk(2).values
    torch.testing.assert_close(gap, top[:, 0] - top[:, 1])
    assert torch.equal(label, logits.argmax(1))
    torch.testing.assert_close(radius, expected.radius, rtol=0, atol=1e-6)
    assert bool((radius > 0).any())
    exact = classifier.certify(image).radius
    assert bool(((radius <= exact) & (radius >= exact - 1e-4)).all())  # float32 costs something
    assert card["radius_proven_for"].startswith("this graph in float32")
    assert card["hard"] is True
    assert card["input"] == {"name": "image", "dtype": "float32", "range": [0, 1], "shape": ["batch", 1, 6, 6]}
    assert card["outputs"] == ["logits", "label", "gap", "radius"]
    assert card["labels"] == ["left", "middle", "right"]
    assert card["radius_rule"].startswith("gap / 2")
    assert card["data"]["name"] == "ImageFolder"
    assert card["data"]["init_args"]["root"] is None
    assert card["results"] is None
    assert card["largest_differences"]["logits"] <= 1e-5


@pytest.mark.parametrize(
    "options", [{}, {"pooling": "unshuffle"}, {"norm_order": 3.0, "activation": "two_sided_sigmoid", "dropout": 0.5}]
)
def test_onnx_with_pooling_and_pairwise_radii(tmp_path: Path, options: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    classifier = make_classifier(channels=[4], dense=[4], certificate="pairwise", hard=True, **options)
    certified = classifier.certified()
    path = tmp_path / "model.onnx"
    write_onnx(CertifiedNetwork(certified), random_images(SHAPE, 2, seed=0), path)
    check_parity(certified, SHAPE, partial(run_onnx, path))
    image = torch.rand(9, 1, 6, 6)
    _, label, _, radius = run_onnx(path, image)
    expected = certified.as_shipped()(image)
    assert torch.equal(label, expected.label)
    np.testing.assert_allclose(radius, expected.radius, atol=1e-6)
    assert float(radius.max()) > 0


class _Pieces(nn.Module):
    """Operators that PyTorch's exporter translates wrongly or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.scale = NormPool2d(3, 2, 1), BoundedScaling(2)
        self.scale.raw.data = torch.tensor([0.5, -2.0])
        branch = nn.Sequential(nn.Conv2d(1, 2, 1), SubtractSubsetMeans(2, [[0]]), BatchScaling(2), UnitSlope(F.silu, 2))
        self.block = Residual(branch, "channel", channels=(1, 2), added=1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        below = torch.nextafter(image, torch.zeros_like(image))
        return self.pool(image), self.scale(image), below, torch.stack((self.block(image).sum(), image.amax()))


def test_onnx_translations_of_our_own(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    image = torch.rand(2, 2, 7, 7) * 3
    image[0, 0, 0] = torch.tensor([2.0**-e for e in range(7)])
    pieces = _Pieces().eval()
    write_onnx(pieces, image, tmp_path / "pieces.onnx")  # type: ignore[arg-type]
    pooled, scaled, below, (whole, largest) = (part.numpy() for part in run_onnx(tmp_path / "pieces.onnx", image))
    x = image.numpy()
    # By hand: overlapping windows of a zero-padded map, each entry in at most four of them.
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    np.testing.assert_allclose(pooled, np.sqrt((windows**2).sum((4, 5)) / 4), rtol=1e-6)
    np.testing.assert_allclose(scaled, x * np.array([0.25, -1.0], np.float32).reshape(1, 2, 1, 1), rtol=1e-6)
    np.testing.assert_array_equal(below, np.nextafter(x, np.float32(0)))
    assert largest == x.max()
    np.testing.assert_allclose(whole, float(pieces.block(image).sum()), rtol=1e-5)


def test_a_soft_network_exports_a_radius_of_zero_and_says_so(tmp_path: Path, terminal: Terminal) -> None:
    path = save(make_classifier(), tmp_path / "soft.ckpt")
    card = export(path, "torch_export", tmp_path / "soft.pt2")
    assert "proves nothing" in terminal.read()[1]
    assert (card["hard"], card["radius_rule"]) == (False, "nothing is proved: the radius is 0")
    _, _, gap, radius = torch.export.load(tmp_path / "soft.pt2").module()(torch.rand(4, 1, 6, 6))
    assert bool((gap > 0).all())
    assert radius.tolist() == [0.0] * 4


def test_a_wrong_export_is_found_out() -> None:
    certified = make_classifier(hard=True).certified("float32")

    def run(image: Tensor, factor: float, shift: float) -> tuple[Tensor, ...]:
        label, gap, radius = certified(image)
        return certified.network(image) * factor, label, gap, radius + shift

    assert check_parity(certified, SHAPE, partial(run, factor=1.0, shift=0.0))["gap_and_radius"] == 0
    for factor, shift in ((1.001, 0.0), (1.0, 1e-5), (math.nan, 0.0)):
        with pytest.raises(ParityError, match="differs from the checkpoint"):
            check_parity(certified, SHAPE, partial(run, factor=factor, shift=shift))


def test_a_failed_export_leaves_nothing(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: object) -> dict[str, float]:
        raise ParityError("the exported network gives other labels than the checkpoint")

    monkeypatch.setattr("l2nnn_lightning.evaluation.export.graph.check_parity", differ)
    with pytest.raises(ParityError):
        main(["export", "--ckpt_path", checkpoint, "--format", "torch_export", "--output", str(tmp_path / "m.pt2")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 0.0), ("float16", 0.01)])
def test_safetensors_rebuild_the_classifier(checkpoint: str, tmp_path: Path, weights: str, tolerance: float) -> None:
    path = tmp_path / "model.safetensors"
    card = export(checkpoint, "safetensors", path, "--weights", weights)
    kept = Checkpoint.read(path)
    ours, theirs = kept.classifier(), Checkpoint.read(checkpoint).classifier()
    assert isinstance(ours, L2NNNClassifier)
    assert ours.is_hard
    assert kept.label_names() == ["left", "middle", "right"]
    image = torch.rand(6, 1, 6, 6)
    assert float((ours(image) - theirs(image)).abs().max()) <= tolerance
    assert float((ours.certify(image).radius - theirs.certify(image).radius).abs().max()) <= tolerance
    assert bool((ours.certify(image).radius > 0).any())
    assert card["bytes"] == path.stat().st_size
    assert card["largest_differences"]["logits"] <= tolerance


def test_float16_weights_are_still_nonexpansive(tmp_path: Path) -> None:
    """The bound is computed from the weights in the file, not carried over from those before rounding."""
    classifier = make_classifier(hard=True)
    output = tmp_path / "model.safetensors"
    export(save(classifier, tmp_path / "m.ckpt"), "safetensors", output, "--weights", "float16")
    for name, layer in Checkpoint.read(output).classifier().network.named_modules():
        if isinstance(layer, nn.Linear):
            assert float(torch.linalg.matrix_norm(layer.weight.double(), 2)) <= 1, name


def test_templates_are_exported_as_safetensors_alone(tmp_path: Path, terminal: Terminal) -> None:
    path = save(make_classifier(partial(TemplateNet, templates_per_label=2), CrossEntropy), tmp_path / "t.ckpt")
    args = ["export", "--ckpt_path", path, "--output"]
    refused = terminal.error_line(main, *args, str(tmp_path / "t.pt2"), "--format", "torch_export")
    assert "export with --format safetensors" in refused
    card = export(path, "safetensors", tmp_path / "t.safetensors")
    assert card["hard"] is True
    image = torch.rand(3, 1, 6, 6)
    radii = [Checkpoint.read(file).classifier().certify(image).radius for file in (path, tmp_path / "t.safetensors")]
    assert torch.equal(*radii)


def test_the_card_quotes_the_evaluation_of_this_checkpoint(checkpoint: str, tmp_path: Path) -> None:
    results = {"accuracy": 0.9, "certified": {"0.5": 0.4}, "checkpoint": "x/best.ckpt", "config": {}, "n": 7}
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    card = export(checkpoint, "safetensors", tmp_path / "m.safetensors", "--results", str(file))
    assert card["results"] == {"accuracy": 0.9, "certified": {"0.5": 0.4}, "n": 7}


@pytest.mark.parametrize("told", ["sha256", "file", "name"])
def test_results_of_another_checkpoint_are_refused(
    checkpoint: str, tmp_path: Path, terminal: Terminal, told: str
) -> None:
    other = Path(save(make_classifier(hard=True), tmp_path / Path(checkpoint).name))
    results: dict[str, Any] = {"accuracy": 0.9, "checkpoint": str(other)}
    if told == "sha256":
        results |= {"checkpoint": checkpoint, "checkpoint_sha256": sha256(other)}
    elif told == "name":
        results["checkpoint"] = "somewhere/fashion.ckpt"
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    args = ["export", "--ckpt_path", checkpoint, "--format", "safetensors", "--results", str(file)]
    assert "another checkpoint" in terminal.error_line(main, *args, "--output", str(tmp_path / "m.safetensors"))
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize("name", ["cifar_tight", "cifar_resnet", "rows_rnn", "shift"])
def test_programs_of_networks_that_regroup_recur_and_shift_agree(tmp_path: Path, name: str) -> None:
    """That every registered network becomes a graph is tested with the networks."""
    certified = Certified(NETWORKS[name](SHAPE, 3, **SMALL[name]).apply(harden))
    write_program(CertifiedNetwork(certified), random_images(SHAPE, 2, seed=0), tmp_path / "model.pt2")
    check_parity(certified, SHAPE, partial(run_program, tmp_path / "model.pt2"))


@pytest.mark.parametrize("name", ["cifar_tight", "cifar_resnet", "cifar_paper"])
def test_onnx_of_networks_that_regroup_and_split(tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    certified = Certified(NETWORKS[name](SHAPE, 3, **SMALL[name]).apply(harden))
    write_onnx(CertifiedNetwork(certified), random_images(SHAPE, 2, seed=0), tmp_path / "model.onnx")
    check_parity(certified, SHAPE, partial(run_onnx, tmp_path / "model.onnx"))


def save(classifier: Classifier, path: Path) -> str:
    checkpoint: dict[str, Any] = {
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
    }
    classifier.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)
