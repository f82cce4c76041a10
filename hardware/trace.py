"""Trace: the samples of one span, a window or an idle baseline, in a file of their own.

They are appended to ``NAME.partial.csv`` while they come, a few seconds' worth at a time, so that a run that is killed
in the middle of a long cell leaves what it had seen. Nothing waits for the disk meanwhile: that is left to the system,
and what it writes later is some kB a minute. When the span is over, the whole of it becomes ``NAME.csv.gz``, on the
disk for certain, and the other file goes.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from hardware.source import Sample

COLUMNS = {"power": "power_w", "counter": "energy_j"}
"""The column of each kind of source that has samples."""

FLUSH_S = 5.0
"""Samples of so long are handed to the system at once: in the thread that has just fetched them, so nobody wakes up."""


class Trace:
    """One span's samples. Never in place of another: the second of a name gets a number.

    Both files are CSV with the columns ``t_mono_s`` and that of the source's kind; facts stand above the header, in
    lines that begin with ``#``. A trace of powers can be played back with ``replay:FILE``.

    Args:
        folder: made with the first samples.
        name: of the span; what no file name may hold becomes ``_``.
        column: one of `COLUMNS`.
        facts: known from the start.
    """

    def __init__(self, folder: Path, name: str, *, column: str, facts: Mapping[str, object]) -> None:
        base = re.sub(r"[^\w.=+-]+", "_", name)[:180]
        stems = itertools.chain([base], (f"{base}~{number}" for number in itertools.count(2)))
        self._stem = next(
            stem for stem in stems if not any((folder / f"{stem}{end}").exists() for end in (".csv.gz", ".partial.csv"))
        )
        self._folder = folder
        self._column = column
        self._facts = facts
        self._waiting: list[Sample] = []
        self._flushed_s: float | None = None
        self._stream: TextIO | None = None
        self._broken = False

    def add(self, samples: Sequence[Sample], now_s: float) -> None:
        """Take samples as they come. What the disk refuses is kept out of the partial file, and shows in `finish`."""
        if self._broken:
            return
        self._waiting += samples
        if self._flushed_s is None:
            self._flushed_s = now_s
        if now_s - self._flushed_s < FLUSH_S:
            return
        self._flushed_s = now_s
        try:
            if self._stream is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._stream = self._partial.open("x", encoding="utf-8", newline="\n")
                self._stream.writelines(self._head(self._facts))
            self._stream.writelines(_rows(self._waiting))
            self._stream.flush()
        except OSError:
            self._broken = True
        self._waiting = []

    def finish(self, samples: Sequence[Sample], facts: Mapping[str, object]) -> str:
        """Write the whole span and wait for the disk; return the file's name. It appears whole or not at all.

        Args:
            samples: all of it, with those on both sides that its edges are interpolated with.
            facts: those that were not known from the start.

        Raises:
            OSError: the folder cannot be written; the partial file stays.
        """
        file_name = f"{self._stem}.csv.gz"
        temporary = self._folder / f".{file_name}.part"
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as raw:
                with gzip.open(raw, "wt", encoding="utf-8", newline="\n") as stream:
                    stream.writelines(self._head({**self._facts, **facts}))
                    stream.writelines(_rows(samples))
                raw.flush()
                os.fsync(raw.fileno())
            temporary.replace(self._folder / file_name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        self.drop()
        return file_name

    def drop(self) -> None:
        """Take the partial file away. Safe to call twice."""
        self._broken = True
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
            with contextlib.suppress(OSError):
                self._partial.unlink()

    @property
    def _partial(self) -> Path:
        return self._folder / f"{self._stem}.partial.csv"

    def _head(self, facts: Mapping[str, object]) -> Iterable[str]:
        return [*(f"# {key}: {value}\n" for key, value in facts.items()), f"t_mono_s,{self._column}\n"]


def _rows(samples: Iterable[Sample]) -> Iterable[str]:
    return (f"{t_s:.6f},{value:.6f}\n" for t_s, value in samples)
