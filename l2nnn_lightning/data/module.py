"""The base of all DataModules: splits, label noise, loaders, and what happens to a batch on the device."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from l2nnn_lightning.attacks.base import check_at_least, check_choice
from l2nnn_lightning.attacks.training import TrainingAttack, attacked_images
from l2nnn_lightning.data.augment import AUGMENTATIONS, Augmentation
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.image_set import Batch, ImageSet, even_batch_size, to_float
from l2nnn_lightning.data.label_noise import (
    LabelNoise,
    asymmetric_noise,
    labels_from_file,
    name_pairs,
    symmetric_noise,
    transition_from_file,
    transition_noise,
)

__all__ = ["ImageDataModule", "Split"]

Split = Literal["train", "val", "test"]

# Independent random streams of one seed, so that the split does not depend on the noise, nor the noise on the split.
_SPLIT_STREAM, _NOISE_STREAM = 0, 1


class ImageDataModule(pl.LightningDataModule, ABC):
    """Images and labels for training, validation and test.

    A split lives in memory as bytes (on the GPU, up to 2 GiB), is batched by index without worker processes, and
    becomes float in [0, 1] on the device. Training order is a pure function of seed and epoch, so that a resumed run
    repeats an uninterrupted one.

    Args:
        root: folder of the data sets; by default the environment variable L2NNN_DATA, else ``data/``.
        batch_size: training images per step and process, >= 1.
        eval_batch_size: images per validation or test step and process, >= 1 (one or two more where several processes
            would otherwise have different numbers of steps).
        val_size: number of training images held out for validation; 0 for no validation; by default a tenth of the
            training images, at most 5000. They keep their noisy labels: an honest user has no others.
        train_size: use only so many of the remaining training images (default: all).
        label_noise: fraction in [0, 1] of the training labels, validation included, to make wrong. The test labels
            stay as they are. The original labels remain in ``train_set.clean_labels``.
        label_noise_kind: ``symmetric``: replaced by uniformly random labels; ``asymmetric``: in each class that is
            easily confused with another, turned into that other class; ``transition``: redrawn by the class's row of
            the matrix in ``label_noise_file``; ``file``: read from ``label_noise_file``.
        label_noise_file: a ``.npy`` array or a text file with one label (an integer) per training image, or with one
            row of probabilities per label.
        label_noise_pairs: for ``asymmetric``: label name -> name of the label it is taken for; by default the pairs
            usual for the data set, or each label for the next one.
        seed: of the split, the label noise and the order of training, >= 0.
        augment: random changes of training images: ``shift`` by up to 2 pixels, ``affine`` turns, scales, shears and
            moves a little, ``affine_large`` half as much again, ``flip`` left to right, ``flip_crop`` also moves by up
            to 4 pixels, ``flip_reflect`` the same, filled with the mirrored image.
        adversarial: hand each training step attacked copies of its images too, crafted against the current model.
        attack: settings of these copies that differ from the data set's own: ``eps``, ``steps``, ``step_size``,
            ``random_start``, ``restarts``, ``norm`` (``Linf`` or ``L2``).

    Raises:
        ValueError: if an argument is out of range.
    """

    name: str
    default_attack: ClassVar[TrainingAttack]
    default_noise_pairs: ClassVar[Mapping[str, str] | None] = None
    resident_bytes: ClassVar[int] = 2 * 2**30  # a split up to this size stays on the GPU: a step copies only indices

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 256,
        eval_batch_size: int = 1000,
        val_size: int | None = None,
        train_size: int | None = None,
        label_noise: float = 0.0,
        label_noise_kind: LabelNoise = "symmetric",
        label_noise_file: str | None = None,
        label_noise_pairs: dict[str, str] | None = None,
        seed: int = 0,
        augment: Augmentation = "none",
        adversarial: bool = False,
        attack: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size, train_size=train_size)
        check_at_least(0, val_size=val_size, seed=seed)
        if not 0 <= label_noise <= 1:
            raise ValueError(f"label_noise must be in [0, 1], got {label_noise}")
        check_choice("label_noise_kind", label_noise_kind, get_args(LabelNoise))
        check_choice("augment", augment, AUGMENTATIONS)
        from_file = label_noise_kind in ("file", "transition")
        if from_file != (label_noise_file is not None):
            raise ValueError("label_noise_kind: file or transition and label_noise_file go together; set both or none")
        if from_file and label_noise > 0:
            raise ValueError(
                f"label_noise must stay 0 with label_noise_kind: {label_noise_kind}, which decides the fraction itself"
            )
        if label_noise_pairs is not None and label_noise_kind != "asymmetric":
            raise ValueError(f"label_noise_pairs needs label_noise_kind: asymmetric, got {label_noise_kind}")
        self.save_hyperparameters()
        self.attack = self.default_attack.replaced(attack)
        self.root = Path(root or os.environ.get("L2NNN_DATA") or "data").expanduser()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_size, self.train_size, self.seed = val_size, train_size, seed
        self.label_noise, self.label_noise_kind = label_noise, label_noise_kind
        self.label_noise_file, self.label_noise_pairs = label_noise_file, label_noise_pairs
        self.augment, self.adversarial = augment, adversarial
        self.train_set: ImageSet | None = None
        self.val_set: ImageSet | None = None
        self.test_set: ImageSet | None = None
        self._order: list[int] | None = None

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image; known before ``setup``."""

    @property
    @abstractmethod
    def label_names(self) -> list[str]:
        """The name of each label; known before ``setup``."""

    @property
    def num_labels(self) -> int:
        """K, the number of labels; known before ``setup``."""
        return len(self.label_names)

    @property
    def numbered_names(self) -> list[str]:
        """The name of each label as it is numbered, see :meth:`number_labels_as`."""
        names = self.label_names
        return names if self._order is None else [names[label] for label in self._order]

    def number_labels_as(self, names: Sequence[str]) -> None:
        """Number the labels of all splits as in a list of the same names, from the next ``setup`` on.

        Raises:
            ValueError: if the names are others.
        """
        own = self.label_names
        if sorted(names) != sorted(own):
            raise ValueError(f"{self.name} has the labels {', '.join(own)}, not {', '.join(names)}")
        self._order = None if list(names) == list(own) else [own.index(name) for name in names]

    @abstractmethod
    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        """Read all training or all test images, uint8 (N, C, H, W), and their labels, int64 (N,)."""

    def describe(self) -> dict[str, Any]:
        """Return plain values from which ``build_datamodule(**...)`` builds an equal DataModule."""
        kind = type(self)
        is_ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
        init_args = {key: value for key, value in self.hparams.items() if not key.startswith("_")}
        return {"name": self.name if is_ours else f"{kind.__module__}.{kind.__qualname__}", "init_args": init_args}

    def setup(self, stage: str | None = None) -> None:
        """Read what the stage needs, add label noise and hold out the validation images; once only."""
        if stage in (None, "fit", "validate") and self.train_set is None:
            train, held_out = self._split(*self.load_images(train=True))
            self.train_set, self.val_set = self._numbered(train), None if held_out is None else self._numbered(held_out)
        if stage in (None, "test", "predict") and self.test_set is None:
            self.test_set = self._numbered(ImageSet(*self.load_images(train=False)))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled by seed and epoch; a last, smaller batch is left out unless it is one of the first two."""
        self.setup("fit")
        assert self.train_set is not None
        world, rank = self._world()
        is_long = len(self.train_set) // world >= 2 * self.batch_size
        # Also for a single process: its order follows from (seed, epoch) alone, not from the state of a generator.
        sampler: DistributedSampler[Any] = DistributedSampler(
            self.train_set, num_replicas=world, rank=rank, shuffle=True, seed=self.seed, drop_last=is_long
        )
        return self._loader(self.train_set, sampler, self.batch_size, drop_last=is_long)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """In order, every image once over all processes; an empty list without validation images."""
        self.setup("validate")
        return [] if self.val_set is None else self.eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """In order, every image once over all processes."""
        return self.eval_dataloader("test")

    predict_dataloader = test_dataloader

    def eval_dataloader(self, split: Split) -> DataLoader[Batch]:
        """Go through any split in order, every image once over all processes; a UserError if it is empty."""
        self.setup("test" if split == "test" else "fit")
        images = {"train": self.train_set, "val": self.val_set, "test": self.test_set}[split]
        if images is None:
            raise UserError(f"there are no {split} images; set val_size above 0")
        world, rank = self._world()
        batch_size = even_batch_size(len(images), world, self.eval_batch_size)
        # Not the sampler that Lightning would put in the place of a plain one: that repeats some samples.
        sampler = UnrepeatedDistributedSampler(images, num_replicas=world, rank=rank, shuffle=False)
        return self._loader(images, sampler, batch_size, drop_last=False)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Turn bytes into [0, 1] on the device; in training, change images at random and add attacked copies."""
        is_training = self.trainer is not None and self.trainer.training
        image = AUGMENTATIONS[self.augment](batch.image) if is_training else batch.image
        batch = batch._replace(image=to_float(image))
        if self.trainer is None:
            return batch
        # Lightning casts float input before the transfer, when ours was still bytes.
        batch = self.trainer.precision_plugin.convert_input(batch)
        if not (is_training and self.adversarial):
            return batch
        model = self.trainer.lightning_module
        logits_of = getattr(model, "attack_logits", None)
        adversarial = attacked_images(model, batch.image, batch.label, self.attack, logits_of=logits_of)
        return batch._replace(adversarial=adversarial)

    def _split(self, images: Tensor, labels: Tensor) -> tuple[ImageSet, ImageSet | None]:
        """Add label noise to all training images, then hold out some; positions keep the data set's order."""
        total = len(images)
        val_size = min(total // 10, 5000) if self.val_size is None else self.val_size
        if val_size >= total:
            raise UserError(f"val_size must be smaller than the {total} training images, got {val_size}")
        rest = total - val_size
        train_size = rest if self.train_size is None else self.train_size
        if train_size > rest:
            raise UserError(f"train_size must be at most {rest} with val_size {val_size}, got {train_size}")
        whole = ImageSet(images, self._noisy(labels), labels)
        order = torch.randperm(total, generator=self._generator(_SPLIT_STREAM))
        train = whole.subset(order[val_size : val_size + train_size].sort().values)
        return train, whole.subset(order[:val_size].sort().values) if val_size else None

    def _numbered(self, images: ImageSet) -> ImageSet:
        if self._order is None:
            return images
        number = torch.tensor(self._order).argsort()
        return ImageSet(images.images, number[images.labels], number[images.clean_labels])

    def _noisy(self, labels: Tensor) -> Tensor:
        generator, path = self._generator(_NOISE_STREAM), Path(self.label_noise_file or "").expanduser()
        if self.label_noise_kind == "transition":
            return transition_noise(labels, transition_from_file(path, self.num_labels), generator)
        if self.label_noise_kind == "file":
            return labels_from_file(path, len(labels), self.num_labels)
        if self.label_noise_kind == "symmetric":
            return symmetric_noise(labels, self.label_noise, self.num_labels, generator)
        pairs = name_pairs(self.label_names, self.label_noise_pairs or self.default_noise_pairs)
        return asymmetric_noise(labels, self.label_noise, pairs, generator)

    def _generator(self, stream: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, stream]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    def _world(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def _loader(
        self, images: ImageSet, sampler: Sampler[Any], batch_size: int, *, drop_last: bool
    ) -> DataLoader[Batch]:
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        if device.type == "cuda" and images.num_bytes <= self.resident_bytes:
            images = images.to(device)
        return DataLoader(
            images,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=lambda batch: batch,  # ``ImageSet.__getitems__`` has already put it together
            pin_memory=device.type == "cuda" and images.images.device.type == "cpu",
            # An iterator draws a seed for workers; from the global generator, a resumed epoch would draw once less.
            generator=torch.Generator(),
        )
