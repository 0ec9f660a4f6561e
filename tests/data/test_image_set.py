import pytest
import torch
from torch.utils.data import DataLoader

from l2nnn_lightning.data import Batch, ImageSet


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


def test_dataloader_batches_equal_direct_indexing() -> None:
    split = make_set()
    batches = list(DataLoader(split, batch_size=3, collate_fn=lambda batch: batch))
    assert [len(batch.image) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat([batch.image for batch in batches]), split.images)
    assert torch.equal(split[3].image, split.images[3])
    assert split[3].label == split.labels[3]


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
