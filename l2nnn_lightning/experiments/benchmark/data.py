"""Images a second that the data path feeds, against a torchvision data set behind a DataLoader."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

from l2nnn_lightning.data import CIFAR10DataModule, MNISTDataModule
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row, compare

__all__ = ["run"]


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:
    """Time an epoch: shuffled batches of floats in [0, 1] on the device, with the usual augmentation and without."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(10, (options.epoch_size,), generator=generator)
    # Of torchvision's transforms, which ship no types, these are not annotated.
    crop: Any = transforms.RandomCrop
    flip: Any = transforms.RandomHorizontalFlip
    for shape, augment, changes in (
        ((1, 28, 28), "none", []),
        ((1, 28, 28), "shift", [crop(28, 2)]),
        ((3, 32, 32), "none", []),
        ((3, 32, 32), "flip_crop", [crop(32, 4), flip()]),
    ):
        image = torch.randint(256, (options.epoch_size, *shape), generator=generator, dtype=torch.uint8)
        yield compare(
            "data",
            f"{'x'.join(map(str, shape))}, augment {augment}",
            f"data path / torchvision DataLoader, {options.workers} workers",
            _our_epoch(image, label, augment, options.batch_size, device),
            _their_epoch(_torchvision(image, label, changes), options, device),
            repeats=max(2, options.repeats // 5),
            device=device,
            images=options.epoch_size // options.batch_size * options.batch_size,
            target=">= 10",
            warm_ups=1,
        )


def _torchvision(image: Tensor, label: Tensor, changes: list[Any]) -> Dataset[Any]:
    """Make torchvision's data set of given images instead of its files."""
    kind: Any = datasets.MNIST if image.shape[1] == 1 else datasets.CIFAR10
    compose: Any = transforms.Compose
    dataset = kind.__new__(kind)
    datasets.VisionDataset.__init__(dataset, "", transform=compose([*changes, transforms.ToTensor()]))
    if kind is datasets.MNIST:
        dataset.data, dataset.targets = image[:, 0], label
    else:
        dataset.data, dataset.targets = image.permute(0, 2, 3, 1).numpy(), label.tolist()
    return dataset  # type: ignore[no-any-return]


def _our_epoch(image: Tensor, label: Tensor, augment: Any, batch_size: int, device: torch.device) -> Callable[[], None]:
    kind = MNISTDataModule if image.shape[1] == 1 else CIFAR10DataModule
    datamodule = kind(batch_size=batch_size, val_size=0, augment=augment)
    datamodule.load_images = lambda train: (image, label)  # type: ignore[method-assign]  # noqa: ARG005
    # The parts of a Trainer that a DataModule looks at.
    datamodule.trainer = SimpleNamespace(  # type: ignore[assignment]
        training=True,
        world_size=1,
        global_rank=0,
        strategy=SimpleNamespace(root_device=device),
        precision_plugin=SimpleNamespace(convert_input=lambda batch: batch),
    )
    loader = datamodule.train_dataloader()

    def epoch() -> None:
        for batch in loader:
            on_device = batch._replace(image=batch.image.to(device), label=batch.label.to(device))
            datamodule.on_after_batch_transfer(on_device, 0)

    return epoch


def _their_epoch(dataset: Dataset[Any], options: BenchmarkOptions, device: torch.device) -> Callable[[], None]:
    loader = DataLoader(
        dataset,
        options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=device.type == "cuda",
    )

    def epoch() -> None:
        for image, label in loader:
            image.to(device)
            label.to(device)

    return epoch
