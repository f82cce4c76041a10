"""Wire: what the two sides of a run on another board send each other: lines, and the content of files.

A line is a verb, a space and a JSON value; a file follows the line that announces its size. Both sides check what they
read. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.process.messages import MAX_BYTES

PROTOCOL = 1
"""Version of what is sent."""

HELLO = "jouletune-board"
"""Verb of the first line from the board."""

ALIVE_S = 15.0
"""The machine with the meter says so often that it is there."""

SILENCE_S = 60.0
"""The board's side ends, with all that it started, when it has heard nothing for so long."""

MAX_JOB_BYTES = 8 * MAX_BYTES
"""Longest line that carries a job: a suite, as it was understood."""

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow", "codecarbon", "zeus")


class Stream:
    """Lines and bytes from a descriptor, bounded in length and in time.

    Args:
        descriptor: a pipe or a socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def line(self, deadline_s: float | None) -> bytes:
        """The next line without its end.

        Args:
            deadline_s: CLOCK_MONOTONIC to give up at.

        Raises:
            TimeoutError: the deadline passed.
            EOFError: the other side is gone.
            ValueError: it is longer than MAX_JOB_BYTES.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_JOB_BYTES:
                raise ValueError(f"a line of over {MAX_JOB_BYTES:,} bytes")
            self._more(deadline_s)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def exactly(self, size: int, wait_s: float) -> Iterator[bytes]:
        """The next so many bytes, in pieces.

        Args:
            wait_s: longest wait for a piece.

        Raises:
            TimeoutError, EOFError: as `line`.
        """
        while size:
            if not self._buffer:
                self._more(time.monotonic() + wait_s)
            piece = bytes(self._buffer[:size])
            del self._buffer[: len(piece)]
            size -= len(piece)
            yield piece

    def _more(self, deadline_s: float | None) -> None:
        timeout_ms = None if deadline_s is None else max(0.0, deadline_s - time.monotonic()) * 1000
        if not self._poll.poll(timeout_ms):
            raise TimeoutError
        try:
            part = os.read(self._descriptor, 65536)
        except OSError:
            part = b""
        if not part:
            raise EOFError
        self._buffer += part


def pack(verb: str, content: object = None) -> bytes:
    """A line."""
    return f"{verb} {json.dumps(content, separators=(',', ':'))}\n".encode()


def unpack(line: bytes) -> tuple[str, Any]:
    """Verb and content of a line.

    Raises:
        ValueError: it is none.
    """
    verb, _, content = line.decode("utf-8", "replace").partition(" ")
    try:
        return verb, json.loads(content)
    except RecursionError:
        raise ValueError("too deep") from None


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str | None]:
    """Versions of the packages that a figure may depend on; None for one that is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_sha256() -> str:
    """Hash of the code of this installation that runs and measures cells.

    Two checkouts may have one version and different code.
    """
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("bench", "hardware"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
