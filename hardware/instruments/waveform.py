"""Waveform: a power over time whose energy between any two moments is known exactly, made up or from the CPU load."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TextIO

from hardware.device import machine as device
from hardware.instruments.instrument import Power

STEP_S = 0.05
"""The load of this machine is read no more often: the kernel counts it in ticks of 10 ms."""

Point = tuple[float, float]
"""(time in s, power in W)."""


class Waveform:
    """Straight lines between points; two points at one moment are a step. Constant before the first and after the last.

    With ``period_s`` it repeats for ever, forwards and backwards: the points then lie in [0, period_s], and their 0 is
    at ``origin_s``.
    """

    def __init__(self, points: Sequence[Point], *, period_s: float | None = None, origin_s: float = 0.0) -> None:
        """
        Raises:
            ValueError: no point, times that fall, or points outside the period.
        """
        if not points or any(right[0] < left[0] for left, right in pairwise(points)):
            raise ValueError("a waveform needs points whose times do not fall")
        if period_s is not None:
            if not 0 <= points[0][0] <= points[-1][0] <= period_s or period_s <= 0:
                raise ValueError(f"the points of a repeating waveform lie in [0, {period_s}]")
            points = [(0.0, points[0][1]), *points, (period_s, points[-1][1])]
        self._period_s = period_s
        self._origin_s = origin_s
        self._times = [t for t, _ in points]
        self._powers = [power for _, power in points]
        sums = [0.0]
        for (left_s, left_w), (right_s, right_w) in pairwise(points):
            sums.append(sums[-1] + (right_s - left_s) * (left_w + right_w) / 2)
        self._sums = sums

    def power_w(self, t_s: float) -> float:
        """Power at t_s; at a step, the power after it."""
        if self._period_s is not None:
            t_s = (t_s - self._origin_s) % self._period_s
        return self._at(t_s)

    def _at(self, t_s: float) -> float:
        right = bisect_right(self._times, t_s)
        if right == 0:
            return self._powers[0]
        if right == len(self._times):
            return self._powers[-1]
        left_s, right_s = self._times[right - 1], self._times[right]
        left_w, right_w = self._powers[right - 1], self._powers[right]
        return left_w + (right_w - left_w) * (t_s - left_s) / (right_s - left_s)

    def energy_j(self, start_s: float, end_s: float) -> float:
        """The integral of the power from start_s to end_s, by the area of the trapezia that it consists of."""
        return self._since_first_j(end_s) - self._since_first_j(start_s)

    def _since_first_j(self, t_s: float) -> float:
        whole_j = 0.0
        if self._period_s is not None:
            t_s -= self._origin_s
            periods = math.floor(t_s / self._period_s)
            whole_j = periods * self._sums[-1]
            t_s -= periods * self._period_s
        right = bisect_right(self._times, t_s)
        if right == 0:
            return whole_j + (t_s - self._times[0]) * self._powers[0]
        left_s, left_w = self._times[right - 1], self._powers[right - 1]
        return whole_j + self._sums[right - 1] + (t_s - left_s) * (left_w + self._at(t_s)) / 2


def pulses(idle_w: float, load_w: float, spans: Iterable[tuple[float, float]]) -> Waveform:
    """Load inside the spans (start, end), which do not overlap; idle otherwise."""
    points: list[Point] = []
    for start_s, end_s in spans:
        points += [(start_s, idle_w), (start_s, load_w), (end_s, load_w), (end_s, idle_w)]
    return Waveform(points or [(0.0, idle_w)])


def square(idle_w: float, load_w: float, *, quiet_s: float, work_s: float, origin_s: float = 0.0) -> Waveform:
    """Idle for quiet_s from origin_s on, load for work_s, and again."""
    points = [(0.0, idle_w), (quiet_s, idle_w), (quiet_s, load_w), (quiet_s + work_s, load_w)]
    return Waveform(points, period_s=quiet_s + work_s, origin_s=origin_s)


def ramp(idle_w: float, top_w: float, *, start_s: float, end_s: float) -> Waveform:
    """Idle, a straight rise from start_s to end_s, a fall at once, idle: trains that warm up."""
    return Waveform([(start_s, idle_w), (end_s, top_w), (end_s, idle_w)])


def telegraph(
    idle_w: float,
    powers_w: Sequence[float],
    *,
    start_s: float,
    end_s: float,
    mean_dwell_s: float,
    rng: random.Random,
) -> Waveform:
    """Between start_s and end_s a power drawn from powers_w, held for an exponential time, and another; idle around."""
    points: list[Point] = [(start_s, idle_w)]
    t_s = start_s
    while t_s < end_s:
        power_w = rng.choice(powers_w)
        next_s = min(end_s, t_s + rng.expovariate(1 / mean_dwell_s))
        points += [(t_s, power_w), (next_s, power_w)]
        t_s = next_s
    return Waveform([*points, (end_s, idle_w)])


class Following:
    """idle_w + (load_w - idle_w) x the busy share of all cores, constant from one `update` to the next.

    Its energy is known exactly, since it is made here; ``truth``, if given, gets a line ``t_mono_s,energy_j`` per step.
    """

    def __init__(
        self,
        idle_w: float,
        load_w: float,
        *,
        truth: TextIO | None = None,
        cpu_times: Callable[[], tuple[float, float] | None] = device.cpu_times,
    ) -> None:
        self._idle_w = idle_w
        self._load_w = load_w
        self._truth = truth
        self._cpu_times = cpu_times
        self._last = cpu_times()
        self._times: list[float] = []
        self._powers: list[float] = []
        self._sums: list[float] = []
        if truth is not None:
            truth.write("t_mono_s,energy_j\n")

    def update(self, now_s: float) -> None:
        """Read the load, no more often than `STEP_S`. The share since the last reading holds from now on."""
        if self._times and now_s - self._times[-1] < STEP_S:
            return
        now, last = self._cpu_times(), self._last
        share = 0.0
        if now is not None and last is not None and now[1] > last[1]:
            share = min(1.0, max(0.0, (now[0] - last[0]) / (now[1] - last[1])))
        self._last = now
        joules = self.energy_j(self._times[0], now_s) if self._times else 0.0
        self._times.append(now_s)
        self._powers.append(self._idle_w + (self._load_w - self._idle_w) * share)
        self._sums.append(joules)
        if self._truth is not None:
            self._truth.write(f"{now_s:.6f},{joules:.6f}\n")
            self._truth.flush()

    def power_w(self, t_s: float) -> float:
        """Power at t_s; idle before the first update."""
        at = bisect_right(self._times, t_s) - 1
        return self._powers[at] if at >= 0 else self._idle_w

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy from start_s to end_s."""
        return self._since_first_j(end_s) - self._since_first_j(start_s)

    def _since_first_j(self, t_s: float) -> float:
        at = bisect_right(self._times, t_s) - 1
        if at < 0:
            return (t_s - self._times[0]) * self._idle_w if self._times else t_s * self._idle_w
        return self._sums[at] + (t_s - self._times[at]) * self._powers[at]


class Rippled:
    """A power with a sine on it, so that no two readings of a steady load are equal; its energy is known exactly.

    Args:
        amplitude_w, frequency_hz: of the sine.
    """

    def __init__(self, power: Power, amplitude_w: float = 1e-3, frequency_hz: float = 1.37) -> None:
        self._power, self._amplitude_w, self._omega = power, amplitude_w, 2 * math.pi * frequency_hz

    def power_w(self, t_s: float) -> float:
        """Power at t_s."""
        return self._power.power_w(t_s) + self._amplitude_w * math.sin(self._omega * t_s)

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy from start_s to end_s."""
        sine_j = self._amplitude_w / self._omega * (math.cos(self._omega * start_s) - math.cos(self._omega * end_s))
        return self._power.energy_j(start_s, end_s) + sine_j
