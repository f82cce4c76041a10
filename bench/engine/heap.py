"""Heap: what the C library does with memory that torch has freed."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
"""Parameters of mallopt(3) in glibc."""

KEPT_BYTES = 2**30
"""Blocks and free tops up to this size stay in the process."""


def keep_freed_memory() -> bool:
    """Keep freed memory for the next allocation, for the rest of this process. Returns whether the C library can.

    By default glibc hands large blocks back to the kernel when an activation is freed, and gets them again, page by
    page and zeroed, for the next one: in a training step of a small net that is a good part of its time. Only where
    the memory comes from changes, so every result stays the same to the bit.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, or another system
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
