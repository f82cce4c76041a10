"""The history page: what changed and since when, in words first; then each cell's series, and the runs behind it."""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path

import numpy as np

from bench.analysis.wording import MISSING, count, missing, points
from bench.compare.verdict import JOULES
from bench.history import Change, History, wording
from bench.history.local_level import Floats
from bench.store.durable import write_atomic
from plots.page.frame import bullets, note, prose, render_page, section, tiles
from plots.page.history_data import PER_CHUNK, TONES, SeriesSet, collect
from plots.page.table import Column, data_table
from plots.page.widgets import data_block, widget

WIDGETS = ("chart", "table", "history")
MAX_SENTENCES = 40
MAX_EVENTS = 12
_VERSIONS = ("jouletune", "torch", "kernel", "governor")
_WIDTH, _HEIGHT = 360.0, 48.0


def write_history(history: History, path: Path) -> Path:
    """Write the page, as a whole.

    Raises:
        JouletuneError: it cannot be written.
    """
    write_atomic(path, render(history))
    return path


def render(history: History) -> str:
    """The whole page. Every text that a user can choose is escaped."""
    series = collect(history)
    sections = [
        _summary(history),
        _words(history),
        _changes(history, series),
        _series(series, history),
        _cells(history, series),
        _runs(history),
        section("How a change is found", f"<p>{prose(wording.legend(history))}</p>"),
    ]
    title = f"{wording.title(history)}: history"
    return render_page(title, wording.scope(history), sections, widgets=WIDGETS, charts=True)


def _summary(history: History) -> str:
    states = Counter(map(wording.state, history.changes))
    body = tiles((str(states[word]), text) for word, text in (
        ("worse", "changes for the worse stand"),
        ("better", "changes for the better stand"),
        ("recovered", "changes have recovered"),
    ))  # fmt: skip
    body += f"<p><strong>{prose(wording.verdict(history))}</strong></p>"
    events = wording.event_sentences(history)
    if events:
        more = [f"and {len(events) - MAX_EVENTS} more nights"] if len(events) > MAX_EVENTS else []
        body += "<h3>Nights on which several cells changed</h3>" + bullets([*events[:MAX_EVENTS], *more])
    fresh = wording.fresh_sentences(history)
    if fresh:
        more = [f"and {len(fresh) - MAX_EVENTS} more"] if len(fresh) > MAX_EVENTS else []
        body += "<h3>Far off on the last nights, not proven</h3>" + bullets([*fresh[:MAX_EVENTS], *more])
    return section("Summary", body + note("What to know", wording.notes(history)))


def _words(history: History) -> str:
    """The worst changes one by one, each with its series; for print and for readers without scripts too."""
    tables = {table.measure: (table, found) for table, found in zip(history.tables, history.found, strict=True)}
    items = []
    for change in history.changes[:MAX_SENTENCES]:
        table, found = tables[change.measure]
        values = np.where(found.odd[change.series], np.nan, table.values[change.series])
        word = wording.state(change)
        items.append(
            f'<li><b class="{TONES[word]}">{word}</b>: {prose(wording.sentence(change, history))}. '
            f'<span class="muted">{prose(wording.detail(change, history))}; {prose(wording.reason(change))}.</span>'
            f"{_sketch(values, found.level[change.series], change)}</li>"
        )
    more = len(history.changes) - len(items)
    rest = f'<p class="muted">{count(more, "more change")} in the table below.</p>' if more > 0 else ""
    return section("In words", f'<ol class="changes">{"".join(items)}</ol>{rest}' if items else "")


def _sketch(values: Floats, level: Floats, change: Change) -> str:
    """The series as a small drawing; the sentence beside it says what it shows."""
    known = np.flatnonzero(~np.isnan(values)).tolist()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    span = max(high - low, 1e-9)

    def x(night: float) -> str:
        return f"{3 + (_WIDTH - 6) * night / max(len(values) - 1, 1):.1f}"

    def y(value: float) -> str:
        return f"{3 + (_HEIGHT - 6) * (1 - (value - low) / span):.1f}"

    dots = "".join(f"M{x(night)} {y(values[night])}h0" for night in known)
    line = "".join(f"{'L' if n else 'M'}{x(night)} {y(level[night])}" for n, night in enumerate(known))
    at = x(change.night - 0.5)
    return (
        f'<svg class="sketch" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="at" d="M{at} 0V{_HEIGHT:g}"/><path class="dots" d="{dots}"/>'
        f'<path class="level" d="{line}"/></svg>'
    )


def _changes(history: History, series: SeriesSet) -> str:
    changes = history.changes
    if not changes:
        return ""

    def size(change: Change) -> str:
        lo, hi = (f"{100 * end:+.2f}" for end in (change.lo, change.hi))
        unit = "%" if change.measure == JOULES else "points"
        return f"{100 * change.change:+.2f} [{lo}, {hi}] {unit}".replace("-", "\N{MINUS SIGN}")

    def until(change: Change) -> str:
        return "" if change.recovered is None else history.nights.nights[change.recovered].date

    columns = [
        Column(heading="Cell", values=[wording.label(change.cell, change.n_train) for change in changes]),
        Column(
            heading="Show",
            values=[series.number[change.measure.name, change.series] for change in changes],
            kind="action",
            about="Series of",
        ),
        Column(heading="State", values=[wording.state(change) for change in changes], choice=True, tones=TONES),
        Column(heading="Measure", values=[change.measure.heading for change in changes], choice=True),
        Column(
            heading="Change",
            values=[100 * change.change for change in changes],
            texts=[size(change) for change in changes],
            kind="number",
            about="new level against the old one, with 95 % interval",
        ),
        Column(heading="Since", values=[change.date for change in changes], choice=True),
        Column(heading="Run", values=[change.run for change in changes]),
        Column(heading="Until", values=[until(change) for change in changes]),
        Column(heading="With it", values=[list(change.reasons) for change in changes], kind="list", choice=True),
    ]
    plain = "jouletune history --out DIR writes this table as history.csv."
    return section("Changes", data_table("changes", "Changes", columns, plain=plain))


def _series(series: SeriesSet, history: History) -> str:
    nights = history.nights.nights
    value = {
        "entries": series.entries,
        "perChunk": PER_CHUNK,
        "block": "series",
        "dates": [night.date for night in nights],
        "runs": [night.name for night in nights],
        "first": series.number[_first(history)],
    }
    blocks = "".join(data_block(f"series-{number}", chunk) for number, chunk in enumerate(series.chunks))
    plain = '<p class="muted">This page draws the series of each cell with its scripts.</p>'
    return section("Series", widget("history", "history", value, plain=plain) + blocks)


def _first(history: History) -> tuple[str, int]:
    """The worst change's series, else the first."""
    if history.changes:
        return history.changes[0].measure.name, history.changes[0].series
    return history.tables[0].measure.name, 0


def _cells(history: History, series: SeriesSet) -> str:
    """One row per series: where it is now, against where it began."""
    rows: list[tuple[str, str, int, float, str, float, str, int, int]] = []
    changed = Counter((change.measure.name, change.series) for change in history.changes)
    for table, found in zip(history.tables, history.found, strict=True):
        is_joules = table.measure == JOULES
        for row, cell in enumerate(table.cells):
            seen = np.flatnonzero(~np.isnan(table.values[row]) & ~found.odd[row])
            now, then = (float(found.level[row, seen[place]]) for place in (-1, 0)) if len(seen) else (np.nan,) * 2
            moved = 100 * (float(np.expm1(now - then)) if is_joules else now - then)
            shown = wording.figure(table.measure, float(np.exp(now)) if is_joules else now)
            key = table.measure.name, row
            who = wording.label(cell, float(table.n_train[row]))
            change = MISSING if missing(moved) else f"{points(moved / 100, 2)} {'%' if is_joules else 'points'}"
            rows.append(
                (who, table.measure.heading, series.number[key], now, shown, moved, change, changed[key], len(seen))
            )
    columns = [
        Column(heading="Cell", values=[row[0] for row in rows]),
        Column(heading="Show", values=[row[2] for row in rows], kind="action", about="Series of"),
        Column(heading="Measure", values=[row[1] for row in rows], choice=True),
        Column(heading="Now", values=[row[3] for row in rows], texts=[row[4] for row in rows], kind="number"),
        Column(
            heading="Since the first night",
            values=[None if missing(row[5]) else row[5] for row in rows],
            texts=[row[6] for row in rows],
            kind="number",
            about="drift and steps together",
        ),
        Column(heading="Changes", values=[float(row[7]) for row in rows], kind="number", digits=0),
        Column(heading="Nights", values=[float(row[8]) for row in rows], kind="number", digits=0),
    ]
    return section("Cells", data_table("cells", "Cells", columns, plain="This page lists the cells with its scripts."))


def _runs(history: History) -> str:
    nights = history.nights.nights
    begun = Counter(change.night for change in history.changes)
    odd = sum(found.odd.sum(axis=0) for found in history.found)
    order = range(len(nights) - 1, -1, -1)
    columns = [
        Column(heading="Run", values=[nights[place].name for place in order]),
        Column(heading="Date", values=[nights[place].date for place in order]),
        Column(heading="Changes", values=[float(begun[place]) for place in order], kind="number", digits=0),
        Column(
            heading="Odd values",
            values=[float(np.asarray(odd)[place]) for place in order],
            kind="number",
            digits=0,
            about="far off the nights around it, left out",
        ),
        Column(
            heading="Lost repeats",
            values=[float(sum(nights[place].summary.lost.values())) for place in order],
            kind="number",
            digits=0,
        ),
        Column(heading="Grades", values=[sorted(nights[place].summary.grades) for place in order], kind="list"),
        *(
            Column(
                heading=name,
                values=[str(nights[place].summary.environment.get(name) or "") for place in order],
                choice=True,
            )
            for name in _VERSIONS
        ),
    ]
    body = data_table("runs", "Runs", columns, plain="This page lists the runs with its scripts.")
    if history.nights.left_out:
        items = [f"{lost.name}: {lost.reason}." for lost in history.nights.left_out]
        summary = f"{count(len(items), 'folder')} left out"
        body += f"<details><summary>{escape(summary)}</summary>{bullets(items)}</details>"
    return section("Runs", body)
