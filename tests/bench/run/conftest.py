"""Runs without any work in them: folder, lock, manifest and records are real, the cells take no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.process.messages import Prepared, PrepareDone
from bench.run import session as sessions
from bench.run.outcome import cell_fields
from bench.run.plan import Repeat
from bench.store.record import Record
from bench.suite.load import LoadedSuite, load_suite


@pytest.fixture
def loaded(make_suite: Callable[..., Any], tmp_path: Path) -> LoadedSuite:
    make_suite(train_size=[0.1], blocks=["fc", "full"], seeds=[0])
    return load_suite(str(tmp_path / "s.yaml"))


@pytest.fixture
def without_work(monkeypatch: pytest.MonkeyPatch, loaded: LoadedSuite) -> list[Record]:
    """Cells that take no time and come to the same each time; the records that were finished."""
    labels = {cell.data.label for cell in loaded.suite.cells()}
    done = PrepareDone({label: Prepared(Path(), Path(), "d", "w") for label in labels}, "cpu", None)
    finished: list[Record] = []

    def one(self: sessions.Session, repeat: Repeat, *_: object) -> Record:
        return Record(
            **cell_fields(loaded.suite, repeat.cell, done),
            repeat=repeat.number,
            status="ok",
            started_at="2026-01-01T00:00:00.000+00:00",
            session=len(self._manifest.sessions) - 1,
            accuracy_after=0.5,
        )

    def append(self: Any, record: Record) -> None:
        real(self, record)
        finished.append(record)

    real = sessions.RunDir.append
    monkeypatch.setattr(sessions.Session, "_prepare", lambda _: done)
    monkeypatch.setattr(sessions.Session, "_one", one)
    monkeypatch.setattr(sessions.RunDir, "append", append)
    return finished
