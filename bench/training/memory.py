"""Memory that this process may still take: of the machine, or of a control group that has less."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

MB = 1e6
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
UNIFIED = ("memory.max", "memory.current", "inactive_file")
"""Names of the limit, the use and the reclaimable part of it in control groups of version 2 (Linux, cgroup-v2.rst)."""

LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""The same in version 1 (Linux, cgroup-v1/memory.rst)."""


def available_mb() -> float:
    """The least of what the machine has left and what each control group around this process leaves, in MB."""
    machine: float = psutil.virtual_memory().available / MB
    return min([machine, *_left_in_groups()])


def _left_in_groups() -> Iterator[float]:
    """MB left in every group with a limit, from this process's own to the outermost."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS if not controllers else CGROUPS / "memory"
        own = PurePosixPath(path.lstrip("/") or ".")
        for group in (own, *own.parents):
            left = _left(root / group, LEGACY if controllers else UNIFIED)
            if left is not None:
                yield left


def _left(group: Path, names: tuple[str, str, str]) -> float | None:
    """MB left in one group, None where it has no limit."""
    limit_name, used_name, reclaimable_name = names
    try:
        limit = int((group / limit_name).read_text())
        used = int((group / used_name).read_text())
        statistics = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
        reclaimable = int(statistics.get(reclaimable_name, 0))
    except (OSError, ValueError):  # no such file; or "max", which is no limit
        return None
    return max(0, limit - used + reclaimable) / MB


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
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
