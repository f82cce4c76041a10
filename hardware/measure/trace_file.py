"""Trace file: a trace while it is being taken.

Samples are appended to ``NAME.partial.csv``, a few seconds' worth at a time, so that a run that is killed in the middle
of a long cell leaves what it had seen. Nothing waits for the disk meanwhile: that is left to the system, and what it
writes later is some kB a minute. When the span is over, the whole of it becomes a trace, and the other file goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from hardware.measure.trace import PARTIAL, free_stem, lines, write_whole
from hardware.source import Sample

FLUSH_S = 5.0
"""Samples of so long are handed to the system at once: in the thread that has just fetched them, so nobody wakes up."""


class TraceFile:
    """One span's samples. What is there already is never written over.

    Args:
        folder: made with the first samples.
        name: of the span.
        column: one of `hardware.measure.trace.COLUMNS`.
        facts: known from the start.
    """

    def __init__(self, folder: Path, name: str, *, column: str, facts: Mapping[str, object]) -> None:
        self._folder = folder
        self._stem = free_stem(folder, name)
        self._partial = folder / f"{self._stem}{PARTIAL}"
        self._column = column
        self._facts = facts
        self._waiting: list[Sample] = []
        self._flushed_s: float | None = None
        self._stream: TextIO | None = None
        self._over = False

    def add(self, samples: Sequence[Sample], now_s: float) -> None:
        """Take samples as they come. What the disk refuses is kept out of the partial file, and shows in `finish`."""
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
                self._folder.mkdir(parents=True, exist_ok=True)
                self._stream = self._partial.open("x", encoding="utf-8", newline="\n")
                self._stream.writelines(lines((), column=self._column, facts=self._facts))
            self._stream.writelines(lines(self._waiting))
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
        everything = {**self._facts, **facts}
        file_name = write_whole(self._folder, self._stem, samples, column=self._column, facts=everything)
        self.drop()
        return file_name

    def drop(self) -> None:
        """Take the partial file away. Safe to call twice."""
        self._over = True
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
            with contextlib.suppress(OSError):
                self._partial.unlink()
