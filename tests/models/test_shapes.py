"""What every network of another shape must survive: training, the switch, checkpoints, folding, copies."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import make_classifier, make_trainer
from torch.nn.utils import parametrize

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.models import L2NNN
from l2nnn_lightning.nn import MaxMin, Residual, SubtractMean, fold, harden, is_hard, nonexpansive
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.nn.initialization import principal_
from l2nnn_lightning.training.callbacks import HardScalingSwitch

NETWORKS: dict[str, dict[str, Any]] = {
    "cifar_tight": {"channels": [4], "depth": 1, "dense": [6]},
    "conv_tight": {"channels": [2], "kernel_size": 3, "dense": [6]},
    "cifar_resnet": {"channels": [4], "depth": 1, "dense": [6], "normalize": True, "t": "entry"},
    "rows_rnn": {"hidden": [6, 4], "dense": [6]},
}
CASES = sorted(NETWORKS)


def shaken(name: str, **options: Any) -> L2NNNClassifier:
    classifier = make_classifier(network=name, network_args=NETWORKS[name] | options)
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return classifier


@pytest.mark.parametrize("name", CASES)
def test_network_trains_through_the_switch_and_certifies(name: str, tmp_path: Path) -> None:
    for init in ("orthogonal", "principal"):
        classifier = make_classifier(network=name, network_args=NETWORKS[name], init=init)
        before = {key: value.clone() for key, value in classifier.network.named_parameters()}
        trainer = make_trainer(tmp_path, HardScalingSwitch(switch_epoch=1), max_epochs=2, limit_train_batches=2)
        trainer.fit(classifier, datamodule=StripesDataModule(batch_size=10, val_size=10))
        assert classifier.is_hard
        moved = [key for key, value in classifier.network.named_parameters() if not torch.equal(before[key], value)]
        assert any("bias" in key for key in moved)
        assert any("phase" in key for key in moved) == (name in ("cifar_resnet", "rows_rnn"))
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    loaded = L2NNNClassifier.load_from_checkpoint(path)
    images = torch.rand(4, *SHAPE)
    classifier.eval()
    torch.testing.assert_close(loaded.eval()(images), classifier(images))
    certificate = loaded.certify(images)
    assert certificate.radius.shape == (4,)
    assert bool((certificate.radius > 0).any())
    assert bool((certificate.radius >= 0.499 * certificate.gap).all())  # Lemma 6 at least


@pytest.mark.parametrize("name", CASES)
def test_copies_folding_caching_and_state_keep_the_function(name: str) -> None:
    network = harden(shaken(name).network).eval()
    images = torch.rand(4, *SHAPE)
    logits = network(images)
    assert float(logits.detach().std()) > 0
    fresh = shaken(name).network.eval()
    fresh.load_state_dict(network.state_dict())
    assert is_hard(fresh)
    plain = fold(network)
    assert not any("parametrizations" in key for key in plain.state_dict())
    for twin in (fresh, copy.deepcopy(network), plain):
        torch.testing.assert_close(twin(images), logits)
    with parametrize.cached():
        torch.testing.assert_close(network(images), logits)
        torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize("name", CASES)
def test_principal_directions_can_be_set(name: str) -> None:
    network = make_classifier(network=name, network_args=NETWORKS[name]).network
    before = copy.deepcopy(network.state_dict())
    principal_(network, torch.rand(60, *SHAPE))
    changed = [key for key, value in network.state_dict().items() if not torch.equal(before[key], value)]
    assert any("original" in key for key in changed)
    assert bool(harden(network).eval()(torch.rand(2, *SHAPE)).isfinite().all())


@pytest.mark.parametrize("name", CASES)
def test_function_is_kept_at_the_switch_or_left_alone(name: str) -> None:
    images = torch.rand(4, *SHAPE)
    for bound in ("gram", "operator_columns"):
        network = shaken(name, bound=bound).network.double().eval()
        assert isinstance(network, L2NNN)
        before, state = network(images.double()), copy.deepcopy(network.state_dict())
        divisor = keep_biases_in_scale(network.chain())
        understood = bound == "gram" and name in ("cifar_tight", "conv_tight")
        assert (divisor is not None) == understood
        if divisor is not None:
            torch.testing.assert_close(harden(network)(images.double()) * divisor, before)
        else:
            assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_what_comes_before_the_first_layer_may_be_anything() -> None:
    layer = nonexpansive(torch.nn.Linear(4, 4))
    assert keep_biases_in_scale([SubtractMean(0.5), layer, MaxMin()]) is not None
    assert keep_biases_in_scale([layer, SubtractMean(0.5)]) is None
    assert keep_biases_in_scale([Residual(layer)]) is None
