"""Energy: the arithmetic between samples and joules. Pure functions; times in s, power in W, energy in J.

Words: the work runs from t0 to t1. The *band* [a, b] around it is what gets integrated. When the device is quiet
just before and after the work, the band is wider than the work and the quiet part is taken off again at idle power:

    E_net   = E[a, b] - P_idle x (b - a)
    E_gross = E_net + P_idle x (t1 - t0)

A sample that falls across an edge of the work then lies wholly inside the band, so the edges bias nothing; nor
does a meter that is late. Without quiet around it, the band is the work itself, cut out by interpolation.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hardware.source import Sample, SourceInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The span that is integrated, [a_s, b_s], around the work, [t0_s, t1_s]."""

    a_s: float
    b_s: float
    t0_s: float
    t1_s: float

    @property
    def work_s(self) -> float:
        return self.t1_s - self.t0_s

    @property
    def span_s(self) -> float:
        return self.b_s - self.a_s

    @property
    def guarded(self) -> bool:
        """Quiet on both sides."""
        return self.a_s < self.t0_s and self.b_s > self.t1_s


def interpolate(samples: Sequence[Sample], t_s: float) -> float:
    """The value at t_s, linear between the samples on both sides.

    Raises:
        ValueError: t_s lies outside the samples.
    """
    if not samples or not samples[0][0] <= t_s <= samples[-1][0]:
        raise ValueError("the samples do not reach over the whole window")
    right = bisect_left(samples, t_s, key=_time)
    t_right, value_right = samples[right]
    if t_right == t_s:
        return value_right
    t_left, value_left = samples[right - 1]
    return value_left + (value_right - value_left) * (t_s - t_left) / (t_right - t_left)


def power_energy_j(samples: Sequence[Sample], start_s: float, end_s: float) -> float:
    """Integral of sampled watts by the trapezoid rule, the edges interpolated.

    Raises:
        ValueError: the samples do not reach over [start_s, end_s].
    """
    inside = samples[bisect_right(samples, start_s, key=_time) : bisect_left(samples, end_s, key=_time)]
    points = [
        (start_s, interpolate(samples, start_s)),
        *inside,
        (end_s, interpolate(samples, end_s)),
    ]
    return math.fsum(
        (right_s - left_s) * (left_w + right_w) / 2 for (left_s, left_w), (right_s, right_w) in pairwise(points)
    )


def counter_energy_j(samples: Sequence[Sample], start_s: float, end_s: float) -> float:
    """Difference of a counter between two moments, each interpolated between its readings.

    Raises:
        ValueError: the readings do not reach over [start_s, end_s].
    """
    return interpolate(samples, end_s) - interpolate(samples, start_s)


Integral = Callable[[Sequence[Sample], float, float], float]
INTEGRALS: dict[str, Integral] = {"power": power_energy_j, "counter": counter_energy_j}
"""How the samples of a kind become joules."""


MAX_GUARD_S = 5.0
"""A guard band that is asked for is extended to what the source needs, up to this."""


def memory_s(info: SourceInfo) -> float:
    """The time that a sample may depend on: a mean over a period, late by the latency, held for a period."""
    return 2 * info.period_s + info.latency_s


def guard_needed_s(info: SourceInfo) -> float:
    """Quiet time that a source needs before the work: a period for the edge, behind what it remembers of before.

    After the work it needs a period less, since a sample depends on the past only.
    """
    return info.period_s + memory_s(info)


def gross_and_net_j(band_j: float, band: Band, idle_power_w: float | None) -> tuple[float, float | None]:
    """(E_gross, E_net) of the work from the energy of its band, see the top of this module."""
    if idle_power_w is None:
        return band_j, None
    net_j = band_j - idle_power_w * band.span_s
    return net_j + idle_power_w * band.work_s, net_j


def longest_gap_s(samples: Sequence[Sample], start_s: float, end_s: float) -> float:
    """The longest time without a sample in [start_s, end_s]; all of it when there is none."""
    times = [t for t, _ in samples if start_s < t < end_s]
    points = [start_s, *times, end_s]
    return max(right - left for left, right in pairwise(points))


def lost_fraction(samples: Sequence[Sample], start_s: float, end_s: float, period_s: float) -> float:
    """Share of the window that lies in gaps, beyond the one period that each gap may take.

    A pause counts as a gap from one and a half periods on: a polling thread is never on time to the millisecond.
    """
    times = [t for t, _ in samples if start_s < t < end_s]
    points = [start_s, *times, end_s]
    gaps = (right - left for left, right in pairwise(points))
    return sum(gap - period_s for gap in gaps if gap > 1.5 * period_s) / (end_s - start_s)


def gap_swing_j(samples: Sequence[Sample], start_s: float, end_s: float, period_s: float) -> float:
    """Bound of the energy hidden in gaps: half the swing of the power in the window, times the time beyond a period."""
    inside_w = [power_w for t, power_w in samples if start_s <= t <= end_s]
    if not inside_w:
        return 0.0
    lost_s = lost_fraction(samples, start_s, end_s, period_s) * (end_s - start_s)
    return (max(inside_w) - min(inside_w)) / 2 * lost_s


def gap_limit_s(period_s: float) -> float:
    """No gap longer than this is ever interpolated across: max(2 s, 4 periods)."""
    return max(2.0, 4 * period_s)


def _time(sample: Sample) -> float:
    return sample[0]
