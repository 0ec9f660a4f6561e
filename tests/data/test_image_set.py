import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.data import Batch, ImageSet
from l2nnn_lightning.data.image_set import even_batch_size, to_float


def make_set(count: int = 7) -> ImageSet:
    images = torch.randint(256, (count, 2, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(images, torch.arange(count) * 10)


def test_getitems_returns_a_whole_batch_by_position() -> None:
    split = make_set()
    batch = split.__getitems__([4, 0, 4])
    assert isinstance(batch, Batch)
    assert torch.equal(batch.image, torch.stack([split.images[4], split.images[0], split.images[4]]))
    assert batch.label.tolist() == [40, 0, 40]
    assert batch.index.tolist() == [4, 0, 4]
    assert batch.adversarial is None
    assert torch.equal(split[4].image, batch.image[0])
    assert split[4].label == 40


def test_subset_keeps_clean_labels_beside_noisy_ones() -> None:
    split = make_set()
    noisy = ImageSet(split.images, torch.zeros(7, dtype=torch.int64), split.labels).subset(torch.tensor([5, 0]))
    assert noisy.labels.tolist() == [0, 0]
    assert noisy.clean_labels.tolist() == [50, 0]
    assert noisy.is_mislabeled.tolist() == [True, False]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 3, 3), torch.zeros(2, dtype=torch.int64), "images must be uint8"),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "images must be uint8"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2), "labels must be int64"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "labels must be int64"),
    ],
)
def test_wrong_tensors_are_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSet(images, labels)


def test_batches_are_put_together_where_the_images_are() -> None:
    split = ImageSet(torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.arange(5)).to(torch.device("meta"))
    batch = split.__getitems__([4, 0, 2])
    assert [part.device.type for part in (batch.image, batch.label, batch.index)] == ["meta"] * 3
    assert batch.image.shape == (3, 3, 4, 4)
    assert split.num_bytes == 5 * 3 * 4 * 4


def test_more_processes_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images cannot be shared by 4 processes"):
        even_batch_size(3, 4, 1)


@given(size=st.integers(1, 300), world=st.integers(1, 8), batch_size=st.integers(1, 64))
def test_all_processes_have_the_same_number_of_batches(size: int, world: int, batch_size: int) -> None:
    if size < world:
        return
    even = even_batch_size(size, world, batch_size)
    shards = [len(range(rank, size, world)) for rank in range(world)]
    assert len({math.ceil(shard / even) for shard in shards}) == 1
    assert even >= batch_size
    if world == 1:
        assert even == batch_size


def test_bytes_become_floats_and_floats_are_not_divided_again() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_float(images), images.float() / 255)
    assert to_float(images, dtype=torch.float64).dtype == torch.float64
    assert images.dtype == torch.uint8
    assert images[0, 0, 15, 15] == 255
    with pytest.raises(ValueError, match=r"images must be uint8, got torch\.float32"):
        to_float(to_float(images))
