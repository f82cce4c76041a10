"""Live figures of a source: what `jouletune meter` shows. Samples, counts and estimates become spans with joules."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.sparkline import spark
from hardware.calibration import update_period
from hardware.energy import gap_limit_s
from hardware.profile import UpdatePeriod
from hardware.source import Sample, SourceInfo

MINUTE_S = 60
RATE_S = 10.0

COUNTER_STEP_S = 1.0
COUNTER_PERIODS = 5
"""A counter's power is the difference over a second, and over five of its updates at least: one count is coarse."""


@dataclass(slots=True)
class LiveFigures:
    """What is known since `start_s`. Watts of a counter or an estimate are means over the span that they come from.

    Attributes:
        joules: over the time that was seen.
        seen_s: that time; gaps longer than a source may bridge are not in it.
        count: samples, readings or estimates.
    """

    info: SourceInfo
    start_s: float
    now_w: float | None = None
    min_w: float = math.inf
    max_w: float = -math.inf
    joules: float = 0.0
    seen_s: float = 0.0
    count: int = 0
    latest_s: float | None = None
    _raw: deque[Sample] = field(default_factory=deque)
    _watts: deque[Sample] = field(default_factory=deque)
    _from: Sample | None = None

    @property
    def mean_w(self) -> float | None:
        """Over the time that was seen."""
        return self.joules / self.seen_s if self.seen_s > 0 else self.now_w

    def add(self, samples: Sequence[Sample]) -> None:
        """Take the samples of a meter, or the readings of a counter."""
        for t_s, value in samples:
            if not math.isfinite(value) or (self.latest_s is not None and t_s <= self.latest_s):
                continue
            self.count += 1
            self._keep(self._raw, t_s, value)
            if self.info.kind == "counter":
                self._count(t_s, value)
            else:
                self._sample(t_s, value)
            self.latest_s = t_s

    def add_span(self, start_s: float, end_s: float, joules: float) -> None:
        """Take an estimate of a span."""
        if end_s > start_s:
            self.count += 1
            self.latest_s = end_s
            self._span(end_s, end_s - start_s, joules)
            self._see(end_s, joules / (end_s - start_s))

    def break_off(self) -> None:
        """Whatever comes next has nothing to do with what came before."""
        self._from = None

    def rate_hz(self, now_s: float) -> float:
        """Samples a second of late."""
        since_s = max(self.start_s, now_s - RATE_S)
        recent = sum(t_s > since_s for t_s, _ in (self._raw or self._watts))
        return recent / (now_s - since_s) if now_s > since_s else 0.0

    def update(self) -> UpdatePeriod | None:
        """How often a value was new in the last minute; None for an estimate, and at the beginning."""
        return update_period(list(self._raw)) if len(self._raw) > 1 else None

    def silent_s(self, now_s: float) -> float:
        """For how long nothing has come, if that is longer than it should be; else 0."""
        silence_s = now_s - (self.latest_s if self.latest_s is not None else self.start_s)
        return silence_s if silence_s > gap_limit_s(self.info.period_s) else 0.0

    def bars(self, now_s: float) -> str:
        """The last minute, a bar a second between the lowest and the highest of them; a blank where nothing came."""
        sums = [[0.0, 0] for _ in range(MINUTE_S)]
        for t_s, watts in self._watts:
            index = MINUTE_S - 1 - int(now_s - t_s)
            if 0 <= index < MINUTE_S:
                sums[index][0] += watts
                sums[index][1] += 1
        return spark([total / n if n else None for total, n in sums])

    def range_w(self) -> tuple[float, float] | None:
        """Lowest and highest power of the last minute."""
        watts = [watts for _, watts in self._watts]
        return (min(watts), max(watts)) if watts else None

    def _sample(self, t_s: float, watts: float) -> None:
        if self._from is not None:
            from_s, from_w = self._from
            self._span(t_s, t_s - from_s, (t_s - from_s) * (from_w + watts) / 2)
        self._from = (t_s, watts)
        self._see(t_s, watts)

    def _count(self, t_s: float, joules: float) -> None:
        if self._from is None:
            self._from = (t_s, joules)
            return
        from_s, from_j = self._from
        if t_s - from_s >= max(COUNTER_STEP_S, COUNTER_PERIODS * self.info.period_s):
            # a counter goes on while nobody reads it, so there are no gaps
            self.joules += joules - from_j
            self.seen_s += t_s - from_s
            self._see(t_s, (joules - from_j) / (t_s - from_s))
            self._from = (t_s, joules)

    def _span(self, end_s: float, length_s: float, joules: float) -> None:
        if self.info.kind == "estimate" or length_s <= gap_limit_s(self.info.period_s):
            self.joules += joules
            self.seen_s += length_s

    def _see(self, t_s: float, watts: float) -> None:
        self.now_w = watts
        self.min_w, self.max_w = min(self.min_w, watts), max(self.max_w, watts)
        self._keep(self._watts, t_s, watts)

    def _keep(self, queue: deque[Sample], t_s: float, value: float) -> None:
        queue.append((t_s, value))
        while queue[0][0] < t_s - MINUTE_S:
            queue.popleft()


def period_text(update: UpdatePeriod | None) -> str:
    """When a value was new, in words: ``a new value every 0.50 s``."""
    if update is None:
        return ""
    if update.period_s is None:
        return "too few changes to tell how often a value is new"
    if update.period_s <= 1.2 * update.spacing_s:
        return f"a new value every {update.period_s:.3g} s or faster"
    return f"a new value every {update.period_s:.2g} s"
