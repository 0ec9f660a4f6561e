"""Weights after short trainings, certificates and an evaluation, against recorded numbers; a script that records."""

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from l2nnn_lightning.callbacks import EpochSeed, HardScalingSwitch
from torch import Tensor

from l2nnn_lightning import L2NNNClassifier, OrdinaryClassifier, load_pretrained
from l2nnn_lightning.data import MNIST5kDataModule
from l2nnn_lightning.models import ConvL2NNN, MadryNet, TemplateNet
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.objectives import OffsetCrossEntropy, RadiusHinge
from l2nnn_lightning.training.optimizers import ScaledAdam
from l2nnn_lightning.training.paper_loss import PaperLoss
from l2nnn_lightning.training.schedule import CosineAfterSwitch

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]

RECORDED = Path(__file__).with_name("golden.json")
PAPER = partial(ConvL2NNN, channels=[4, 8], dense=[16], head_hidden=[6])
LOSS = {"omega": 3.0, "u": 10.0, "v": 2.0}
TIGHT = partial(ConvL2NNN, mean=0.0, bound="operator_columns", certificate="pairwise", hard=True)
ATTACKED = {"adversarial": True, "attack": {"steps": 2, "step_size": 0.1}}
BRIEF = {"scheduler": partial(CosineAfterSwitch, warmup_steps=2)}

#: How each classifier is built.
CLASSIFIERS: dict[str, Callable[[], Classifier]] = {
    "paper": lambda: L2NNNClassifier(PAPER, partial(PaperLoss, **LOSS, omega_late=1.3, late=0.5), **BRIEF),
    "paper_adversarial": lambda: L2NNNClassifier(PAPER, partial(PaperLoss, **LOSS, adversarial_terms="ab"), **BRIEF),
    "offset_cross_entropy": lambda: L2NNNClassifier(
        partial(TIGHT, channels=[], dense=[16, 16], activation="maxmin"),
        OffsetCrossEntropy,
        optimizer=partial(ScaledAdam, lr=4e-3),
        **BRIEF,
    ),
    "radius_hinge": lambda: L2NNNClassifier(
        partial(TIGHT, channels=[4], dense=[16], init="orthogonal"),
        RadiusHinge,
        optimizer=partial(torch.optim.Adam, fused=True),
        **BRIEF,
    ),
    "templates": lambda: L2NNNClassifier(
        partial(TemplateNet, templates_per_label=5, dropout=0.3),
        partial(RadiusHinge, margin=2.6, in_box=True),
        **BRIEF,
    ),
    "ordinary": lambda: OrdinaryClassifier(
        partial(MadryNet, channels=(4, 8), dense=16),
        optimizer=partial(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-3),
        **BRIEF,
    ),
}
#: How the data of each differ from the default.
DATA: dict[str, dict[str, Any]] = {
    "paper_adversarial": ATTACKED,
    # Not affine, which rounds float32 to bytes.
    "templates": {"augment": "shift"},
    "ordinary": ATTACKED,
}
#: Those that begin with the penalty.
SOFT = ("paper", "paper_adversarial")


class Unevenly(pl.Callback):
    """Begin a little off the initial weights, whose training hangs on rounding.

    All orthonormal rows attain the bound, and one of them gets its gradient; principal directions are rounding errors
    at pixels that are always black, and Adam makes steps of them.
    """

    @torch.no_grad()
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for weight in pl_module.parameters():
            weight.add_(probe(weight.numel()).view_as(weight) / 200)


def state(classifier: Classifier) -> list[Tensor]:
    """Every float weight and buffer, the network's and then the objective's."""
    modules = (classifier.network, classifier.objective)
    values = [value for module in modules for value in module.state_dict().values()]
    return [value for value in values if value.is_floating_point()]


def train(name: str, precision: str) -> tuple[Classifier, dict[str, float]]:
    """Train twelve steps, with random numbers of its own; return the classifier and its last metrics."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = CLASSIFIERS[name]()
        callbacks = [EpochSeed(0), *([HardScalingSwitch(switch_epoch=1)] if name in SOFT else [])]
        if precision == "64-true":
            callbacks.append(Unevenly())
            # The images that initial weights are computed from are float32.
            classifier.network.register_forward_pre_hook(lambda _, args: (args[0].double(),))
        data = MNIST5kDataModule(batch_size=25, train_size=400, val_size=50, **DATA.get(name, {}))
        trainer = pl.Trainer(
            max_epochs=3,
            limit_train_batches=4,
            limit_val_batches=1,
            accelerator="cpu",
            precision=precision,
            callbacks=callbacks,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(classifier, data)
    assert trainer.global_step == 12
    metrics = ("train/loss", "val/accuracy", "val/gap_mean", "val/radius_mean")
    return classifier, {metric: float(trainer.callback_metrics[metric]) for metric in metrics}


@contextmanager
def reproducible_float64() -> Iterator[None]:
    """Create weights in float64, and give eigenvectors a sign, of which every library has its own idea."""
    eigh, svd = torch.linalg.eigh, torch.linalg.svd

    def signed_eigh(matrix: Tensor) -> Any:
        values, vectors = eigh(matrix)
        return torch.return_types.linalg_eigh((values, vectors * sign(vectors.mT)))

    def signed_svd(matrix: Tensor, full_matrices: bool = True) -> Any:
        left, values, right = svd(matrix, full_matrices=full_matrices)
        return torch.return_types.linalg_svd((left, values, right * sign(right)[..., None]))

    def sign(rows: Tensor) -> Tensor:
        return (rows @ probe(rows.shape[-1])).sign()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "eigh", signed_eigh)
        patch.setattr(torch.linalg, "svd", signed_svd)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def probe(count: int) -> Tensor:
    return torch.cos(1 + torch.arange(count, dtype=torch.float64))


def measure_training(name: str) -> dict[str, Any]:
    with reproducible_float64():
        classifier, metrics = train(name, "64-true")
    weights = []
    for value in state(classifier):
        assert value.dtype == torch.float64
        weights.append([list(value.shape), float(value.norm()), float(value.flatten() @ probe(value.numel()))])
    return {"weights": weights, "metrics": metrics}


def measure_certificates(name: str, dtype: torch.dtype) -> dict[str, Any]:
    data = MNIST5kDataModule()
    data.setup("test")
    assert data.test_set is not None
    certificate = load_pretrained(name).to(dtype).certify(data.test_set.images[:64].to(dtype) / 255)
    assert certificate.radius.dtype == dtype
    return {field: getattr(certificate, field).tolist() for field in ("label", "gap", "radius")}


def measure_results() -> dict[str, Any]:
    """Evaluate; leave out what depends on the machine, and the config, which names constructor arguments."""
    from l2nnn_lightning.evaluation.command import run_evaluation

    command = "--ckpt_path mnist_l2nnn --data MNIST5k --limit 200 --attacks pgd_l2 --eps 1.58 --max_iter 5 --device cpu"
    with tempfile.TemporaryDirectory() as folder:
        run_evaluation([*command.split(), "--output", folder])
        written = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()]
        results: dict[str, Any] = json.loads((Path(folder) / "results.json").read_text())
    keys = sorted(results)
    for key in ("seconds", "versions", "hardware", "command", "checkpoint", "config"):
        del results[key]
    return {"files": sorted(written), "keys": keys, "results": results}


CERTIFICATES = [(name, dtype) for name in ("mnist_l2nnn", "fashion_mnist_l2nnn") for dtype in ("float64", "float32")]


def measure() -> dict[str, Any]:
    """Everything that is recorded, by name."""
    measured = {f"training {name}": measure_training(name) for name in CLASSIFIERS}
    for name, dtype in CERTIFICATES:
        measured[f"certificates {name} {dtype}"] = measure_certificates(name, getattr(torch, dtype))
    return {**measured, "results": measure_results()}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(RECORDED.read_text())
    return values


def close(expected: Any, tolerance: float) -> Any:
    return pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_training(name: str, recorded: dict[str, Any]) -> None:
    expected, measured = recorded[f"training {name}"], measure_training(name)
    assert [shape for shape, *_ in measured["weights"]] == [shape for shape, *_ in expected["weights"]]
    for (_, *numbers), (_, *wanted) in zip(measured["weights"], expected["weights"], strict=True):
        assert numbers == close(wanted, 1e-7)
    # Lightning sums metrics in float32.
    assert measured["metrics"] == close(expected["metrics"], 1e-6)


@pytest.mark.parametrize(("name", "dtype"), CERTIFICATES)
def test_certificates(name: str, dtype: str, recorded: dict[str, Any]) -> None:
    expected = recorded[f"certificates {name} {dtype}"]
    measured = measure_certificates(name, getattr(torch, dtype))
    assert measured["label"] == expected["label"]
    for field in ("gap", "radius"):
        assert measured[field] == close(expected[field], 1e-8 if dtype == "float64" else 1e-5)


def test_results(recorded: dict[str, Any]) -> None:
    expected, measured = recorded["results"], measure_results()
    assert (measured["files"], measured["keys"]) == (expected["files"], expected["keys"])
    assert_close_tree(measured["results"], expected["results"])


def assert_close_tree(measured: Any, expected: Any, key: str = "") -> None:
    """Compare means tightly, and fractions of 200 samples up to one sample."""
    if isinstance(expected, dict):
        assert list(measured) == list(expected)
        for name, value in expected.items():
            assert_close_tree(measured[name], value, name if key != "certified" else key)
    elif isinstance(expected, list):
        for one, other in zip(measured, expected, strict=True):
            assert_close_tree(one, other)
    elif isinstance(expected, float):
        assert math.isclose(measured, expected, rel_tol=0, abs_tol=1e-4 if key.endswith("_mean") else 0.0051), key
    else:
        assert measured == expected, key


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in measure().items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
