"""Delegate: a source that passes everything on to another one. Base of those that change or overhear its figures."""

from __future__ import annotations

from pathlib import Path

from hardware.source import Health, OwnCounter, Source, SourceInfo


class Delegate(Source):
    """All that is common to the kinds of sources. What yields joules is left to the subclass."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.self_timed = inner.self_timed

    @property
    def info(self) -> SourceInfo:
        return self._inner.info

    def open(self) -> None:
        self._inner.open()

    def close(self) -> None:
        self._inner.close()

    @property
    def health(self) -> Health:
        return self._inner.health

    def record_raw(self, path: Path) -> bool:
        return self._inner.record_raw(path)

    def own_counter(self) -> OwnCounter | None:
        return self._inner.own_counter()

    def mark(self, t_mono_s: float, *, working: bool) -> None:
        self._inner.mark(t_mono_s, working=working)
