"""Sampling: what a meter that looks at moments, or at parts of its period, may have missed in between.

Readings r_1 .. r_n of the work are taken as r = trend + steps + noise. With the means of the squared first and second
differences, D1 and D2, the noise has the variance s2 = (D2 - 2 D1) / 2 and a step the mean square q = 3 D1 - D2, since
white noise has D1 = 2 s2, D2 = 6 s2 and a walk of steps D1 = q, D2 = 2 q. A step that falls anywhere between two
readings is off by +-half of it, evenly: q / 12. The sampled mean then has the variance (s2 + q / 12) / n. A trend is
shown too early or too late by the same part of a period in every reading, up to half of one: with the mean difference
g of two readings in a row, g^2 / 12 more, whatever n. No autocorrelation of the readings makes it smaller: readings
that alternate may do so with the phase of a rhythm.

None of this shows a rhythm of the power that keeps step with the readings: all of them see the same phase. Three
things do. A meter that covers its period shows a reading between two levels wherever the load steps, as it does at
both ends of the work; one that samples shows two or few levels and nothing in between. And the rhythm of the work may
be known: then the phases at which it was seen follow, and a gap between them is what was never seen.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hardware.measure.energy import Band
from hardware.measure.refresh import refreshes
from hardware.source import Sample, SourceInfo

NOISES, COUNTS = 5.0, 3.0
"""Two readings differ if they are further apart than this many standard deviations of the noise, and counts."""

LEVEL = 0.02
"""Share of a power by which a steady load may move."""

FEW = 0.5
"""Share of the levels that evenly spread readings would show, below which a load has few of them."""

ADDS_UP, EXACT = 0.2, 0.003
"""Periods by which the readings of a steady load may miss its length, where an end shows that they are means; and where
none does, since both ends fall on refreshes. A meter that samples misses it by as little in 3 of 1000 windows."""

SHIFT, CLOCK = 0.4, 0.005
"""Periods, and share of the work, by which an averaging meter may show the work shorter or longer than it was."""

MISSED = (1.0, math.sqrt(3 / 10), math.sqrt(1 / 10))
"""Root mean square of the share of a period that a meter leaves out, by how many of the two ends of the work it showed.

An end lies in the part that a reading covers with the probability of that share c. All shares being as likely before,
k of 2 ends give c the density of Beta(k + 1, 3 - k), of which the mean of (1 - c)^2 is 3/5, 3/10, 1/10. With none the
readings count as moments.
"""

MORE = 1.25
"""What such a time is multiplied by, since the load at the ends makes it uncertain itself."""

BINS = 20
MIN_READINGS = 8
"""With fewer readings there is no telling what kind of load it is."""

LONG = 500
"""Readings through which no rhythm of a computer keeps step with a meter: it would have to match it to a 500th."""

FASTEST = 0.25
"""Periods of the meter below which a cycle of the work is too fast, for how steady it is, to keep step with it."""

UNSEEN_PHASE = 0.2
"""Part of a cycle of the work that no reading has seen, from which on it can hide a part of the energy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What lies between the readings.

    Attributes:
        energy_u_j: standard uncertainty of the window's energy.
        averages: the readings show that the meter covers its period.
        end_step_w: root mean square of the load's steps at the two ends of the work; 0 where it does not matter.
        edge_s: time between two requests, for a meter that is seen to average over the period; None: a period counts.
        shifted_s: time by which the readings show the work shorter or longer than it was, unexplained by the meter.
        flags: what nothing here can rule out.
    """

    energy_u_j: float = 0.0
    averages: bool = False
    end_step_w: float = 0.0
    edge_s: float | None = None
    shifted_s: float = 0.0
    flags: tuple[str, ...] = ()


def of_window(
    info: SourceInfo,
    samples: Sequence[Sample],
    band: Band,
    *,
    earlier: Sequence[Sample],
    idle_power_w: float | None,
    period_s: float,
    rhythm: Sequence[float] | None,
) -> Sampling:
    """What a window's readings may have missed.

    Args:
        samples: over the band and some quiet around it.
        earlier: samples from before, which show the meter's noise at rest.
        period_s: the longer of the meter's period and of how often it was asked.
        rhythm: times after which the power of the work repeats, s: a step, an epoch. Empty: it has none. None: unknown.
    """
    if info.kind != "power" or info.averages == 1:
        return Sampling(averages=info.averages == 1)
    readings = refreshes(samples, info.period_s)
    step_w = _above_idle_w(readings, band, idle_power_w)
    near_w = max(
        NOISES * _noise_w([*earlier, *(one for one in samples if one[0] < band.t0_s)], info),
        COUNTS * (info.resolution or 0.0),
    )
    inside, busy = _parts(readings, band, idle_power_w, near_w=near_w, memory_s=2 * period_s + info.latency_s)
    inside_w = [watts for _, watts in inside]
    if len(inside_w) < 3:
        return Sampling(flags=("sampled",) if rhythm is None else ())
    seen = 0
    if idle_power_w is not None and band.guarded and busy:
        low_w, high_w = min(inside_w), max(inside_w)
        between = (idle_power_w + near_w, low_w - near_w) if step_w > 0 else (high_w + near_w, idle_power_w - near_w)
        seen = sum(between[0] < watts < between[1] for _, watts in (busy[0], busy[-1]))
    swing_w = max(inside_w) - min(inside_w)
    steady = swing_w <= max(2 * near_w, LEVEL * max(inside_w))
    few = steady or _few_levels(inside_w)
    shifted_s = 0.0
    if len(busy) > 2 and idle_power_w is not None and band.guarded:
        shifted_s = _shifted_s(samples, busy, band, idle_w=idle_power_w, period_s=info.period_s)
    # what the load at the ends and the meter's own clock explain
    shifted = shifted_s > SHIFT * period_s + CLOCK * band.work_s
    # a share that is known to be a part of the period is not found to be all of it
    averages = info.averages is None and not shifted and seen > 0 and (seen == 2 or not few)
    if steady and info.averages is None:
        off = _off_periods(readings, inside_w, band, idle_power_w, period_s=info.period_s)
        averages = off < EXACT or (averages and off < ADDS_UP)
        seen = 2 if off < EXACT else seen
    missed = 1 - info.averages if info.averages is not None else MISSED[seen] if averages else 1.0
    idle_w = idle_power_w or 0.0
    u_w = missed * math.sqrt(variance_of_mean(inside_w))
    flags: tuple[str, ...] = ()
    unseen = _unseen_phase(rhythm or (), [t for t, _ in readings if band.t0_s < t <= band.t1_s], period_s)
    if unseen > UNSEEN_PHASE:
        u_w, flags = math.hypot(u_w, missed * swing_w * unseen / 2 / math.sqrt(3)), ("aliasing",)
    elif rhythm is None and len(inside_w) < LONG:
        flags = ("sampled",)
    asked_s = statistics.median(b - a for (a, _), (b, _) in pairwise(samples))
    return Sampling(
        energy_u_j=u_w * band.work_s,
        averages=averages,
        end_step_w=math.hypot(inside_w[0] - idle_w, inside_w[-1] - idle_w) / math.sqrt(2),
        edge_s=math.hypot(asked_s, missed * period_s) if averages else None,
        shifted_s=MORE * shifted_s if shifted else 0.0,
        flags=(*flags, "shifted") if shifted_s > (1 + SHIFT) * period_s + CLOCK * band.work_s else flags,
    )


def variance_of_mean(values: Sequence[float]) -> float:
    """Variance of the mean of evenly spaced readings against that of what they are readings of; see above."""
    n = len(values)
    if n < 3:
        return 0.0
    first = [right - left for left, right in pairwise(values)]
    second = [right - left for left, right in pairwise(first)]
    d1 = math.fsum(one * one for one in first) / len(first)
    d2 = math.fsum(one * one for one in second) / len(second)
    noise = min(max((d2 - 2 * d1) / 2, 0.0), d1 / 2)
    steps = min(max(3 * d1 - d2, 0.0), d1)
    trend = (values[-1] - values[0]) / (n - 1)
    return (noise + steps / 12) / n + trend**2 / 12


def _noise_w(still: Sequence[Sample], info: SourceInfo) -> float:
    """Standard deviation of the readings of the quiet device, W: the median of their differences is 0.954 of it."""
    steps_w = [abs(right - left) for (_, left), (_, right) in pairwise(refreshes(still, info.period_s))]
    return statistics.median(steps_w) / 0.954 if steps_w else 0.0


def _above_idle_w(readings: Sequence[Sample], band: Band, idle_w: float | None) -> float:
    """Mean of the readings of the work above idle, W."""
    inside_w = [watts for t_s, watts in readings if band.t0_s < t_s <= band.t1_s]
    return statistics.fmean(inside_w) - idle_w if inside_w and idle_w is not None else 0.0


def _parts(
    readings: Sequence[Sample], band: Band, idle_w: float | None, *, near_w: float, memory_s: float
) -> tuple[list[Sample], list[Sample]]:
    """The readings wholly of the work, and all that are not of the quiet device."""
    inside = [one for one in readings if band.t0_s < one[0] <= band.t1_s]
    if idle_w is None:
        return inside, []
    busy = [one for one in readings if band.t0_s < one[0] <= band.t1_s + memory_s and abs(one[1] - idle_w) > near_w]
    if not busy:
        return inside, []
    return [one for one in inside if busy[0][0] < one[0] < busy[-1][0]], busy


def _shifted_s(
    samples: Sequence[Sample],
    busy: Sequence[Sample],
    band: Band,
    *,
    idle_w: float,
    period_s: float,
) -> float:
    """How much shorter or longer than the work its readings lasted, s.

    A first or last reading between idle and the next one lasts a part of its period. With that, those of a meter that
    averages last as long as the work, apart from what a load that moves there makes of the part; those of one that
    samples, up to a period shorter or longer.
    """
    after_s = min((t_s for t_s, watts in samples if t_s > busy[-1][0] and watts != busy[-1][1]), default=samples[-1][0])
    lasted = (after_s - busy[0][0]) / period_s
    # in whole periods: a reading is seen up to the time between two requests late, at either end
    whole = {math.floor(lasted + 0.25), math.ceil(lasted - 0.25)}
    part = 0.0
    for (_, end_w), (_, next_w) in ((busy[0], busy[1]), (busy[-1], busy[-2])):
        part += 1 - min(1.0, max(0.0, (end_w - idle_w) / (next_w - idle_w)))
    return min(abs(band.work_s - (periods - part) * period_s) for periods in whole)


def _off_periods(
    readings: Sequence[Sample], inside_w: Sequence[float], band: Band, idle_w: float | None, *, period_s: float
) -> float:
    """By how many periods the readings above idle, one period each, miss the length of a steady load.

    By none for means over whole periods, wherever the ends of the work fall; by up to one for others.
    """
    level_w = statistics.median(inside_w) - (idle_w or 0.0)
    if level_w <= 0:  # nothing above idle to be counted
        return 1.0
    above = 0.0
    for (t_s, watts), (next_s, _) in pairwise(readings):
        if band.a_s <= t_s <= band.b_s:
            # a pause between two readings has lost some, which were like this one
            above += (watts - (idle_w or 0.0)) / level_w * max(1, math.floor((next_s - t_s) / period_s + 0.2))
    beat_s = (readings[-1][0] - readings[0][0]) / (len(readings) - 1)
    # the beat as it is seen is off by the time between two requests at either end, the stated one by the meter's clock
    return min(abs(above - band.work_s / one_s) for one_s in (period_s, beat_s))


def _few_levels(values: Sequence[float]) -> bool:
    """Whether readings jump between few powers, without any in between."""
    n, low, swing_w = len(values), min(values), max(values) - min(values)
    if n < MIN_READINGS or swing_w <= 0:
        return True
    seen = {min(int((value - low) / swing_w * BINS), BINS - 1) for value in values}
    return len(seen) < FEW * BINS * (1 - (1 - 1 / BINS) ** n)


def _unseen_phase(rhythm: Sequence[float], times_s: Sequence[float], period_s: float) -> float:
    """The largest part of a cycle of the work without a reading in it."""
    worst = 0.0
    for cycle_s in rhythm:
        # what repeats much faster than the meter would have to keep its time to a hundredth to be in step with it
        if not times_s or not FASTEST * period_s < cycle_s < times_s[-1] - times_s[0]:
            continue
        # the moments by the meter's own beat: when it was asked says less
        phases = sorted((times_s[0] + i * period_s) / cycle_s % 1 for i in range(len(times_s)))
        gaps = [right - left for left, right in pairwise(phases)]
        worst = max(worst, *gaps, phases[0] + 1 - phases[-1])
    return worst
