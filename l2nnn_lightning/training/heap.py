"""Freed memory stays with the process, so that a training step on a CPU does not ask the kernel for it again."""

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to neither map large blocks one by one nor give freed memory back; return whether it does.

    By default each large tensor is mapped anew, and the kernel zeroes each of its pages at the first touch: a
    sixth of a training step's time on one core. Where the user has tuned malloc, or there is no glibc, nothing changes.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ) or sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
