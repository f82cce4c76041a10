"""The history page: what changed and since when, in words first; then each series, and the runs behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.wording import MISSING, count, joule_unit, missing, points
from bench.compare.verdict import JOULES
from bench.history import Change, History, wording
from bench.history.local_level import Floats
from bench.history.series import Table
from bench.history.steps import Found
from plots.outputs import write_files
from plots.page.frame import Section, render_page
from plots.page.table import Column, number, table_data

WIDGETS = ("chart", "table", "history")
MAX_SENTENCES = 40
MAX_EVENTS = 12
PER_CHUNK = 40
"""Series that are unpacked together when one of them is looked at."""

_TONES = {"worse": "bad", "better": "good", "recovered": "dim"}
_VERSIONS = ("jouletune", "torch", "kernel", "governor")
_WIDTH, _HEIGHT = 360.0, 48.0

SeriesNumbers = dict[tuple[str, int], int]
"""(name of the measure, row of its table) -> number of the series on the page."""


def write_history(history: History, path: Path) -> Path:
    """Write the page of a history.

    Raises:
        RequestError: a file of that name is no page of a history.
        JouletuneError: it cannot be written.
    """
    write_files(path.parent, {path.name: render(history).encode("utf-8", "backslashreplace")}, "history")
    return path


def render(history: History) -> str:
    """Render the whole page."""
    numbers: SeriesNumbers = {}
    for table in history.tables:
        for row in range(len(table.conditions)):
            numbers[table.measure.name, row] = len(numbers)
    sections = [_summary(history)]
    if history.changes:
        sections += [_words(history), _changes(history, numbers)]
    sections += [_series(history, numbers), _conditions(history, numbers), _runs(history)]
    sections.append(Section(title="How a change is found", macro="method", view={"legend": wording.legend(history)}))
    title = f"{wording.title(history)}: history"
    return render_page("history.html", title, wording.scope(history), sections, widgets=WIDGETS)


def _summary(history: History) -> Section:
    def shortened(sentences: list[str], noun: str) -> list[str]:
        more = len(sentences) - MAX_EVENTS
        return [*sentences[:MAX_EVENTS], *([f"and {more} more{noun}"] if more > 0 else [])]

    states = Counter(map(wording.state, history.changes))
    view = {
        "figures": [
            (str(states["worse"]), "changes for the worse stand"),
            (str(states["better"]), "changes for the better stand"),
            (str(states["recovered"]), "changes have recovered"),
        ],
        "verdict": wording.verdict(history),
        "events": shortened(wording.event_sentences(history), " nights"),
        "fresh": shortened(wording.fresh_sentences(history), ""),
        "notes": wording.notes(history),
    }
    return Section(title="Summary", macro="summary", view=view)


def _words(history: History) -> Section:
    """Describe the worst changes one by one, each with a drawing of its series."""
    tables = {table.measure: (table, found) for table, found in zip(history.tables, history.found, strict=True)}
    items = []
    for change in history.changes[:MAX_SENTENCES]:
        table, found = tables[change.measure]
        values = np.where(found.odd[change.series], np.nan, table.values[change.series])
        state = wording.state(change)
        items.append(
            {
                "state": state,
                "tone": _TONES[state],
                "sentence": wording.sentence(change, history),
                "detail": _detail(change, history),
                "sketch": _sketch(values, found.level[change.series], change),
            }
        )
    more = len(history.changes) - len(items)
    return Section(
        title="In words", macro="words", view={"changes": items, "more": count(more, "more change") if more else ""}
    )


def _detail(change: Change, history: History) -> str:
    return f"{wording.detail(change, history)}; {wording.reason(change)}"


def _sketch(values: Floats, level: Floats, change: Change) -> dict[str, str]:
    """Return size and SVG paths of a small drawing of a series."""
    known = np.flatnonzero(~np.isnan(values)).tolist()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    span = max(high - low, 1e-9)

    def x(night: float) -> str:
        return f"{3 + (_WIDTH - 6) * night / max(len(values) - 1, 1):.1f}"

    def y(value: float) -> str:
        return f"{3 + (_HEIGHT - 6) * (1 - (value - low) / span):.1f}"

    return {
        "width": f"{_WIDTH:g}",
        "height": f"{_HEIGHT:g}",
        "at": f"M{x(change.night - 0.5)} 0V{_HEIGHT:g}",
        "dots": "".join(f"M{x(night)} {y(values[night])}h0" for night in known),
        "level": "".join(f"{'L' if n else 'M'}{x(night)} {y(level[night])}" for n, night in enumerate(known)),
    }


def _changes(history: History, numbers: SeriesNumbers) -> Section:
    changes = history.changes

    def size(change: Change) -> str:
        lo, hi = (f"{100 * end:+.2f}" for end in (change.lo, change.hi))
        unit = "%" if change.measure == JOULES else "points"
        return f"{100 * change.change:+.2f} [{lo}, {hi}] {unit}".replace("-", "\N{MINUS SIGN}")

    def until(change: Change) -> str:
        return "" if change.recovered is None else history.nights.nights[change.recovered].date

    columns = [
        Column(heading="Condition", values=[wording.label(change.condition, change.n_train) for change in changes]),
        _show([numbers[change.measure.name, change.series] for change in changes]),
        Column(heading="State", values=[wording.state(change) for change in changes], choice=True, tones=_TONES),
        Column(heading="Measure", values=[change.measure.heading for change in changes], choice=True),
        number(
            "Change",
            [100 * change.change for change in changes],
            1,
            texts=[size(change) for change in changes],
            about="new level against the old one, with 95 % interval",
        ),
        Column(heading="Since", values=[change.date for change in changes], choice=True),
        Column(heading="Run", values=[change.run for change in changes]),
        Column(heading="Until", values=[until(change) for change in changes]),
        Column(heading="With it", values=[list(change.reasons) for change in changes], kind="list", choice=True),
    ]
    return Section(title="Changes", macro="changes", view={"table": table_data("Changes", columns)})


def _show(series: Sequence[int]) -> Column:
    return Column(heading="Show", values=series, kind="action", about="Series of")


def _series(history: History, numbers: SeriesNumbers) -> Section:
    """Collect what web/history.js draws: every series with its level and its changes, those of joules first."""
    changes: dict[tuple[str, int], list[Change]] = {}
    for change in history.changes:
        changes.setdefault((change.measure.name, change.series), []).append(change)
    entries: list[tuple[str, str, int]] = []
    series: list[dict[str, Any]] = []
    for table, found in zip(history.tables, history.found, strict=True):
        for row, condition in enumerate(table.conditions):
            mine = changes.get((table.measure.name, row), [])
            entries.append((table.measure.heading, wording.label(condition, float(table.n_train[row])), len(mine)))
            series.append(_one_series(table, found, row, mine, history))
    worst = history.changes[0] if history.changes else None
    nights = history.nights.nights
    data = {
        "entries": entries,
        "perChunk": PER_CHUNK,
        "block": "series",
        "dates": [night.date for night in nights],
        "runs": [night.name for night in nights],
        "first": numbers[worst.measure.name, worst.series] if worst else 0,
    }
    chunks = [series[start : start + PER_CHUNK] for start in range(0, len(series), PER_CHUNK)]
    return Section(title="Series", macro="series", view={"data": data, "chunks": chunks})


def _one_series(table: Table, found: Found, row: int, changes: list[Change], history: History) -> dict[str, Any]:
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
                "tone": _TONES[wording.state(change)],
                "text": f"{wording.sentence(change, history)}: {_detail(change, history)}.",
            }
            for change in sorted(changes, key=lambda change: change.night)
        ],
    }


def _short(values: Floats) -> list[float | None]:
    """Round to five digits, finer than a screen; None for nan."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def _conditions(history: History, numbers: SeriesNumbers) -> Section:
    """Make a table of the series: the level on the last night against that on the first."""
    changed = Counter((change.measure.name, change.series) for change in history.changes)
    rows = []
    for table, found in zip(history.tables, history.found, strict=True):
        is_joules = table.measure == JOULES
        for row, condition in enumerate(table.conditions):
            seen = np.flatnonzero(~np.isnan(table.values[row]) & ~found.odd[row])
            now, then = (float(found.level[row, seen[place]]) for place in (-1, 0)) if len(seen) else (np.nan,) * 2
            moved = float(np.expm1(now - then)) if is_joules else now - then
            key = table.measure.name, row
            level_text = wording.figure(table.measure, float(np.exp(now)) if is_joules else now)
            moved_text = MISSING if missing(moved) else f"{points(moved, 2)} {'%' if is_joules else 'points'}"
            name = wording.label(condition, float(table.n_train[row]))
            measure = table.measure.heading
            rows.append(
                (name, numbers[key], measure, now, level_text, 100 * moved, moved_text, changed[key], len(seen))
            )
    names, series, measures, levels, level_texts, moves, move_texts, changes, nights = zip(*rows, strict=True)
    columns = [
        Column(heading="Condition", values=names),
        _show(series),
        Column(heading="Measure", values=measures, choice=True),
        number("Now", levels, 1, texts=level_texts),
        number("Since the first night", moves, 1, texts=move_texts, about="drift and steps together"),
        number("Changes", changes),
        number("Nights", nights),
    ]
    return Section(title="Conditions", macro="conditions", view={"table": table_data("Conditions", columns)})


def _runs(history: History) -> Section:
    nights = history.nights.nights[::-1]
    begun = Counter(change.night for change in history.changes)
    odd = np.sum([found.odd.sum(axis=0) for found in history.found], axis=0)
    order = range(len(nights) - 1, -1, -1)
    columns = [
        Column(heading="Run", values=[night.name for night in nights]),
        Column(heading="Date", values=[night.date for night in nights]),
        number("Changes", [begun[place] for place in order]),
        number("Odd values", [odd[place] for place in order], about="far off the nights around it, left out"),
        number("Lost repeats", [sum(night.summary.lost.values()) for night in nights]),
        Column(heading="Grades", values=[sorted(night.summary.grades) for night in nights], kind="list"),
    ]
    for name in _VERSIONS:
        values = [str(night.summary.environment.get(name) or "") for night in nights]
        columns.append(Column(heading=name, values=values, choice=True))
    left_out = [f"{lost.name}: {lost.reason}." for lost in history.nights.left_out]
    view = {
        "table": table_data("Runs", columns),
        "left_out": left_out,
        "left_out_title": f"{count(len(left_out), 'folder')} left out",
    }
    return Section(title="Runs", macro="runs", view=view)
