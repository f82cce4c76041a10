"""Durable: files that a kill, a power loss or a full disk leaves whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from bench.errors import JouletuneError


def write_atomic(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one, never a part."""
    write_through(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))


def write_through(path: Path, write: Callable[[Path], object]) -> None:
    """The same for whoever writes files by itself: `write` gets the name of a temporary one beside it.

    Raises:
        JouletuneError: it cannot be written; what stood there before is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise JouletuneError(f"{path}: cannot write ({error.strerror}); free space or choose another --out") from error


def append_line(path: Path, line: bytes) -> None:
    """Append a line and wait for the disk, or leave the file as it was.

    Raises:
        OSError: the disk is full or gone.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # what cannot be cut off now is cut off by `cut_torn_line`
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def cut_torn_line(path: Path) -> int:
    """Cut off a last line that a power loss or a full disk left unfinished. Returns the bytes cut."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    with path.open("r+b") as file:
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
    return size - end
