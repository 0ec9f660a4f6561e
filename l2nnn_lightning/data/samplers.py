"""Which process sees how much."""

__all__ = ["even_batch_size"]


def even_batch_size(size: int, num_replicas: int, batch_size: int) -> int:
    """Find the smallest batch size >= ``batch_size`` for which all processes have the same number of batches.

    Shards differ by up to one sample; if that one needs a batch of its own, the processes that have it wait for a
    collective operation (a wrapped model synchronises its buffers in every forward) that the others never enter.

    Raises:
        ValueError: if there are fewer samples than processes: an idle process would wait for the others for ever.

    Example:
        >>> even_batch_size(9, 2, 4)
        5
    """
    if size < num_replicas:
        raise ValueError(f"{size} images cannot be shared by {num_replicas} processes: use fewer")
    shortest, longest = size // num_replicas, -(-size // num_replicas)
    while -(-shortest // batch_size) != -(-longest // batch_size):
        batch_size += 1
    return batch_size
