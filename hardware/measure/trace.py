"""Trace: the samples of one window or idle baseline in a file of their own, written and read."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import math
import os
import re
import warnings
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from hardware.files import create_in, folder_of, open_file, written_whole
from hardware.source import Sample

if TYPE_CHECKING:
    import numpy as np

COLUMNS = {"power": "power_w", "counter": "energy_j"}
"""The column of each kind of source that has samples."""

WHOLE, PARTIAL = ".csv.gz", ".partial.csv"
"""Ends of the names of a trace, and of the file with the samples of one that is still being taken."""

MAX_SAMPLES = 5_000_000
"""Of a trace: 14 hours at 100 Hz."""

MAX_BYTES = 200_000_000
"""Of a trace, unpacked: ten million samples. More would fill the memory of its reader."""

MAX_LINE, MAX_FACTS = 4096, 200
"""Characters of a line, and lines above the header."""

MAX_NUMBER = 1e12
"""Size of a time in s, a power in W or an energy in J: 30,000 years, a thousand power stations. Sums stay finite."""

_CHUNK, _BLOCK = 1 << 16, 50_000
"""Characters, and samples, that are handled at once."""

FLUSH_S = 5.0
"""Samples of so many seconds are written at once, by the thread that has just fetched them, so no other wakes up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What `write_trace` wrote.

    Attributes:
        kind: power (W) or counter (J so far).
        t_s: shape (n,), this host's monotonic clock, rising.
        values: shape (n,).
        facts: what stood above the header; moments such as t0_s are seconds of the same clock.
    """

    kind: str
    t_s: np.ndarray
    values: np.ndarray
    facts: dict[str, str]

    def moment_s(self, name: str) -> float | None:
        """A fact that is a moment, None where it is missing or no such number."""
        try:
            value = float(self.facts[name])
        except (KeyError, ValueError):
            return None
        return value if abs(value) < MAX_NUMBER else None  # nan is not below it


def read_trace(path: Path) -> Trace:
    """Read what `write_trace` wrote.

    Raises:
        ValueError: as `parse_trace`.
        OSError: not there, not readable, or no regular file.
    """
    with open_file(path, limit=MAX_BYTES, root=path.parent) as file, gzip.GzipFile(fileobj=file) as stream:
        return parse_trace(stream)


def parse_trace(stream: gzip.GzipFile, limit: int = MAX_BYTES) -> Trace:
    """Read an open trace in time and memory that grow with its samples.

    Args:
        stream: its `tell` gives afterwards how many unpacked bytes were read.
        limit: unpacked bytes that are read at most.

    Raises:
        ValueError: damaged, cut short, beyond a limit, or not of this form, in a few words.
        OSError: it cannot be read.
    """
    import numpy as np

    facts: dict[str, str] = {}
    header = ""
    with contextlib.closing(_lines_of(stream, limit)) as lines:
        for count, header in enumerate(lines):
            if not header.startswith("# "):
                break
            name, colon, value = header[2:].partition(": ")
            if not colon:
                raise ValueError("a line above its header is not '# name: value'")
            if count == MAX_FACTS:
                raise ValueError(f"more than {MAX_FACTS} lines above its header")
            facts[name] = value
        kind = next((kind for kind, column in COLUMNS.items() if header == f"t_mono_s,{column}"), None)
        if kind is None:
            raise ValueError(f"its header is {header[:40]!r}, not 't_mono_s,power_w' or 't_mono_s,energy_j'")
        numbers, last_s = bytearray(), -math.inf  # an array that grew would be twice in memory
        while len(block := _next_samples(lines)):
            if max(-block.min(), block.max()) > MAX_NUMBER:
                raise ValueError(f"a time or value is beyond {MAX_NUMBER:.0e}")
            times_s = block[:, 0]
            if not (times_s[0] > last_s and (times_s[1:] > times_s[:-1]).all()):
                raise ValueError("its times do not rise")
            numbers += block.tobytes()
            last_s = float(times_s[-1])
    t_s, values = np.frombuffer(numbers).reshape(-1, 2).T
    if len(t_s) < 2:
        raise ValueError(f"it holds {len(t_s)} samples, fewer than 2")
    return Trace(kind=kind, t_s=t_s, values=values, facts=facts)


def _next_samples(lines: Iterator[str]) -> np.ndarray:
    """Read the next lines as numbers, shape (n, 2), n = 0 at the end.

    Raises:
        ValueError: a line is not two finite numbers.
    """
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of no lines left
            block = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2, max_rows=_BLOCK)
    except _UnreadableError:
        raise
    except ValueError:
        raise ValueError("a line is not two numbers") from None
    if len(block) and (block.shape[1] != 2 or not np.isfinite(block).all()):
        raise ValueError("a line is not two numbers")
    return block


class _UnreadableError(ValueError):
    """A fault of the file as a whole, in words."""


def _lines_of(stream: gzip.GzipFile, limit: int) -> Generator[str, None, None]:
    """The lines of a stream; no more than a chunk of them is in memory at a time."""
    text, rest, size, count = io.TextIOWrapper(stream, encoding="utf-8", newline="\n"), "", 0, 0
    try:
        while chunk := text.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise _UnreadableError(f"longer than {limit / 1e6:.0f} MB")
            *whole, rest = (rest + chunk).split("\n")
            count += len(whole)
            if count > MAX_SAMPLES + MAX_FACTS:
                raise _UnreadableError(f"more than {MAX_SAMPLES / 1e6:.0f} million samples")
            yield from whole
            if len(rest) > MAX_LINE:
                raise _UnreadableError(f"a line is longer than {MAX_LINE} characters")
        if rest:
            yield rest
            raise _UnreadableError("cut short in its last line")
    except EOFError:
        raise _UnreadableError("cut short") from None
    except (zlib.error, gzip.BadGzipFile):
        raise _UnreadableError("not readable as gzip") from None
    except UnicodeDecodeError:
        raise _UnreadableError("not text") from None
    finally:
        text.detach()


def write_trace(folder: Path, name: str, samples: Sequence[Sample], *, column: str, facts: Mapping[str, object]) -> str:
    """Write a gzipped CSV with the columns ``t_mono_s`` and ``column``; return the file's name.

    The facts stand above the header, in lines that begin with ``#``. The file appears whole and on the disk or not at
    all, and never in place of another: the second one of a name gets a number. A trace of powers can be played back
    with ``replay:FILE``.

    Raises:
        OSError: the folder cannot be written, or is a link.
    """
    return TraceFile(folder, name, column=column, facts=facts).finish(samples, {})


class TraceFile:
    """The trace of one span while it is taken. What is there already is never written over.

    Samples are appended to ``NAME.partial.csv``, a few seconds' worth at a time, so that a run that is killed in the
    middle of a long cell leaves what it had seen. Nothing waits for the disk meanwhile: that is left to the system, and
    what it writes later is some kB a minute. When the span is over, `finish` writes the trace and deletes the other
    file.

    Args:
        folder: made with the first samples.
        name: of the span.
        column: one of `hardware.measure.trace.COLUMNS`.
        facts: known from the start.
    """

    def __init__(self, folder: Path, name: str, *, column: str, facts: Mapping[str, object]) -> None:
        self._folder = folder
        self._stem = _free_stem(folder, name)
        self._partial = folder / f"{self._stem}{PARTIAL}"
        self._column = column
        self._facts = facts
        self._waiting: list[Sample] = []
        self._flushed_s: float | None = None
        self._stream: TextIO | None = None
        self._over = False

    def add(self, samples: Sequence[Sample], now_s: float) -> None:
        """Add samples as they come. After an error of the disk the partial file is given up; `finish` reports it."""
        if self._over:
            return
        self._waiting += samples
        if self._flushed_s is None:
            self._flushed_s = now_s
        if now_s - self._flushed_s < FLUSH_S:
            return
        self._flushed_s = now_s
        try:
            if self._stream is None:
                with folder_of(self._partial, self._folder.parent, create=True) as folder:
                    descriptor = create_in(folder, self._partial.name)
                self._stream = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
                self._stream.writelines(_lines((), column=self._column, facts=self._facts))
            self._stream.writelines(_lines(self._waiting))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: another thread has dropped the file meanwhile
            self._over = True
        self._waiting = []

    def finish(self, samples: Sequence[Sample], facts: Mapping[str, object]) -> str:
        """Write the whole span and wait for the disk; return the file's name.

        Args:
            samples: all of it, with those on both sides that its edges are interpolated with.
            facts: those that were not known from the start.

        Raises:
            OSError: the folder cannot be written; the partial file stays.
        """
        file_name = f"{self._stem}{WHOLE}"
        with (
            written_whole(self._folder / file_name, root=self._folder.parent) as raw,
            gzip.open(raw, "wt", encoding="utf-8", newline="\n") as text,
        ):
            text.writelines(_lines(samples, column=self._column, facts={**self._facts, **facts}))
        self.drop()
        return file_name

    def drop(self) -> None:
        """Delete the partial file. Safe to call twice."""
        self._over = True
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
            with contextlib.suppress(OSError):
                self._partial.unlink()


def _free_stem(folder: Path, name: str) -> str:
    """The beginning of a file name that no trace in the folder has, whole or partial. What no name may hold is `_`."""
    base = re.sub(r"[^\w.=+-]+", "_", name)[:180]
    stems = itertools.chain([base], (f"{base}~{number}" for number in itertools.count(2)))
    return next(stem for stem in stems if not any((folder / f"{stem}{end}").exists() for end in (WHOLE, PARTIAL)))


def _lines(
    samples: Iterable[Sample], *, column: str | None = None, facts: Mapping[str, object] | None = None
) -> Iterator[str]:
    """The lines of a trace; without a column those of the samples alone."""
    if column is not None:
        yield from (f"# {key}: {value}\n" for key, value in (facts or {}).items())
        yield f"t_mono_s,{column}\n"
    yield from (f"{t_s:.6f},{value:.6f}\n" for t_s, value in samples)
