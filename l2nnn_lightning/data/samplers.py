"""Which process sees which sample."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset, DistributedSampler

__all__ = ["ShardSampler", "even_batch_size"]


class ShardSampler(DistributedSampler[Any]):
    """Give each process every ``num_replicas``-th sample, in order, none twice.

    ``DistributedSampler`` pads the last round with repeated samples, which an evaluation would count twice. It is the
    base class here only so that Lightning, which leaves such samplers alone, does not put a padding one in our place.

    Args:
        dataset: the split; only its length is used.
        num_replicas: number of processes, >= 1.
        rank: this process, in [0, num_replicas).

    Raises:
        ValueError: if there are fewer samples than processes: an idle process would wait for the others for ever.

    Example:
        >>> [list(ShardSampler(range(5), 2, rank)) for rank in (0, 1)]
        [[0, 2, 4], [1, 3]]
    """

    def __init__(self, dataset: Dataset[Any], num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.size = len(dataset)  # type: ignore[arg-type]
        if self.size < num_replicas:
            raise ValueError(f"{self.size} images cannot be shared by {num_replicas} processes: use fewer")

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, self.size, self.num_replicas))

    def __len__(self) -> int:
        return len(range(self.rank, self.size, self.num_replicas))


def even_batch_size(size: int, num_replicas: int, batch_size: int) -> int:
    """Find the smallest batch size >= ``batch_size`` for which all processes have the same number of batches.

    Shards differ by up to one sample; if that one needs a batch of its own, the processes that have it wait for a
    collective operation (a wrapped model synchronises its buffers in every forward) that the others never enter.

    Args:
        size: number of samples, >= num_replicas.
        num_replicas: number of processes, >= 1.
        batch_size: the size asked for, >= 1.

    Example:
        >>> even_batch_size(9, 2, 4)
        5
    """
    shortest, longest = size // num_replicas, -(-size // num_replicas)
    while -(-shortest // batch_size) != -(-longest // batch_size):
        batch_size += 1
    return batch_size
