"""Refresh: how often the readings of a window were new, and the spans in which they stood still without reason.

A counter of joules proves it. A live one moves as soon as one count c has passed, by the meter's own watts where it has
some, else by the power dE / I of the interval I between two changes of the counter with the step dE: within I c / dE.
What goes beyond is time in which the meter made no new reading. A counter whose steps are on average more than one and
a half times what its stated period explains is slow, and its period is the median interval. One that stands for longer
than `STOOD` such periods was frozen.

A power alone proves less: a steady load repeats its value. So a repeated value is judged by the flicker of the meter:
where readings near each other (within `LEVEL_COUNTS` counts or `LEVEL_REL`), at this power or else below it, differ
from one refresh to the next, with share q, k refreshes in a row without a change have the probability (1 - q)^k. Noise
does not become less with the load. A value that repeats too long only by the rate of all changes of the work, loads
included, is doubtful and adds to the uncertainty; so does one of a meter that shows no noise, which proves nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hardware.measure.energy import Band
from hardware.source import Sample, SourceInfo

SLOW = 1.5
"""A period this many times the stated one is another period."""

STOOD = 1.5
"""Periods without a new reading, beyond what a live meter explains, from which on it was frozen."""

MIN_STEPS = 3
"""Steps of a counter from which on their mean gives its period."""

MIN_RUNS = 10
"""Values near a level from which on it is known how often they change there."""

LEVEL_COUNTS, LEVEL_REL = 5, 0.02
IMPROBABLE = 0.02
"""Probability, over all values of a window, below which a value that repeats is no chance."""

NOISE_COUNTS = 2
"""Median step of the noise, in counts, from which on it is expected to show in each reading."""

SURE = 0.5
"""Standard deviations by which the share of values that repeat is taken higher than it was seen."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What the readings show.

    Attributes:
        period_s: time between new readings: the stated one, or a longer one that was seen.
        frozen: spans without a new reading beyond one period, s on the clock of the samples.
        doubtful: spans of the work that may be, too: a value that repeats longer than the changes of the load explain,
            or for more than two periods where the meter has no noise to tell a steady load from a display that stands.
    """

    period_s: float
    frozen: tuple[Span, ...] = ()
    doubtful: tuple[Span, ...] = ()

    def frozen_s(self, band: Band) -> tuple[float, float]:
        """(all, longest) of the time in a band without a new reading, s."""
        spans_s = [max(0.0, min(end, band.b_s) - max(start, band.a_s)) for start, end in self.frozen]
        return sum(spans_s), max(spans_s, default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """One value of a counter: seen first at start_s, last at seen_s, replaced at end_s by one that is step_j higher."""

    start_s: float
    seen_s: float
    end_s: float
    step_j: float


def of_window(
    info: SourceInfo,
    samples: Sequence[Sample],
    counts: Sequence[Sample],
    count_j: float,
    *,
    earlier: Sequence[Sample] = (),
    work: Span = (0.0, 0.0),
) -> Refresh:
    """The refresh of a window's readings.

    Args:
        samples: of the source: W, or J of a counter.
        earlier: samples from before the window, which show the meter's flicker at rest.
        work: start and end of the work, s.
        counts: of the meter's own counter, (s, J); empty if it has none.
        count_j: one count of that one, J.
    """
    if info.kind == "counter":
        seen = _of_counter(samples, info.resolution or 0.0, info.period_s)
        # nothing is lost in a counter that stands still; but nothing is known of the moments in between either
        longest_s = max((end - start + seen.period_s for start, end in seen.frozen), default=seen.period_s)
        return Refresh(period_s=longest_s)
    by_count = _of_counter(counts, count_j, info.period_s, watts=samples)
    usual_s = by_count.period_s
    count_w = info.resolution or 0.0
    runs, at_rest = _runs(samples), _runs(earlier)
    in_work = [run for run in runs if work[0] <= run.start_s < work[1]]
    frozen, doubtful = list(by_count.frozen), []
    for run in runs:
        if run.end_s - run.start_s <= (STOOD + 0.5) * usual_s:
            continue
        near_w = max(LEVEL_COUNTS * count_w, LEVEL_REL * abs(run.watts))
        below = [
            (left, abs(left.watts - right.watts))
            for left, right in (*pairwise(at_rest), *pairwise(runs))
            if left is not run and left.watts <= run.watts + near_w
        ]
        span = (run.start_s + usual_s, run.end_s)
        level = [(one, step_w) for one, step_w in below if one.watts >= run.watts - near_w]
        flickers = sum(step_w <= near_w for _, step_w in level) >= MIN_RUNS
        if _improbable(
            run, level if flickers else below, usual_s, near_w=near_w, least_w=NOISE_COUNTS * count_w, tries=len(runs)
        ):
            frozen.append(span)
        elif run in in_work:
            steps_w = [step_w for _, step_w in below if step_w <= near_w]
            silent = len(steps_w) < MIN_RUNS or statistics.median(steps_w) < NOISE_COUNTS * count_w
            others = [(one, math.inf) for one in in_work if one is not run]
            if silent or _improbable(run, others, usual_s, near_w=math.inf, least_w=0.0, tries=len(in_work)):
                doubtful.append(span)
    return Refresh(period_s=usual_s, frozen=_joined(frozen), doubtful=tuple(doubtful))


def new_readings(samples: Sequence[Sample], period_s: float) -> int:
    """Number of samples that are readings of their own: a repeated value counts once a period."""
    return len(refreshes(samples, period_s))


def refreshes(samples: Sequence[Sample], period_s: float) -> list[Sample]:
    """The samples that are readings of their own: each new value, and again for each whole period that it stands.

    One that is asked for between its refreshes is seen for up to the time between two requests too short or too long.
    """
    if len(samples) < 2 or period_s <= 0:  # an estimate has no period
        return list(samples)
    last_s = samples[-1][0] + statistics.median(right - left for (left, _), (right, _) in pairwise(samples))
    starts = [i for i in range(len(samples)) if i == 0 or samples[i][1] != samples[i - 1][1]]
    ends_s = [*(samples[i][0] for i in starts[1:]), last_s]
    found: list[Sample] = []
    for i, end_s in zip(starts, ends_s, strict=True):
        start_s, value = samples[i]
        times = max(1, math.floor((end_s - start_s) / period_s + 0.45))
        found += [(start_s + k * period_s, value) for k in range(times)]
    return found


def _of_counter(
    readings: Sequence[Sample], count_j: float, period_s: float, *, watts: Sequence[Sample] = ()
) -> Refresh:
    """The refresh that a counter shows, beside the watts of the same meter where it has some."""
    stands = _stands(readings)
    if not stands:
        return Refresh(period_s=period_s)
    spacing_s = statistics.median(right - left for (left, _), (right, _) in pairwise(readings))
    asked_s = max(period_s, spacing_s)
    intervals_s = [stand.end_s - stand.start_s for stand in stands]
    mean_j = statistics.fmean(stand.step_j for stand in stands)
    power_w = sum(stand.step_j for stand in stands) / sum(intervals_s)
    usual_s = asked_s
    if len(stands) >= MIN_STEPS and mean_j > SLOW * max(count_j, power_w * asked_s):
        usual_s = max(usual_s, statistics.median(intervals_s))
    # a stand that lasts to the end has no step yet
    stands.append(_Stand(start_s=stands[-1].end_s, seen_s=readings[-1][0], end_s=readings[-1][0], step_j=0.0))
    judge = _stood_by_watts if watts else _stood
    frozen = [
        (stand.end_s - stood_s + usual_s, stand.end_s)
        for stand in stands
        if (stood_s := judge(stand, count_j, usual_s, watts)) > STOOD * usual_s
    ]
    return Refresh(period_s=usual_s if usual_s > SLOW * asked_s else period_s, frozen=tuple(frozen))


def _stood(stand: _Stand, count_j: float, usual_s: float, watts: Sequence[Sample]) -> float:
    """Time of a stand beyond that of one count, s: by the power of its interval, for a counter without watts."""
    return (stand.seen_s - stand.start_s) * (1 - count_j / stand.step_j) if stand.step_j else 0.0


def _stood_by_watts(stand: _Stand, count_j: float, usual_s: float, watts: Sequence[Sample]) -> float:
    """The same by the watts of the meter: the time since they have added up to one count.

    Where they stood still too, at a lower power, the step of the counter is larger than they and their swing explain.
    """
    inside = [one for one in watts if stand.start_s <= one[0] <= stand.end_s]
    energy_j = 0.0
    for (left_s, left_w), (right_s, right_w) in pairwise(one for one in inside if one[0] <= stand.seen_s):
        energy_j += (right_s - left_s) * min(left_w, right_w)
        if energy_j > count_j:
            return stand.seen_s - right_s
    most_j = sum((right - left) * max(a, b) for (left, a), (right, b) in pairwise(inside))
    swing_w = max(w for _, w in watts) - min(w for _, w in watts)
    return stand.end_s - stand.start_s if stand.step_j > most_j + count_j + swing_w * usual_s else 0.0


def _stands(readings: Sequence[Sample]) -> list[_Stand]:
    """The values of a counter from its first change on, without the one that is there at the end."""
    stands = []
    start_s: float | None = None
    for (left_s, left_j), (right_s, right_j) in pairwise(readings):
        if right_j != left_j:
            if start_s is not None:
                stands.append(_Stand(start_s=start_s, seen_s=left_s, end_s=right_s, step_j=right_j - left_j))
            start_s = right_s
    return stands


@dataclass(frozen=True, slots=True)
class _Run:
    """A power from its first reading to the first of another one."""

    start_s: float
    end_s: float
    watts: float


def _runs(samples: Sequence[Sample]) -> list[_Run]:
    """The runs of equal values; the last one ends with its last reading."""
    starts = [i for i in range(len(samples)) if i == 0 or samples[i][1] != samples[i - 1][1]]
    ends = [*starts[1:], len(samples) - 1] if starts else []
    return [_Run(samples[i][0], samples[j][0], samples[i][1]) for i, j in zip(starts, ends, strict=True)]


def _improbable(
    run: _Run, others: Sequence[tuple[_Run, float]], period_s: float, *, near_w: float, least_w: float, tries: int
) -> bool:
    """Whether a run is too long to be one of so many tries.

    Args:
        others: other runs, each with the step to the next one, W.
        near_w: a step up to this is a change of the reading; a larger one, of the load, only ends the run.
        least_w: least median of the changes. Noise below the rounding shows by chance only, and by where between two
            counts the power lies.
    """
    steps_w = [step_w for _, step_w in others if step_w <= near_w]
    if len(steps_w) < MIN_RUNS or statistics.median(steps_w) < least_w:
        return False
    # of all runs together: when one is seen may be off by the time between two requests, which averages out
    repeats = max(0.0, sum(one.end_s - one.start_s for one, _ in others) / period_s - len(others))
    slots = repeats + len(steps_w)
    share = (repeats + 1) / (slots + 2)
    share = min(1.0, share + SURE * math.sqrt(share * (1 - share) / slots))
    chance: float = share ** ((run.end_s - run.start_s) / period_s - 1) * tries
    return chance < IMPROBABLE


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans in order, those that overlap as one."""
    joined: list[Span] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end_s)
        else:
            joined.append((start_s, end_s))
    return tuple(joined)
