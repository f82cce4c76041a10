"""Show a history in the terminal, and write it as history.csv and history.md, from the same sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.analysis.ci import Case, Outcome
from bench.analysis.summary import to_csv as csv_text
from bench.analysis.tables import escape_markdown
from bench.analysis.wording import count
from bench.compare.rules import limit_text
from bench.compare.verdict import JOULES
from bench.history import wording
from bench.history.changes import Change
from bench.history.history import History
from bench.history.local_level import Floats
from bench.text import spark

WIDTH = 110
MAX_CHANGES = 16
"""Changes shown in the terminal; the worst come first, and --out writes them all."""

MAX_LINES = 8
_BINS = 60


def terminal(history: History) -> Group:
    """Make the renderable: scope, verdict, nights of many changes, an entry per change with its series, notes."""
    parts: list[Text | Table] = [
        Text(wording.title(history), style="bold"),
        Text(wording.scope(history), style="dim"),
        Text(),
        Text(wording.verdict(history), style="bold"),
    ]
    events = wording.event_sentences(history)
    if events:
        parts += [Text(), Text("Together:"), _bullets(events)]
    if history.changes:
        parts += [Text(), _entries(history)]
    more = len(history.changes) - MAX_CHANGES
    if more > 0:
        parts.append(Text(f"and {count(more, 'more change')}; --out DIR writes them all", style="dim"))
    fresh = wording.fresh_sentences(history)
    if fresh:
        parts += [Text(), Text("Not proven, but far off:"), _bullets(fresh)]
    notes = wording.notes(history)
    if notes:
        parts += [Text(), *(Text(note, style="yellow") for note in notes)]
    return Group(*parts, Text(), Text(wording.legend(history), style="dim"))


def _bullets(sentences: Sequence[str]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for sentence in sentences[:MAX_LINES]:
        grid.add_row(Text(" -"), Text(sentence))
    more = len(sentences) - MAX_LINES
    if more > 0:
        grid.add_row("", Text(f"and {more} more", style="dim"))
    return grid


def _entries(history: History) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    tables = {table.measure: (table, found) for table, found in zip(history.tables, history.found, strict=True)}
    for change in history.changes[:MAX_CHANGES]:
        style = "dim" if change.recovered is not None else "bold red" if change.worse else "bold green"
        table, found = tables[change.measure]
        values = np.where(found.odd[change.series], np.nan, table.values[change.series])
        grid.add_row(
            Text(wording.state(change), style=style),
            Text.assemble(
                f"{wording.sentence(change, history)}.\n",
                (f"{wording.detail(change, history)}\n", "dim"),
                f"{wording.reason(change)}\n",
                f"{picture(values, change.night)}\n",
            ),
        )
    return grid


def picture(values: Floats, night: int) -> str:
    """Draw a series in one line, with a bar between the nights before a change and those from it on."""
    n = len(values)
    share = night / n
    left = min(max(round(_BINS * share), 1), _BINS - 1) if n > _BINS else night
    right = _BINS - left if n > _BINS else n - night
    bins = _binned(values[:night], left) + _binned(values[night:], right)
    text = spark(bins)
    return f"{text[:left]}│{text[left:]}"


def _binned(values: Floats, bins: int) -> list[float | None]:
    parts = [part[~np.isnan(part)] for part in np.array_split(values, bins)]
    return [float(np.median(part)) if len(part) else None for part in parts]


def failing_sentence(failing: Sequence[Change], history: History) -> str:
    """Describe the changes that fail a check; '' where there are none."""
    if not failing:
        return ""
    limits = ",".join(limit_text(name, limit) for name, limit in history.rules.fail_on.items())
    who = "; ".join(f"{wording.sentence(change, history)}" for change in failing[:3])
    more = f"; and {len(failing) - 3} more" if len(failing) > 3 else ""
    return f"{count(len(failing), 'proven change')} for the worse by {limits}: {who}{more}"


def cases(history: History, failing: Sequence[Change]) -> list[Case]:
    """A verdict for each proven change, for CI; one that says so where there is none.

    Args:
        failing: the changes that fail a check.
    """
    found = []
    for change in history.changes:
        bad = change.worse and change.recovered is None
        outcome: Outcome = "failed" if change in failing else "worse" if bad else "better"
        if change.worse and not bad:
            outcome = "passed"
        data, train_size, arm = change.condition
        found.append(
            Case(
                group=change.measure.heading,
                name=f"{data} n={train_size:g} {arm}",
                outcome=outcome,
                text=f"{wording.sentence(change, history)}: {wording.detail(change, history)}",
            )
        )
    return found or [
        Case(group="history", name=wording.title(history), outcome="passed", text=wording.verdict(history))
    ]


# -- files -------------------------------------------------------------------------------------------


def to_csv(history: History) -> str:
    """One row per change, worst first, units in the names."""
    rows = []
    for change in history.changes:
        data, train_size, arm = change.condition
        is_joules = change.measure == JOULES
        unit = "percent" if is_joules else "points"
        recovered = None if change.recovered is None else history.nights.nights[change.recovered]
        rows.append(
            {
                "measure": change.measure.name,
                "data": data,
                "train_size": train_size,
                "arm": arm,
                "state": wording.state(change),
                "first_night": change.date,
                "first_run": change.run,
                "earliest_night": history.nights.nights[change.earliest].date,
                "latest_night": history.nights.nights[change.latest].date,
                "unit": unit,
                "change": round(100 * change.change, 6),
                "change_lo95": round(100 * change.lo, 6),
                "change_hi95": round(100 * change.hi, 6),
                "p_adjusted": change.p,
                "before_j" if is_joules else "before_percent": change.before * (1 if is_joules else 100),
                "after_j" if is_joules else "after_percent": change.after * (1 if is_joules else 100),
                "train_time_change_percent": None if change.seconds is None else round(100 * change.seconds, 6),
                "mean_power_change_percent": None if change.power is None else round(100 * change.power, 6),
                "recovered_night": None if recovered is None else recovered.date,
                "recovered_run": None if recovered is None else recovered.name,
                "with_it": "; ".join(change.reasons),
            }
        )
    columns = [
        *("measure", "data", "train_size", "arm", "state", "first_night", "first_run"),
        *("earliest_night", "latest_night", "unit", "change", "change_lo95", "change_hi95", "p_adjusted"),
        *("before_j", "after_j", "before_percent", "after_percent"),
        *("train_time_change_percent", "mean_power_change_percent", "recovered_night", "recovered_run", "with_it"),
    ]
    return csv_text(pd.DataFrame(rows, columns=pd.Index(columns)))


def to_markdown(history: History) -> str:
    """The same sentences as a page of text."""

    def bullets(sentences: Sequence[str]) -> list[str]:
        return [f"- {escape_markdown(sentence)}" for sentence in sentences]

    lines = [f"# {escape_markdown(wording.title(history))}: history", "", escape_markdown(wording.scope(history))]
    lines += ["", f"**{wording.verdict(history)}**"]
    if events := wording.event_sentences(history):
        lines += ["", "## Together", "", *bullets(events)]
    if history.changes:
        lines += ["", "## Changes", ""]
        lines += bullets(
            [
                f"{wording.sentence(change, history)}: {wording.detail(change, history)}; {wording.reason(change)}."
                for change in history.changes
            ]
        )
    if fresh := wording.fresh_sentences(history):
        lines += ["", "## Not proven, but far off", "", *bullets(fresh)]
    if notes := wording.notes(history):
        lines += ["", "## Notes", "", *bullets(notes)]
    return "\n".join([*lines, "", escape_markdown(wording.legend(history)), ""])
