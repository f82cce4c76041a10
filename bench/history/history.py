"""Make the history of one device: from folders of runs to the list of changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.compare.rules import Rules
from bench.compare.verdict import JOULES
from bench.history.changes import Change, changes_of, worst_first
from bench.history.nights import Choice, Nights, Progress, collect
from bench.history.series import Table, tables
from bench.history.steps import LEVEL, Found, find_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A series whose last nights lie far off, too few of them to prove a change.

    Attributes:
        table, series: which one.
        nights: how many nights, 1 or 2.
        change: from the level before, as in Change.
    """

    table: Table
    series: int
    nights: int
    change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The history of many runs.

    Attributes:
        nights: the runs, and what was left out.
        tables: a table of series per measure that any night has.
        found: what was found in each table.
        changes: proven and at least as large as the margin, worst first.
        small: proven changes below the margin.
        fresh: what may become a change.
        rules: margins, limits and the basis of joules.
    """

    nights: Nights
    tables: tuple[Table, ...]
    found: tuple[Found, ...]
    changes: tuple[Change, ...]
    small: int
    fresh: tuple[Fresh, ...]
    rules: Rules

    def failing(self, since: str | None = None) -> list[Change]:
        """List changes for the worse that stand and are at least as large as the rules' limits.

        Args:
            since: a day (ISO 8601); only changes that began then or later.
        """
        limits = self.rules.fail_on
        return [
            change
            for change in self.changes
            if change.worse
            and change.recovered is None
            and change.measure.name in limits
            and abs(change.change) >= limits[change.measure.name]
            and (since is None or change.date >= since)
        ]


def history(
    given: Sequence[Path | str],
    *,
    rules: Rules | None = None,
    choice: Choice | None = None,
    index_file: Path | None = None,
    progress: Progress = lambda _done, _total, _name: None,
) -> History:
    """Read the runs under some folders, those of one device, and find what changed.

    Raises:
        RequestError: a folder holds no run, or none that can be used.
    """
    rules, choice = rules or Rules(), choice or Choice()
    nights = collect(given, index_file, choice, progress)
    measures = tables(nights.nights, rules.basis)
    # the measures share the chance of a false alarm
    found = [find_steps(table.values, table.floor, LEVEL / len(measures)) for table in measures]
    proven: list[Change] = []
    for table, steps in zip(measures, found, strict=True):
        proven += changes_of(table, steps, nights.nights, rules.margins[table.measure.name])
    large = [change for change in proven if abs(change.change) >= rules.margins[change.measure.name]]
    return History(
        nights=nights,
        tables=tuple(measures),
        found=tuple(found),
        changes=tuple(worst_first(large, rules.margins)),
        small=len(proven) - len(large),
        fresh=tuple(_fresh(measures, found, rules.margins)),
        rules=rules,
    )


def _fresh(measures: Sequence[Table], found: Sequence[Found], margins: Mapping[str, float]) -> list[Fresh]:
    """List series whose value of the last night is odd; worst first."""
    made = []
    for table, steps in zip(measures, found, strict=True):
        seen = ~np.isnan(table.values)
        for series in np.flatnonzero(steps.odd[:, -1] & steps.enough):
            nights = np.flatnonzero(seen[series])
            n = int(np.argmin(steps.odd[series, nights][::-1]))
            usual = steps.level[series, nights[-n - 1]]
            off = float(np.median(table.values[series, nights[-n:]]) - usual)
            change = float(np.expm1(off)) if table.measure == JOULES else off
            if abs(change) >= margins[table.measure.name]:
                made.append(Fresh(table=table, series=int(series), nights=n, change=change))
    return sorted(made, key=lambda one: -abs(one.change) / margins[one.table.measure.name])
