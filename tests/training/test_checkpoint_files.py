"""A checkpoint is replaced in one step: what dies in the middle leaves the earlier one."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_up_images import StripesDataModule
from made_up_training import make_classifier, make_trainer

from l2nnn_lightning.training.callbacks import LastCheckpoint
from l2nnn_lightning.training.run_folder import AtomicCheckpointIO


def test_file_is_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    for value in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"value": value}, path)
    assert torch.load(path, weights_only=True) == {"value": 2}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


class Unpicklable:
    def __reduce__(self) -> Any:
        raise OSError("the disk is full")


def test_failure_in_the_middle_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": 1}, path)
    with pytest.raises(OSError, match="the disk is full"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.ones(10_000), "value": Unpicklable()}, path)
    assert torch.load(path, weights_only=True) == {"value": 1}


@pytest.mark.filterwarnings("ignore")  # of Lightning: worker processes, and an older call of torch
def test_trainer_writes_and_reads_through_it(tmp_path: Path) -> None:
    data = StripesDataModule(batch_size=10, val_size=10)
    for epochs in (1, 2):
        trainer = make_trainer(tmp_path, LastCheckpoint(tmp_path), plugins=[AtomicCheckpointIO()], max_epochs=epochs)
        last = tmp_path / "last.ckpt"
        trainer.fit(make_classifier(), data, ckpt_path=last if last.exists() else None, weights_only=True)
        assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert isinstance(trainer, pl.Trainer)
    assert torch.load(last, weights_only=True)["epoch"] == 1
