import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.data.batch import even_batch_size, to_float


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
