"""simulated: a simulated meter for demonstrations and tests. Nothing is measured, and every result is labelled so.

The power is ``power_w`` between the marks that the sampler sets around the work and ``idle_w`` otherwise, so
the net energy is exactly (power_w - idle_w) x time between the marks: what trains longer costs more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hardware.errors import UnknownSourceError
from hardware.source import Found, NullSource, PowerSource, Probe, Sample, SourceInfo
from hardware.sources.parameters import full_name, numbers

DEFAULTS = {"power_w": 5.0, "idle_w": 2.0, "period_s": 0.02}
"""Roughly a single-board computer; the period is that of a good USB meter."""

BACKLOG_S = 600.0
"""The simulated meter has a buffer of this length: older samples are lost when it is not polled."""


class SimulatedSource(PowerSource):
    """A meter with a perfect scale whose samples lie on a fixed grid of ``period_s``."""

    def __init__(
        self, *, power_w: float, idle_w: float, period_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._power_w = power_w
        self._idle_w = idle_w
        self._period_s = period_s
        self._clock = clock
        self._working = False
        self._marks: list[tuple[float, bool]] = []
        self._origin_s = 0.0
        self._tick = 0
        params = {"power_w": power_w, "idle_w": idle_w, "period_s": period_s}
        changed = {key: f"{value:g}" for key, value in params.items() if value != DEFAULTS[key]}
        self._info = SourceInfo(
            # a resumed run chooses the source by this name
            name=full_name("simulated", "", changed),
            kind="power",
            scope="model",
            covers=("nothing: a simulation",),
            period_s=period_s,
            averages=1.0,
            gain_u=0.0,
            params=params,
        )

    def open(self) -> None:
        self._origin_s = self._clock()
        self._tick = 0
        self._working = False
        self._marks.clear()

    def mark(self, t_mono_s: float, *, working: bool) -> None:
        self._marks.append((t_mono_s, working))

    def poll(self) -> list[Sample]:
        last = int((self._clock() - self._origin_s) / self._period_s)
        self._tick = max(self._tick, last - int(BACKLOG_S / self._period_s))
        samples = []
        while self._tick < last:
            self._tick += 1
            end_s = self._origin_s + self._tick * self._period_s
            # the mean power since the sample before, as an averaging meter gives: no edge is lost between samples
            share = self._working_share(end_s - self._period_s, end_s)
            samples.append((end_s, self._idle_w + (self._power_w - self._idle_w) * share))
        return samples

    def _working_share(self, start_s: float, end_s: float) -> float:
        worked_s, at_s = 0.0, start_s
        while self._marks and self._marks[0][0] <= end_s:
            mark_s, working = self._marks.pop(0)
            mark_s = max(mark_s, at_s)
            worked_s += (mark_s - at_s) * self._working
            at_s, self._working = mark_s, working
        worked_s += (end_s - at_s) * self._working
        return worked_s / (end_s - start_s)


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Always found.

    Raises:
        UnknownSourceError: a parameter other than power_w, idle_w and period_s, or a period of 0.
    """
    values = numbers("simulated", params, DEFAULTS)
    if values["period_s"] < 0.001:
        raise UnknownSourceError(f"'simulated': period_s must be >= 0.001, not {params['period_s']!r}")
    source = SimulatedSource(power_w=values["power_w"], idle_w=values["idle_w"], period_s=values["period_s"])
    return Found(
        source,
        f"SIMULATED, nothing is measured: {values['power_w']:g} W while a cell trains, "
        f"{values['idle_w']:g} W otherwise",
    )


def probe_none(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found always: the source ``none``, for runs without energy."""
    return Found(NullSource(), "energy is not measured")
