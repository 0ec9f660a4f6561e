"""The idx format of MNIST; torchvision would have to unpack the files first, which a read-only folder forbids."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from l2nnn_lightning.data.errors import UserError

__all__ = ["find_idx", "read_idx"]


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the unpacked file, else the compressed one, else None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(path: Path) -> Tensor:
    """Read an idx file of bytes, compressed if its name ends in ``.gz``; a UserError if it is damaged.

    The header is two zero bytes, the type, the number of dimensions, and each dimension as a big-endian 32-bit number.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        content = b""
    rank = content[3] if len(content) > 3 else 0
    shape = np.frombuffer(content[4 : 4 + 4 * rank].ljust(4 * rank, b"\0"), dtype=">u4").tolist()
    if content[:3] != bytes((0, 0, 8)) or len(content) != 4 + 4 * rank + math.prod(shape):
        raise UserError(f"{path} is damaged: delete it, so that it can be fetched again")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape).copy())
