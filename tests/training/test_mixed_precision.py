"""Mixed precision rounds the network's products, never its bounds or its proofs."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_up_images import StripesDataModule
from made_up_training import make_classifier, make_trainer
from torch import Tensor

from l2nnn_lightning.training.callbacks import HardScalingSwitch


class Norms(pl.Callback):
    """Measure, inside a training step's autocast, the largest singular value of every weight that is used."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.dtypes: set[torch.dtype] = set()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not pl_module.is_hard:
            return
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            self.dtypes.add(pl_module.network.trunk[:2](batch.image).dtype)
            for layer in (pl_module.network.trunk[1], pl_module.network.head.stacks[0]):
                weight: Tensor = layer.weight
                assert weight.dtype == torch.float32
                self.norms += torch.linalg.svdvals(weight.double().reshape(-1, *weight.shape[-2:]))[:, 0].tolist()


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_hard_weights_and_certificates_stay_exact(tmp_path: Path, precision: Any) -> None:
    data, seen, model = StripesDataModule(batch_size=10, val_size=10), Norms(), make_classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning: worker processes, and that a CPU's 16 bits are bfloat16
        trainer = make_trainer(tmp_path, HardScalingSwitch(switch_epoch=1), seen, precision=precision)
        trainer.fit(model, data)
    assert seen.dtypes == {torch.bfloat16}  # the network itself was cast
    assert len(seen.norms) > 20
    assert max(seen.norms) <= 1
    assert max(seen.norms) > 0.9
    assert float(trainer.callback_metrics["val/radius_mean"]) > 0
