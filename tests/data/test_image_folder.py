from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from l2nnn_lightning.data import ImageFolderDataModule
from l2nnn_lightning.data.errors import UserError


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def colour(seed: int, height: int = 5, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels, train and test, colour images of 5x4 pixels."""
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                write_image(tmp_path / split / name / f"{number}.png", colour(100 * label + 10 * number + (count == 2)))
    return tmp_path


def load(root: Path, **options: Any) -> ImageFolderDataModule:
    data = ImageFolderDataModule(root=str(root), **{"val_size": 0, **options})
    data.setup()
    return data


def test_images_arrive_unchanged_in_order_of_label_and_name(folder: Path) -> None:
    data = ImageFolderDataModule(root=str(folder), val_size=0)
    assert (data.label_names, data.num_labels, data.image_shape) == (["cat", "dog"], 2, (3, 5, 4))
    assert data.train_set is None
    data.setup()
    assert data.train_set.labels.tolist() == [0] * 4 + [1] * 4
    assert data.test_set.labels.tolist() == [0, 0, 1, 1]
    expected = [colour(100 * label + 10 * number) for label in range(2) for number in range(4)]
    assert np.array_equal(data.train_set.images.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_without_train_and_test_folders_a_fraction_of_each_label_is_kept(folder: Path) -> None:
    (folder / "test").rename(folder.parent / f"{folder.name}-test")
    data = load(folder / "train", test_fraction=0.25)
    assert data.train_set.labels.tolist() == [0] * 3 + [1] * 3
    assert data.test_set.labels.tolist() == [0, 1]
    again = load(folder / "train", test_fraction=0.25, seed=7)
    assert torch.equal(again.test_set.images, data.test_set.images)
    every = torch.cat([data.train_set.images, data.test_set.images])
    assert len({image.numpy().tobytes() for image in every}) == 8


def test_grey_images_have_one_channel(folder: Path) -> None:
    data = load(folder, channels=1)
    assert data.image_shape == (1, 5, 4)
    red, green, blue = colour(0).astype(float).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R 601-2
    assert np.abs(data.train_set.images[0, 0].numpy() - luma).max() <= 1.0


def test_image_size_cuts_the_centred_square(tmp_path: Path) -> None:
    picture = np.zeros((20, 40, 3))
    picture[:, 10:30] = 200  # the centred square; all else must be gone
    for name in ("a", "b"):
        for number in range(2):
            write_image(tmp_path / name / f"{number}.png", picture)
    data = load(tmp_path, image_size=8, test_fraction=0.5)
    assert data.image_shape == (3, 8, 8)
    assert data.train_set.images.shape == (2, 3, 8, 8)
    assert bool((data.train_set.images == 200).all())


def test_differing_sizes_are_named_with_the_remedy(folder: Path) -> None:
    write_image(folder / "train" / "dog" / "9.png", colour(1, 6, 7))
    with pytest.raises(UserError, match=r"cat.0\.png has 5x4 pixels, .*dog.9\.png has 6x7: set image_size"):
        load(folder)
    assert load(folder, image_size=4).image_shape == (3, 4, 4)


def _sixteen_bits(path: Path) -> None:
    Image.fromarray(np.full((5, 4), 40_000, dtype=np.uint16)).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read as an image"),
        (lambda path: path.write_bytes(b"not an image"), "cannot be read as an image"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n truncated"), "cannot be read as an image"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot be read as an image"),
        (_sixteen_bits, "has more than 8 bits per channel"),
    ],
)
def test_damaged_image_is_named(folder: Path, spoil: Any, message: str) -> None:
    spoil(folder / "train" / "dog" / "3.png")
    with pytest.raises(UserError, match=rf"dog.3\.png {message}") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (".", "../elsewhere", "is not a folder"),
        ("test/dog", "test/wolf", "only one of them has: dog, wolf"),
        ("test", "validation", r"train exists but .*test does not"),
        ("train", "training", r"test exists but .*train does not"),
        ("train/dog", "dog", "at least two labels, found 1"),
        ("train/dog/0.png", "train/hen/0.txt", r"hen holds no images \(.bmp, .jpeg, .jpg, .png, .webp\)"),
    ],
)
def test_another_layout_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    (folder / new).parent.mkdir(exist_ok=True)
    (folder / old).rename(folder / new)
    with pytest.raises(UserError, match=message):
        load(folder)


def test_too_few_images_for_a_test_split_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / name / "0.png", colour(0))
    with pytest.raises(UserError, match=r"a label would have no test images with test_fraction 0\.2"):
        load(tmp_path)


def test_hidden_and_foreign_files_are_passed_over(folder: Path) -> None:
    (folder / "train" / "dog" / "._0.png").write_bytes(b"resource fork")
    (folder / "train" / "dog" / "notes.txt").write_text("fetch")
    (folder / "train" / ".cache").mkdir()
    data = load(folder)
    assert len(data.train_set) == 8


def test_images_beyond_the_memory_limit_are_refused_before_decoding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFolderDataModule, "memory_limit", 479)  # 8 images of 60 bytes
    with pytest.raises(UserError, match=r"the 8 images would take .* set image_size below 4"):
        load(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be >= 1, got 0"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"test_fraction": 1.0}, r"test_fraction must be in \(0, 1\), got 1.0"),
        ({"label_noise": -0.1}, r"label_noise must be in \[0, 1\], got -0.1"),
    ],
)
def test_bad_folder_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolderDataModule(**options)


def test_description_holds_the_options_of_the_folder(folder: Path) -> None:
    init_args = ImageFolderDataModule(root=str(folder), image_size=4, batch_size=3).describe()["init_args"]
    assert (init_args["image_size"], init_args["batch_size"], init_args["channels"]) == (4, 3, 3)
    assert ImageFolderDataModule(**init_args).image_shape == (3, 4, 4)
