"""The DataModules under a real Trainer and a real LightningCLI."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI
from random_images import RandomImages
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.data import Batch, ImageDataModule, ImageSet, MNIST5kDataModule

pytestmark = [
    # Lightning asks for worker processes, of which batches from memory have no need, and for loggers.
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    # Lightning 2.6 calls torch and jsonargparse by names that these have deprecated since.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Recorder(pl.LightningModule):
    """A linear classifier that keeps the batches it is given."""

    def __init__(self, size: int = 36, labels: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(size, labels))
        self.seen: dict[str, list[Batch]] = {"train": [], "val": [], "test": [], "predict": []}
        self.modes: list[bool] = []
        self.gradients: list[Any] = []

    def forward(self, image: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.net(image)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.gradients.append(self.net[1].weight.grad)
        assert self.training
        self.seen["train"].append(batch)
        return F.cross_entropy(self.net(batch.image), batch.label)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["val"].append(batch)
        self.log("val/loss", F.cross_entropy(self.net(batch.image), batch.label), batch_size=len(batch.image))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["test"].append(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["predict"].append(batch)
        return self.net(batch.image).argmax(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(root: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=root,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, **options},
    )


def place(device: torch.device, world: int = 1, rank: int = 0) -> Any:
    """What a DataModule asks of a trainer: its place among the processes."""
    return SimpleNamespace(world_size=world, global_rank=rank, strategy=SimpleNamespace(root_device=device))


def indices(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.index for batch in batches if batch.index is not None]).tolist()


@pytest.mark.parametrize("use_distributed_sampler", [True, False])
def test_trainer_sees_every_image_as_float(tmp_path: Path, use_distributed_sampler: bool) -> None:
    model, data = Recorder(), RandomImages(batch_size=45, eval_batch_size=10)
    trainer = make_trainer(tmp_path, use_distributed_sampler=use_distributed_sampler, num_sanity_val_steps=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*batch_size.*")
        trainer.fit(model, data)
        trainer.test(model, data, verbose=False)
        predicted = trainer.predict(model, data)
    assert sorted(indices(model.seen["train"])) == list(range(90))
    assert indices(model.seen["val"]) == list(range(10))
    assert indices(model.seen["test"]) == indices(model.seen["predict"]) == list(range(23))
    assert [len(labels) for labels in predicted or []] == [10, 10, 3]
    for batches in model.seen.values():
        for batch in batches:
            assert isinstance(batch, Batch)
            assert batch.image.dtype == torch.float32
            assert batch.adversarial is None
            assert 0 <= float(batch.image.min()) <= float(batch.image.max()) <= 1


def test_adversarial_copies_come_in_training_only(tmp_path: Path) -> None:
    model, data = Recorder(), RandomImages(batch_size=45, adversarial=True, attack={"eps": 0.05})
    trainer = make_trainer(tmp_path)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert len(model.seen["train"]) == 2
    for batch in model.seen["train"]:
        assert batch.adversarial is not None
        assert 0 < float((batch.adversarial - batch.image).abs().max()) <= 0.05 + 1e-6
        assert not batch.adversarial.requires_grad
    assert all(batch.adversarial is None for batch in model.seen["val"] + model.seen["test"])
    # Crafted in evaluation mode by three steps a batch, and before any gradient existed.
    assert model.modes == [False] * 6
    assert model.gradients[0] is None


def test_only_training_images_are_augmented(tmp_path: Path) -> None:
    model, data = Recorder(), RandomImages(batch_size=90, augment="shift")
    make_trainer(tmp_path, num_sanity_val_steps=0).fit(model, data)
    (train,), (val,) = model.seen["train"], model.seen["val"]
    assert not torch.equal(train.image, data.train_set.images[train.index].float() / 255)
    assert torch.equal(val.image, data.val_set.images.float() / 255)


def test_double_precision_gets_double_images(tmp_path: Path) -> None:
    model = Recorder()
    make_trainer(tmp_path, precision="64-true").fit(model, RandomImages(batch_size=90))
    assert model.seen["train"][0].image.dtype == torch.float64


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_the_work_without_counting_twice(world: int) -> None:
    train, test, batches = [], [], []
    for rank in range(world):
        data = RandomImages(batch_size=5, eval_batch_size=2)
        data.trainer = place(torch.device("cpu"), world, rank)
        train += indices(list(data.train_dataloader()))
        shard = list(data.test_dataloader())
        batches.append(len(shard))
        test += indices(shard)
    assert sorted(test) == list(range(23))
    assert len(set(batches)) == 1
    assert len(set(train)) == len(train)


def parse(*args: str) -> ImageDataModule:
    """Build a DataModule by a command line like that of training."""
    return LightningCLI(Recorder, ImageDataModule, subclass_mode_data=True, args=list(args), run=False).datamodule


def test_command_line_builds_and_describes_a_datamodule() -> None:
    data = parse(
        "--data=MNIST5kDataModule",
        "--data.attack.eps=0.2",
        "--data.label_noise=0.5",
        "--data.label_noise_kind=asymmetric",
        '--data.label_noise_pairs={"1": "7"}',
    )
    assert isinstance(data, MNIST5kDataModule)
    assert (data.attack.eps, data.attack.steps) == (0.2, 40)
    assert data.label_noise_pairs == {"1": "7"}
    noise = {"label_noise": 0.5, "label_noise_kind": "asymmetric", "label_noise_pairs": {"1": "7"}}
    assert data.describe() == MNIST5kDataModule(attack={"eps": 0.2}, **noise).describe()


def test_help_of_the_command_line_shows_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--data.help=l2nnn_lightning.data.ImageFolderDataModule")
    shown = capsys.readouterr().out
    assert "--data.label_noise_kind" in shown
    assert "--data.test_fraction" in shown
    assert "fraction in [0, 1] of the training labels" in " ".join(shown.split())


@pytest.mark.parametrize("fits", [True, False])
def test_what_goes_to_the_gpu(fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.device] = []

    def to(split: ImageSet, device: torch.device) -> ImageSet:
        moved.append(device)
        meta = torch.device("meta")  # stands for the GPU
        return ImageSet(split.images.to(meta), split.labels.to(meta))

    monkeypatch.setattr(ImageSet, "to", to)
    datamodule = RandomImages(batch_size=10)
    datamodule.trainer = place(torch.device("cuda", 3))
    datamodule.setup("fit")
    size = datamodule.train_set.num_bytes
    monkeypatch.setattr(RandomImages, "resident_bytes", size if fits else size - 1)
    loader = datamodule.train_dataloader()
    assert moved == ([torch.device("cuda", 3)] if fits else [])
    assert loader.pin_memory == (not fits)
    assert (loader.dataset is datamodule.train_set) == (not fits)
    assert datamodule.train_set.images.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_from_the_gpu_are_those_from_memory() -> None:
    datamodule = RandomImages(batch_size=10)
    expected = list(datamodule.train_dataloader())
    datamodule.trainer = place(torch.device("cuda"))
    for ours, theirs in zip(datamodule.train_dataloader(), expected, strict=True):
        assert ours.image.is_cuda
        assert torch.equal(ours.image.cpu(), theirs.image)
        assert torch.equal(ours.label.cpu(), theirs.label)
