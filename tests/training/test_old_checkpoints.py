"""Checkpoints of version 0.1.0, with flat hyperparameters, and what a checkpoint may make us import."""

from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import SHAPE
from made_up_training import make_classifier
from torch import Tensor

from l2nnn_lightning import L2NNNClassifier, OrdinaryClassifier, load_pretrained
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.models import L2NNN, NETWORKS, Network
from l2nnn_lightning.training.checkpoints import Checkpoint, pretrained_names
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.old_checkpoints import upgrade

SMALL = {"channels": [2], "dense": [6]}
# Of each network that had a name: the options of a small one.
OPTIONS: dict[str, dict[str, Any]] = {
    "mnist_small": SMALL | {"kernel_size": 3},
    "mnist_paper": SMALL | {"kernel_size": 3, "head_hidden": [3]},
    "cifar_paper": {"crop": 6, "channels": [2, 2], "head_hidden": [3]},
    "conv_tight": SMALL | {"kernel_size": 3},
    "cifar_tight": SMALL | {"channels": [4], "depth": 1},
    "cifar_resnet": SMALL | {"channels": [4], "depth": 1, "normalize": True},
    "rows_rnn": {"hidden": [6, 4], "dense": [6]},
    "mlp": {"dense": [6]},
    "parseval_mnist": SMALL | {"kernel_size": 3},
    "templates": {"templates_per_label": 2, "trunk": "conv", "channels": 4},
    "madry_mnist": {},
    "mnist_small_plain": SMALL,
    "mnist_paper_plain": SMALL | {"head_hidden": [3]},
    "cifar_resnet_plain": {},
}
ORDINARY = ("madry_mnist", "mnist_small_plain", "mnist_paper_plain", "cifar_resnet_plain")
#: What both classifiers had.
FLAT: dict[str, Any] = {"network": "mlp", "network_args": {"dense": [6]}, "image_shape": list(SHAPE), "num_labels": 3}
FLAT |= {"radii": [0.5, 1.0], "optimizer": "adam", "learning_rate": 2e-3, "weight_decay": 1e-4}
FLAT |= {"schedule": "constant", "warmup_steps": 3, "final_lr": 0.2}
#: What the L2NNNs had beside it.
OURS: dict[str, Any] = {"init": "orthogonal", "start_hard": True, "certificate": "pairwise", "objective": "paper"}
OURS |= {"offset": 0.7, "temperature": 3.0, "margin": 0.6, "margin_in_box": False, "penalty_weight": 0.4}
OURS |= {"gamma": 0.5, "omega": 1.0, "omega_late": 0.3, "late": 0.5, "z": 5.0, "u": 3.0, "v": 2.0}
OURS |= {"train_v": False, "adversarial_terms": "ab", "scale_lr": True}
PAPER = ("gamma", "omega", "omega_late", "late", "z", "u", "v", "train_v", "adversarial_terms")
OBJECTIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("PaperLoss", {name: OURS[name] for name in PAPER}),
    "offset_cross_entropy": ("OffsetCrossEntropy", {"offset": 0.7, "temperature": 3.0}),
    "radius_hinge": ("RadiusHinge", {"margin": 0.6, "in_box": False}),
    "radius_sigmoid": ("RadiusSigmoid", {"margin": 0.6, "temperature": 3.0, "in_box": False}),
}


def old(is_ordinary: bool = False, **changes: Any) -> dict[str, Any]:
    """The contents of an old checkpoint, without its weights."""
    flat = FLAT | ({} if is_ordinary else OURS) | changes
    kind = "OrdinaryClassifier" if is_ordinary else "L2NNNClassifier"
    return {
        "state_dict": {},
        "hyper_parameters": flat,
        "l2nnn_lightning": {"version": "0.1.0", "classifier": kind, "schedule_start": 0, "data": None},
    }


def load(contents: dict[str, Any], network: Network) -> Classifier:
    """Read contents whose weights are those of a network, and old names of what is not the network's."""
    weights: dict[str, Tensor] = {f"network.{name}": value for name, value in network.state_dict().items()}
    if contents["hyper_parameters"].get("objective") == "paper":
        weights |= {"loss.log_u": torch.tensor([1.0, 2.0, 3.0]), "loss.log_v": torch.tensor(0.5)}
    weights |= {"train_gap.total": torch.zeros(()), "eval_certified.thresholds": torch.zeros(2)}
    return Checkpoint(Path("old.ckpt"), contents | {"state_dict": weights}).classifier()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_old_network_is_found_with_its_weights(name: str) -> None:
    network: Any = NETWORKS[name](SHAPE, 3, **OPTIONS[name])
    network.harden()
    is_ordinary = name in ORDINARY
    classifier = load(old(is_ordinary, network=name, network_args=OPTIONS[name]), network)
    assert type(classifier) is (OrdinaryClassifier if is_ordinary else L2NNNClassifier)
    image = torch.rand(4, *SHAPE)
    assert torch.equal(classifier(image), network.eval()(image))
    assert classifier.is_hard is (not is_ordinary)
    if isinstance(network, L2NNN):
        assert (classifier.network.certificate, classifier.network.init) == ("pairwise", "orthogonal")
        assert classifier.network.rule().name == "pairwise"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_old_objective_and_its_numbers_are_found(name: str) -> None:
    classifier = load(old(objective=name), make_classifier().network)
    kind, options = OBJECTIVES[name]
    assert type(classifier.objective).__name__ == kind
    assert classifier.hparams["objective"]["class_path"].endswith(f".{kind}")
    assert classifier.hparams["objective"]["init_args"] == options
    assert (classifier.penalty_weight, classifier.radii) == (0.4, (0.5, 1.0))
    scheduler = classifier.scheduler(torch.optim.SGD([torch.zeros(1)], lr=1.0))
    assert (scheduler.shape, scheduler.warmup_steps, scheduler.final) == ("constant", 3, 0.2)  # type: ignore[attr-defined]
    if name == "paper":
        assert classifier.objective.log_u.tolist() == [1, 2, 3]  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(
    ("changes", "kind", "more"),
    [
        ({}, "ScaledAdam", {}),
        ({"scale_lr": False}, "Adam", {"fused": True}),
        ({"optimizer": "adamw"}, "AdamW", {"fused": True}),
        ({"optimizer": "sgd"}, "SGD", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_every_old_optimizer_is_found(changes: dict[str, Any], kind: str, more: dict[str, Any]) -> None:
    optimizer = upgrade(old(**changes))["hyper_parameters"]["optimizer"]
    assert optimizer["class_path"].rpartition(".")[2] == kind
    assert optimizer["init_args"] == {"lr": 2e-3, "weight_decay": 1e-4, **more}
    assert type(load(old(**changes), make_classifier().network).optimizer([torch.zeros(1)])).__name__ == kind


def test_arguments_that_a_checkpoint_does_not_name_have_their_defaults() -> None:
    """Earlier still, there were fewer of them."""
    contents = old()
    for name in ("late", "omega_late", "objective", "certificate", "margin", "margin_in_box", "scale_lr"):
        del contents["hyper_parameters"][name]
    classifier = L2NNNClassifier.from_contents(contents | {"state_dict": make_classifier(hard=True).state_dict()})
    assert (classifier.objective.omega, classifier.objective.late) == (1.0, 0.7)
    assert classifier.network.rule().name == "gap/2"


@pytest.mark.parametrize("name", pretrained_names())
def test_shipped_classifiers_are_read_and_upgraded_once(name: str) -> None:
    contents = Checkpoint.read(name).contents
    assert isinstance(contents["hyper_parameters"]["network"], str)
    today = upgrade(contents)
    assert upgrade(today) == today
    assert load_pretrained(name).hparams == L2NNNClassifier.from_contents(today).hparams


# --- today's ---


def save(path: Path, classifier: Classifier, **hyper_parameters: Any) -> Path:
    contents: dict[str, Any] = {"state_dict": classifier.state_dict(), "hyper_parameters": dict(classifier.hparams)}
    classifier.on_save_checkpoint(contents)
    contents["hyper_parameters"] |= hyper_parameters
    torch.save(contents, path)
    return path


def test_arguments_may_differ_from_the_checkpoints(tmp_path: Path) -> None:
    classifier = make_classifier(hard=True)
    path = save(tmp_path / "a.ckpt", classifier)
    loaded = L2NNNClassifier.load_from_checkpoint(path, radii=[2.0], penalty_weight=0.3)
    assert loaded.hparams == {**classifier.hparams, "radii": [2.0], "penalty_weight": 0.3}
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in classifier.state_dict().items())


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("l2nnn_lightning.models.NoSuchNet", "l2nnn_lightning.models.NoSuchNet cannot be imported"),
        ("torch.optim.Adam", "torch.optim.Adam is not a subclass of .*Network"),
        ("os.system", "os.system is not a subclass of .*Network"),
        ("l2nnn_lightning.models.MadryNet", "a.ckpt does not fit its network: "),  # the weights do not
        ("l2nnn_lightning.training.factories.build", "is not a subclass of .*Network"),
    ],
)
def test_checkpoint_names_a_network_that_fits_and_nothing_else(tmp_path: Path, class_path: str, message: str) -> None:
    path = save(tmp_path / "a.ckpt", make_classifier(), network={"class_path": class_path, "init_args": {}})
    with pytest.raises(UserError, match=message):
        Checkpoint.read(path).classifier()
