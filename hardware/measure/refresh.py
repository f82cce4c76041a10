"""Refresh: how often the readings of a window were new, and the spans in which they stood still without reason.

A counter of joules proves it. Between two changes of an energy counter whose step was dE, with one count of c, the
power P = dE / I of the interval I moves a live counter by one count every c / P. What goes beyond that, I (1 - c / dE),
is time in which the meter made no new reading. A counter whose steps are on average more than one and a half times what
its stated period explains is slow, and its period is the median interval. One that stands for longer than `STOOD`
such periods was frozen.

A power alone proves less: a steady load repeats its value. So a repeated value is judged by the flicker of the meter:
where readings near each other (within `LEVEL_COUNTS` counts or `LEVEL_REL`), at this power or else below it, differ
from one refresh to the next, with share q, k refreshes in a row without a change have the probability (1 - q)^k. Noise
does not become less with the load. Where only the rate of all changes of the work says so, loads included, a repeated
value is doubtful and adds to the uncertainty.
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
"""Steps of a counter from which on their mean says how long its period is."""

MIN_RUNS = 10
"""Values near a level from which on it is known how often they change there."""

LEVEL_COUNTS, LEVEL_REL = 5, 0.02
IMPROBABLE = 1e-2
"""Probability, over all values of a window, below which a value that repeats is no chance."""

NOISE_COUNTS = 2
"""Median step of the noise, in counts, from which on it is expected to show in each reading."""

SURE = 1.5
"""Standard deviations by which the share of values that repeat is taken higher than it was seen."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What the readings show.

    Attributes:
        period_s: time between new readings: the stated one, or a longer one that was seen.
        frozen: spans without a new reading beyond one period, s on the clock of the samples.
        doubtful: spans that may be, too.
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
    by_count = _of_counter(counts, count_j, info.period_s)
    usual_s = by_count.period_s
    count_w = info.resolution or 0.0
    runs, at_rest = _runs(samples), _runs(earlier)
    frozen, doubtful = list(by_count.frozen), []
    in_work = [run for run in runs if work[0] <= run.start_s and run.end_s <= work[1]]
    changes_s = [run.end_s - run.start_s for run in in_work]
    for run in runs:
        if run.end_s - run.start_s <= (STOOD + 0.5) * usual_s:
            continue
        near_w = max(LEVEL_COUNTS * count_w, LEVEL_REL * abs(run.watts))
        # ends of runs that are followed by a reading nearby: changes of the meter, not of the load
        flicker = [
            (left, abs(left.watts - right.watts))
            for left, right in (*pairwise(at_rest), *pairwise(runs))
            if left is not run and left.watts <= run.watts + near_w and abs(left.watts - right.watts) <= near_w
        ]
        same = [(one, step_w) for one, step_w in flicker if one.watts >= run.watts - near_w]
        flicker = same if len(same) >= MIN_RUNS else flicker
        # noise below the rounding shows by chance, and by where between two counts the power lies
        coarse = statistics.median([0.0, 0.0, *(step_w for _, step_w in flicker)]) < NOISE_COUNTS * count_w
        flicker_s = [] if coarse else [one.end_s - one.start_s for one, _ in flicker]
        span = (run.start_s + usual_s, run.end_s)
        if _improbable(run, flicker_s, len(runs), usual_s):
            frozen.append(span)
        elif run in in_work:
            others_s = [length_s for other, length_s in zip(in_work, changes_s, strict=True) if other is not run]
            doubtful += [span] if _improbable(run, others_s, len(in_work), usual_s) else []
    return Refresh(period_s=usual_s, frozen=_joined(frozen), doubtful=tuple(doubtful))


def new_readings(samples: Sequence[Sample], period_s: float) -> int:
    """Number of samples that are readings of their own: a repeated value counts once a period."""
    new, last = 0, (float("-inf"), float("nan"))
    for t_s, value in samples:
        if value != last[1] or t_s - last[0] > 0.9 * period_s:
            new, last = new + 1, (t_s, value)
    return new


def _of_counter(readings: Sequence[Sample], count_j: float, period_s: float) -> Refresh:
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
    frozen = []
    for stand in stands:
        live = 1 - count_j / stand.step_j
        if (stand.seen_s - stand.start_s) * live > STOOD * usual_s:
            # a live meter would have shown a first new count by then
            frozen.append((stand.end_s - (stand.end_s - stand.start_s) * live + usual_s, stand.end_s))
    # a stand that lasts to the end has no step yet: it is judged by the power of the others
    last_s = stands[-1].end_s
    if power_w > 0 and readings[-1][0] - last_s - count_j / power_w > 2 * STOOD * usual_s:
        frozen.append((last_s + count_j / power_w + usual_s, readings[-1][0]))
    slow = usual_s > SLOW * asked_s
    return Refresh(period_s=usual_s if slow else period_s, frozen=tuple(frozen))


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


def _improbable(run: _Run, lengths_s: Sequence[float], tries: int, period_s: float) -> bool:
    """Whether a run is too long to be one of so many tries, given the lengths of others."""
    if len(lengths_s) < MIN_RUNS:
        return False
    slots = max(sum(lengths_s) / period_s, len(lengths_s))
    repeats = (slots - len(lengths_s) + 1) / (slots + 2)
    repeats = min(1.0, repeats + SURE * math.sqrt(repeats * (1 - repeats) / slots))
    chance: float = repeats ** ((run.end_s - run.start_s) / period_s - 1) * tries
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
