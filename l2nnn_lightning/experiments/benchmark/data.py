"""Images a second that the data path feeds, against a torchvision data set behind a DataLoader."""

import argparse
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

from l2nnn_lightning.data import ImageDataModule, LinfAttack
from l2nnn_lightning.data.augment import Augmentation
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.benchmark.rows import Row
from l2nnn_lightning.experiments.benchmark.timing import compare

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    parser.add_argument("--epoch_size", type=int, default=10000, help="data: images an epoch (default: 10000)")
    parser.add_argument("--workers", type=int, default=0, help="data: worker processes of the DataLoader (default: 0)")


def run(options: argparse.Namespace) -> list[Row]:
    """Time an epoch: shuffled batches of floats in [0, 1] on the device, with the usual augmentation and without."""
    if options.epoch_size < options.batch_size or options.workers < 0:
        raise UserError("--epoch_size must be at least --batch_size and --workers at least 0")
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(10, (options.epoch_size,), generator=generator)
    # Of torchvision's transforms, which ship no types, these are not annotated.
    compose: Any = transforms.Compose
    crop: Any = transforms.RandomCrop
    flip: Any = transforms.RandomHorizontalFlip
    rows = []
    for shape, source, augment, change in (
        ((1, 28, 28), _MNIST, "none", ()),
        ((1, 28, 28), _MNIST, "shift", (crop(28, 2),)),
        ((3, 32, 32), _CIFAR10, "none", ()),
        ((3, 32, 32), _CIFAR10, "flip_crop", (crop(32, 4), flip())),
    ):
        image = torch.randint(256, (options.epoch_size, *shape), generator=generator, dtype=torch.uint8)
        theirs = source(image, label, compose([*change, transforms.ToTensor()]))
        rows.append(
            compare(
                "data",
                f"{'x'.join(map(str, shape))}, augment {augment}",
                f"data path / torchvision DataLoader, {options.workers} workers",
                _our_epoch(image, label, augment, options),  # type: ignore[arg-type]
                _their_epoch(theirs, options),
                repeats=max(2, options.repeats // 5),
                device=options.device,
                images=options.epoch_size // options.batch_size * options.batch_size,
                target=">= 10",
                warm_ups=1,
            )
        )
    return rows


class _MadeUp(ImageDataModule):
    """Given images as a DataModule."""

    name = "MadeUp"
    default_attack = LinfAttack(eps=0.1, steps=1, step_size=0.1)

    def __init__(self, images: Tensor, labels: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self._images, self._labels = images, labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of the given images."""
        channels, height, width = self._images.shape[1:]
        return channels, height, width

    @property
    def label_names(self) -> list[str]:
        """Ten numbers."""
        return [str(label) for label in range(10)]

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002 (one split serves as both)
        """Hand them out."""
        return self._images, self._labels


class _MNIST(datasets.MNIST):
    """torchvision's data set on given images instead of its files."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        datasets.VisionDataset.__init__(self, "", transform=transform)
        self.data, self.targets = images[:, 0], labels


class _CIFAR10(datasets.CIFAR10):
    """torchvision's data set on given images instead of its files."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        datasets.VisionDataset.__init__(self, "", transform=transform)
        self.data, self.targets = images.permute(0, 2, 3, 1).numpy(), labels.tolist()


def _our_epoch(image: Tensor, label: Tensor, augment: Augmentation, options: argparse.Namespace) -> Callable[[], None]:
    datamodule = _MadeUp(image, label, batch_size=options.batch_size, val_size=0, augment=augment)
    # The parts of a Trainer that a DataModule looks at.
    datamodule.trainer = SimpleNamespace(  # type: ignore[assignment]
        training=True,
        world_size=1,
        global_rank=0,
        strategy=SimpleNamespace(root_device=options.device),
        precision_plugin=SimpleNamespace(convert_input=lambda batch: batch),
    )
    loader = datamodule.train_dataloader()

    def epoch() -> None:
        for batch in loader:
            on_device = batch._replace(image=batch.image.to(options.device), label=batch.label.to(options.device))
            datamodule.on_after_batch_transfer(on_device, 0)

    return epoch


def _their_epoch(dataset: Dataset[Any], options: argparse.Namespace) -> Callable[[], None]:
    loader = DataLoader(
        dataset,
        options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=options.device.type == "cuda",
    )

    def epoch() -> None:
        for image, label in loader:
            image.to(options.device)
            label.to(options.device)

    return epoch
