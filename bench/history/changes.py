"""Make changes of proven steps: worst first, with what else changed that night."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.compare.verdict import JOULES, Measure
from bench.history.local_level import Floats
from bench.history.nights import Night
from bench.history.series import Condition, Table
from bench.history.steps import Found, Step
from bench.store.difference import changes as differences

GAP_DAYS = 7
"""Days without a run, before a change, from which they are worth telling."""

_HEALTH = {"idle_power_w": ("idle power", "W", 0.05), "temperature_before_c": ("temperature before", "°C", 3.0)}
"""Median of the nights around a change: its name, its unit, and from which difference it is listed."""

MAX_NEAR = 10
"""Nights besides its own whose manifests are searched for what came with a change."""

_AROUND = 5
"""Nights on either side of a change that such a median is over, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A proven step of one series.

    Attributes:
        measure: joules or accuracy.
        condition: whose; series: its row in the table of its measure. n_train: images, nan where not known.
        night: number of the first night on the new level; run, date: its folder's name and its day.
        earliest, latest: numbers of the nights on which the change may as well have begun.
        change, lo, hi: with 95 % interval. Joules: new over old, less 1; accuracy: a difference of fractions.
        p: after the correction for all nights and all series.
        before, after: level on either side, J or fraction.
        worse: more joules or less accuracy.
        recovered: number of the night from which on the level is no longer on this side of that before the change,
            None while it stands.
        seconds, power: of joules: how much of the change is time and how much mean power, new over old less 1.
        reasons: what else changed with it, in words.
    """

    measure: Measure
    condition: Condition
    series: int
    n_train: float
    night: int
    run: str
    date: str
    earliest: int
    latest: int
    change: float
    lo: float
    hi: float
    p: float
    before: float
    after: float
    worse: bool
    recovered: int | None
    seconds: float | None
    power: float | None
    reasons: tuple[str, ...]


def changes_of(table: Table, found: Found, nights: Sequence[Night], margin: float) -> list[Change]:
    """Make a Change of every step, in the order of the table; a step that takes an earlier one back ends that one.

    Args:
        margin: what is too small to matter: a fraction of joules, or of accuracy.
    """
    measure, is_joules = table.measure, table.measure == JOULES
    scale = math.log1p(margin) if is_joules else margin
    shown, level = (math.expm1, math.exp) if is_joules else (float, float)
    reasons: dict[tuple[int, int, int], tuple[str, ...]] = {}
    made = []
    for series, steps in enumerate(found.steps):
        if not steps:
            continue
        ends, told = _outcomes(steps, np.where(found.odd[series], np.nan, table.values[series]), scale)
        for place, step in enumerate(steps):
            if not told[place]:
                continue  # by the change that it takes back
            when = step.earliest, step.night, step.latest
            if when not in reasons:
                reasons[when] = tuple(_reasons(nights, *when))
            seconds = _seconds(table, series, steps, place, found) if is_joules else None
            made.append(
                Change(
                    measure=measure,
                    condition=table.conditions[series],
                    series=series,
                    n_train=float(table.n_train[series]),
                    night=step.night,
                    run=nights[step.night].name,
                    date=nights[step.night].date,
                    earliest=step.earliest,
                    latest=step.latest,
                    change=shown(step.change),
                    lo=shown(step.lo),
                    hi=shown(step.hi),
                    p=step.p,
                    before=level(step.before),
                    after=level(step.after),
                    worse=(step.change > 0) != measure.more_is_better,
                    recovered=ends[place],
                    seconds=None if seconds is None else math.expm1(seconds),
                    power=None if seconds is None else math.expm1(step.change - seconds),
                    reasons=reasons[when],
                )
            )
    return made


def _outcomes(steps: list[Step], values: Floats, margin: float) -> tuple[list[int | None], list[bool]]:
    """Of the steps of a series: the night on which each had ended, None while it stands; and whether it is to be told.

    A step has ended where the level lies no longer on its side of that before it, but for the margin or its doubt, and
    at most half of it: after a later step, or at present. A later step that takes it back, and goes no further, is its
    end and no change of its own. One that goes further has ended too when the level is back where it all began.

    Args:
        values: of the series, nan where missing or odd.
        margin: what is too small to matter, on the scale of the values.
    """
    starts = [step.night for step in steps]
    bounds = [0, *starts, len(values)]
    segments = [values[low:high][~np.isnan(values[low:high])] for low, high in pairwise(bounds)]
    before = [_middle(segment[-_PRESENT:], step.before) for segment, step in zip(segments, steps, strict=False)]
    after = [_middle(segment[:_PRESENT], step.after) for segment, step in zip(segments[1:], steps, strict=True)]
    present = _middle(segments[-1][-_PRESENT:], after[-1])
    ends: list[int | None] = [None] * len(steps)
    told = [True] * len(steps)
    origins = [{level} for level in before]
    for place, step in enumerate(steps):
        sign, doubt = np.sign(step.change), max(margin, (step.hi - step.lo) / 2)
        limit = min(doubt, abs(step.change) / 2)

        # back is what lies beyond none of its origins by more than the limit
        least = max(sign * origin for origin in origins[place]) + limit
        for later in range(place + 1, len(steps)):
            if sign * after[later] > least:
                continue
            ends[place] = starts[later]
            if sign * (after[later] - before[place]) >= -doubt:
                told[later] = False
            else:
                origins[later] |= origins[place]
            break
        else:
            if sign * present <= least:
                ends[place] = starts[-1] + _since(sign * values[starts[-1] :] <= least)
    return ends, told


_PRESENT = 10
"""Nights whose median is a level: the present one, and those next to a step."""


def _middle(values: Floats, otherwise: float) -> float:
    return float(np.median(values)) if len(values) else otherwise


def _since(back: NDArray[np.bool_]) -> int:
    """Place of the first night from which on nine in ten nights are back."""
    share = back[::-1].cumsum() / np.arange(1, len(back) + 1)
    enough = np.flatnonzero(share >= 0.9)  # by how many nights from the end
    return len(back) - 1 - int(enough[-1]) if len(enough) else len(back) - 1


def _seconds(table: Table, series: int, steps: list[Step], place: int, found: Found) -> float | None:
    """Compute the change of training time with a step of joules, as a logarithm: medians of the nights around it."""
    night = steps[place].night
    since = steps[place - 1].night if place else 0
    until = steps[place + 1].night if place + 1 < len(steps) else table.values.shape[1]
    usable = np.where(found.odd[series], np.nan, table.seconds[series])
    before, after = usable[max(since, night - 4 * _AROUND) : night], usable[night : min(until, night + 4 * _AROUND)]
    if np.isnan(before).all() or np.isnan(after).all():
        return None
    return float(np.nanmedian(after) - np.nanmedian(before))


def _reasons(nights: Sequence[Night], earliest: int, night: int, latest: int) -> list[str]:
    """List what manifests and device state say changed on a night, or on those on which the step may have begun."""
    found = _differences(nights, night)
    near = [other for other in range(earliest, latest + 1) if other not in (0, night)]
    for other in sorted(near, key=lambda other: abs(other - night))[:MAX_NEAR]:
        found += [f"{words} (on {nights[other].date})" for words in _differences(nights, other)]
    for name, (words, unit, least) in _HEALTH.items():
        sides = [
            [value for one in part if (value := one.summary.health.get(name)) is not None]
            for part in (nights[max(0, night - _AROUND) : night], nights[night : night + _AROUND])
        ]
        if all(sides):
            before, after = (float(np.median(side)) for side in sides)
            limit = least * before if unit == "W" else least
            if abs(after - before) > limit:
                found.append(f"{words} {before:.3g} {unit} -> {after:.3g} {unit}")
    return found


def _differences(nights: Sequence[Night], night: int) -> list[str]:
    """List what differs in a night's manifest from that of the night before."""
    old, new = nights[night - 1], nights[night]
    found = differences(old.summary.environment, new.summary.environment)
    for part in ("settings", "device", "meter"):
        found += differences(old.summary.identity[part], new.summary.identity[part])
    days = (date.fromisoformat(new.date) - date.fromisoformat(old.date)).days
    return [*found, *([f"no run for {days} days before"] if days >= GAP_DAYS else [])]


def worst_first(changes: Sequence[Change], margins: Mapping[str, float]) -> list[Change]:
    """Sort changes: standing ones for the worse, standing ones for the better, recovered ones; each largest first.

    Sizes of joules and accuracy are made alike by what of each is too small to matter.
    """

    def key(change: Change) -> tuple[int, float, int]:
        rank = 2 if change.recovered is not None else 0 if change.worse else 1
        size = abs(math.log1p(change.change)) if change.measure == JOULES else abs(change.change)
        return rank, -size / margins[change.measure.name], change.night

    return sorted(changes, key=key)
