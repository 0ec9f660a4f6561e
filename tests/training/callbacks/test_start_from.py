"""Fine-tuning starts where another training ended, and only there."""

from pathlib import Path

import pytest
import torch
from made_up_images import StripesDataModule
from made_up_training import QUIET_TRAINING, make_classifier, make_trainer

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.nn import harden
from l2nnn_lightning.training.callbacks import LastCheckpoint, StartFrom

pytestmark = QUIET_TRAINING


def trained(folder: Path, *, width: int = 6) -> Path:
    """A checkpoint of a hard network with weights of its own."""
    classifier = make_classifier(dense=[width])
    for parameter in classifier.network.parameters():
        torch.nn.init.normal_(parameter)
    harden(classifier)
    trainer = make_trainer(folder, max_epochs=0)
    trainer.fit(classifier, datamodule=StripesDataModule(batch_size=10, val_size=10))
    trainer.save_checkpoint(folder / "other.ckpt")
    return folder / "other.ckpt"


def test_training_starts_from_the_other_network_and_its_mode(tmp_path: Path) -> None:
    path = trained(tmp_path)
    saved = torch.load(path, weights_only=True)["state_dict"]
    classifier = make_classifier(lr=1e-9)
    assert not classifier.is_hard
    trainer = make_trainer(tmp_path, StartFrom(path), max_epochs=1, limit_train_batches=1)
    trainer.fit(classifier, datamodule=StripesDataModule(batch_size=10, val_size=10))
    assert classifier.is_hard
    for name, value in classifier.network.state_dict().items():
        torch.testing.assert_close(value, saved[f"network.{name}"])


def test_a_resumed_training_keeps_its_own_weights(tmp_path: Path) -> None:
    path = trained(tmp_path)
    data = StripesDataModule(batch_size=10, val_size=10)
    make_trainer(tmp_path, StartFrom(path), LastCheckpoint(tmp_path), max_epochs=1).fit(make_classifier(), data)
    before = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    path.unlink()  # nor is the other file needed any more
    classifier = make_classifier(lr=1e-9)
    trainer = make_trainer(tmp_path, StartFrom(path), max_epochs=2, limit_train_batches=1)
    trainer.fit(classifier, data, ckpt_path=tmp_path / "last.ckpt")
    assert trainer.current_epoch == 2
    weight = "network.trunk.1.parametrizations.weight.original"
    # Adam, with the learning rate of the checkpoint, moves an entry by about 0.01; the other weights are of size 1.
    torch.testing.assert_close(classifier.state_dict()[weight], before[weight], atol=0.05, rtol=0)


@pytest.mark.parametrize("missing", [True, False])
def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path: Path, missing: bool) -> None:
    path = tmp_path / "none.ckpt" if missing else trained(tmp_path, width=8)
    trainer = make_trainer(tmp_path, StartFrom(path), max_epochs=1)
    with pytest.raises(UserError, match="there is no checkpoint" if missing else "holds another network") as refusal:
        trainer.fit(make_classifier(), datamodule=StripesDataModule(batch_size=10, val_size=10))
    assert "\n" not in str(refusal.value)
