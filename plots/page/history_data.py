"""What the history page's chart draws: each series with its level and its changes, in parts unpacked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.analysis.wording import joule_unit
from bench.compare.verdict import JOULES
from bench.history import Change, History
from bench.history.local_level import Floats
from bench.history.series import Table
from bench.history.steps import Found
from bench.history.wording import detail, label, reason, sentence, state

PER_CHUNK = 40
TONES = {"worse": "bad", "better": "good", "recovered": "dim"}


@dataclass(frozen=True, kw_only=True)
class SeriesSet:
    """All series of a history, for a page.

    Attributes:
        entries: of each series its measure, its label and how many changes it has.
        chunks: parts of PER_CHUNK series each.
        number: of the series of a measure and a row of its table.
    """

    entries: list[tuple[str, str, int]]
    chunks: list[list[dict[str, Any]]]
    number: Mapping[tuple[str, int], int]


def collect(history: History) -> SeriesSet:
    """Every series, those of joules first."""
    changes: dict[tuple[str, int], list[Change]] = {}
    for change in history.changes:
        changes.setdefault((change.measure.name, change.series), []).append(change)
    entries: list[tuple[str, str, int]] = []
    series: list[dict[str, Any]] = []
    number: dict[tuple[str, int], int] = {}
    for table, found in zip(history.tables, history.found, strict=True):
        for row, cell in enumerate(table.cells):
            key = table.measure.name, row
            mine = changes.get(key, [])
            number[key] = len(series)
            entries.append((table.measure.heading, label(cell, float(table.n_train[row])), len(mine)))
            series.append(_series(table, found, row, mine, history))
    chunks = [series[start : start + PER_CHUNK] for start in range(0, len(series), PER_CHUNK)]
    return SeriesSet(entries=entries, chunks=chunks, number=number)


def _series(table: Table, found: Found, row: int, changes: list[Change], history: History) -> dict[str, Any]:
    values, level = table.values[row], found.level[row]
    first, last = np.flatnonzero(~np.isnan(values))[[0, -1]]
    night = np.arange(len(level))
    level = np.where((night >= first) & (night <= last) & found.enough[row], level, np.nan)
    if table.measure == JOULES:
        values, level = np.exp(values), np.exp(level)
        factor, unit = joule_unit(float(np.nanmedian(values)))
    else:
        factor, unit = 0.01, "%"
    return {
        "unit": unit,
        "y": _short(values / factor),
        "level": _short(level / factor),
        "odd": np.flatnonzero(found.odd[row]).tolist(),
        "changes": [
            {
                "night": change.night,
                "until": change.recovered,
                "tone": TONES[state(change)],
                "text": f"{sentence(change, history)}: {detail(change, history)}; {reason(change)}.",
            }
            for change in sorted(changes, key=lambda change: change.night)
        ],
    }


def _short(values: Floats) -> list[float | None]:
    """Five digits are more than the eye sees."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
