"""Raw log: every byte that a meter sent and was sent, with the time, to decode it again later or to send to us.

A text file. Lines that begin with ``#`` say what it is; every other line is one piece of traffic:

    12345.678901 > f0
    12345.723412 < 096301f60032...

seconds of this host's monotonic clock, ``>`` to the meter or ``<`` from it, and the bytes in hexadecimal. Pieces are
as the port gave them: a USB report is one piece, a frame over serial may be several.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class RawLog:
    """A raw log being written. Each line is on disk at once, so that a crash loses none."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = path.open("w", encoding="ascii", buffering=1)
        self._file.write(f"# jouletune raw log 1\n# source: {name!a}\n")

    def write(self, t_s: float, direction: str, data: bytes) -> None:
        """Add one piece; direction is ``<`` or ``>``."""
        self._file.write(f"{t_s:.6f} {direction} {data.hex()}\n")

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()


def read_raw(path: Path) -> Iterator[tuple[float, str, bytes]]:
    """The pieces of a raw log: (time in s, ``<`` or ``>``, bytes).

    Raises:
        OSError: not readable.
        ValueError: not a raw log.
    """
    with path.open(encoding="ascii") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            t_s, direction, text = line.split()
            if direction not in "<>":
                raise ValueError(f"{path} is no raw log: {line!r}")
            yield float(t_s), direction, bytes.fromhex(text)
