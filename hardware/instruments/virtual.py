"""Virtual: a meter in virtual time, for thousands of windows in seconds.

The truth is a list of moments at which the power changes, so that any energy is a difference of exact sums. The meter
goes from one of its own refreshes to the next; requests fall between them. No bytes are made: what is simulated here
is what a meter knows and when, not how it says it.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hardware.source import CounterSource, OwnCounter, PowerSource, Sample, SourceInfo

Change = tuple[float, float]
"""From this moment on, s, the power is so much, W."""


class VirtualClock:
    """Time that passes when somebody sleeps."""

    def __init__(self, start_s: float = 100.0) -> None:
        self.now_s = start_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float, /) -> None:
        self.now_s += max(0.0, seconds)


class Truth:
    """Power over time, constant between its changes."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self._times_s: list[float] = []
        self._powers_w: list[float] = []
        self._sums_j: list[float] = []
        self.extend(changes)

    def extend(self, changes: Iterable[Change]) -> None:
        """Add changes, in order, after those that are there."""
        for at_s, power_w in changes:
            passed_j = 0.0
            if self._times_s:
                if at_s < self._times_s[-1]:
                    raise ValueError("changes must be in order of time")
                passed_j = self._sums_j[-1] + (at_s - self._times_s[-1]) * self._powers_w[-1]
            self._times_s.append(at_s)
            self._powers_w.append(power_w)
            self._sums_j.append(passed_j)

    def power_w(self, t_s: float) -> float:
        """Power at t_s."""
        return self._powers_w[max(0, bisect_right(self._times_s, t_s) - 1)]

    def since_start_j(self, t_s: float) -> float:
        """Energy from the first change to t_s."""
        at = max(0, bisect_right(self._times_s, t_s) - 1)
        return self._sums_j[at] + (t_s - self._times_s[at]) * self._powers_w[at]

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy from start_s to end_s."""
        return self.since_start_j(end_s) - self.since_start_j(start_s)


@dataclass(kw_only=True)
class Behaviour:
    """How a virtual meter behaves.

    Attributes:
        refresh_s, phase_s: it makes a new value every refresh_s, the first one phase_s after the start.
        share: part of the time since the refresh before that a value is the mean of; 0: the power of its moment.
        age_s: from the moment of a value to the reply that first has it.
        noise_w: standard deviation of the noise of a value.
        gain, offset_w: reading = gain x truth + offset.
        count_w: one count of the power.
        ask_s, jitter_s: between two requests, and its largest random part.
        counter: what its own counter adds up: ``truth``, what it has ``shown``, or there is ``none``.
        counter_count_j: one count of that.
        freezes: (start, length) of the times without a new value; the counter catches up afterwards, or goes on.
        counter_freezes: whether it stands still too.
    """

    refresh_s: float = 0.5
    phase_s: float = 0.0
    share: float = 1.0
    age_s: float = 0.03
    noise_w: float = 0.004
    gain: float = 1.0
    offset_w: float = 0.0
    count_w: float = 0.001
    ask_s: float = 0.25
    jitter_s: float = 0.0
    counter: str = "truth"
    counter_count_j: float = 3.6
    freezes: Sequence[tuple[float, float]] = ()
    counter_freezes: bool = True
    seed: int = 0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)


class VirtualMeter(PowerSource):
    """A meter that is asked, with a counter of its own unless it has none."""

    self_timed = True

    def __init__(self, truth: Truth, clock: VirtualClock, how: Behaviour, **facts: object) -> None:
        self.truth, self.clock, self.how = truth, clock, how
        settings: dict[str, Any] = {
            "name": "virtual", "period_s": 0.5, "latency_s": 0.5, "gain_u": 0.01, "resolution": how.count_w,
            "offset_u": how.count_w, "scope": "board", "covers": ("all",),
        } | facts  # fmt: skip
        self._info = SourceInfo(kind="power", **settings)
        self._asked_s = clock.now_s
        self._tick = 0
        self._shown_w = self._shown_j = 0.0
        self._counts: list[OwnCounter] = []
        self._first_j: float | None = None
        self._refresh_until(clock.now_s)

    def poll(self) -> list[Sample]:
        samples = []
        while self._asked_s <= self.clock.now_s:
            self._refresh_until(self._asked_s - self.how.age_s)
            samples.append((self._asked_s, self._shown_w))
            self._count(self._asked_s)
            self._asked_s += self.how.ask_s + self.how.rng.uniform(0.0, self.how.jitter_s)
        return samples

    def own_counts(self) -> list[OwnCounter]:
        counts, self._counts = self._counts, []
        return counts

    def _refresh_until(self, until_s: float) -> None:
        how = self.how
        while (at_s := how.phase_s + self._tick * how.refresh_s) <= until_s:
            self._tick += 1
            if at_s < how.refresh_s:
                continue
            covered_s = how.share * how.refresh_s
            true_w = self.truth.energy_j(at_s - covered_s, at_s) / covered_s if covered_s else self.truth.power_w(at_s)
            noise_w = how.rng.gauss(0.0, how.noise_w) if how.noise_w else 0.0
            watts = how.gain * true_w + how.offset_w + noise_w
            if not _within(how.freezes, at_s):
                self._shown_w = round(watts / how.count_w) * how.count_w if how.count_w else watts
                self._counted_s = at_s
            elif not how.counter_freezes:
                self._counted_s = at_s
            self._shown_j += self._shown_w * how.refresh_s

    def _count(self, t_s: float) -> None:
        how = self.how
        if how.counter == "none":
            return
        true_j = how.gain * self.truth.since_start_j(self._counted_s) + how.offset_w * self._counted_s
        counts = math.floor((self._shown_j if how.counter == "shown" else true_j) / how.counter_count_j)
        joules = counts * how.counter_count_j
        self._first_j = joules if self._first_j is None else self._first_j
        self._counts.append(OwnCounter(t_s=t_s, joules=joules - self._first_j, resolution_j=how.counter_count_j))


class VirtualCounter(CounterSource):
    """A hardware counter of joules that is new every refresh_s."""

    def __init__(self, truth: Truth, clock: VirtualClock, how: Behaviour, **facts: object) -> None:
        self.truth, self.clock, self.how = truth, clock, how
        settings: dict[str, Any] = {
            "name": "virtual", "period_s": 0.1, "gain_u": 0.01, "resolution": how.counter_count_j, "scope": "board",
            "covers": ("all",),
        } | facts  # fmt: skip
        self._info = SourceInfo(kind="counter", **settings)
        self._polled_s = clock.now_s

    def read(self) -> Sample:
        return self._at(self.clock.now_s)

    def poll(self) -> list[Sample]:
        """What a thread has read every period since the last call, and now."""
        samples = []
        while self._polled_s + self._info.period_s < self.clock.now_s:
            self._polled_s += self._info.period_s
            samples.append(self._at(self._polled_s))
        self._polled_s = self.clock.now_s
        return [*samples, self._at(self.clock.now_s)]

    def _at(self, t_s: float) -> Sample:
        how = self.how
        for start_s, length_s in how.freezes:
            t_live_s = min(t_s, start_s) if start_s <= t_s < start_s + length_s else t_s
            if t_live_s != t_s:
                return t_s, self._at(t_live_s - 1e-9)[1]
        tick_s = how.phase_s + math.floor((t_s - how.phase_s) / how.refresh_s) * how.refresh_s
        return t_s, math.floor(how.gain * self.truth.since_start_j(tick_s) / how.counter_count_j) * how.counter_count_j


def _within(spans: Sequence[tuple[float, float]], t_s: float) -> bool:
    return any(start_s <= t_s < start_s + length_s for start_s, length_s in spans)
