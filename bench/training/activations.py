"""Activations: what the frozen front part makes of the images, computed once and kept for all epochs."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import JouletuneError
from bench.training.loop import Passes
from bench.training.memory import MB, available_mb

SHARE = 0.5
"""Of the memory that is available, what the cache takes at most where the suite sets no limit."""


def size_mb(front: nn.Module, shape: torch.Size, n_images: int) -> float:
    """Size of the float32 output of a part for so many images of a shape [C, H, W], in MB."""
    with torch.no_grad():
        one = front(torch.zeros(1, *shape, device=_device(front)))
    return float(one.numel() * 4 * n_images / MB)


def place(wanted: str, needed_mb: float, budget_mb: float | None, scratch: Path) -> tuple[str | None, str]:
    """Where the activations go: memory, half, disk, or None, and why in words.

    Args:
        wanted: auto, memory, half or disk.
        needed_mb: their size in float32.
        budget_mb: most memory for them; None: half of what is available.
        scratch: folder for the file.
    """
    budget = SHARE * available_mb() if budget_mb is None else budget_mb
    sizes = f"{needed_mb:.1f} MB of activations, {budget:.0f} MB of memory for them"
    if wanted == "disk":
        return "disk", sizes
    in_memory = needed_mb / 2 if wanted == "half" else needed_mb
    if in_memory <= budget:
        return ("half" if wanted == "half" else "memory"), sizes
    free_mb = shutil.disk_usage(scratch).free / MB
    if wanted == "auto" and needed_mb < SHARE * free_mb:
        return "disk", f"{sizes}: on disk"
    return None, f"{sizes}, {free_mb:.0f} MB free on disk: not kept"


@torch.no_grad()
def compute(front: nn.Module, images: Tensor, where: str, passes: Passes, scratch: Path) -> Tensor:
    """What a part makes of the images.

    Args:
        images: [N, C, H, W].
        where: memory, half (float16) or disk (a file without a name, gone with this process however that ends).

    Returns:
        [N, ...] float32, or float16 for half.

    Raises:
        JouletuneError: the disk has no room for the file.
    """
    kept: Tensor | None = None
    done = 0
    for part in images.split(passes.eval_batch):
        made = passes.logits(front, part)
        if kept is None:
            shape = (len(images), *made.shape[1:])
            kept = _on_disk(shape, scratch) if where == "disk" else _in_memory(shape, where, made)
        kept[done : done + len(part)] = made
        done += len(part)
    assert kept is not None
    return kept


def _in_memory(shape: tuple[int, ...], where: str, like: Tensor) -> Tensor:
    dtype = torch.float16 if where == "half" else torch.float32
    rows = torch.channels_last if like.dim() == 4 and not like.is_contiguous() else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=rows)


def _on_disk(shape: tuple[int, ...], scratch: Path) -> Tensor:
    """A float32 tensor in a file that has lost its name: the kernel writes it back and frees it with the process."""
    n_values = int(torch.Size(shape).numel())
    scratch.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix="activations-", dir=scratch)
    Path(name).unlink()  # before it is large: a process that is killed while it fills the disk leaves nothing there
    size = n_values * 4
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # a full disk is an error now and not a bus error later
        else:  # macOS
            os.truncate(descriptor, size)
        return torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.float32).view(shape)
    except OSError as error:
        raise JouletuneError(
            f"no room for {size / MB:.0f} MB of activations in {scratch} ({error.strerror}); "
            "set train.cache to half or off"
        ) from None
    finally:
        os.close(descriptor)


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))
