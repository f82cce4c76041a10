"""Control: a fixed small workload, measured again and again, which shows whether meter and device have moved.

One core is busy for ten seconds. What it draws above idle depends on nothing that a run changes; where it moves, the
meter, the device or its surroundings have, and joules of different hours are not comparable.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hardware.calibration.procedure import Work, busy_core
from hardware.measure.sampler import Sampler

CONTROL_S = 10.0
GUARD_S = 2.0
MAX_MOVE = 0.03
"""Largest distance of two control measurements, as a share of their mean, beyond their uncertainty without gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One measurement of the control workload.

    Attributes:
        started_at: UTC, ISO 8601.
        started_mono_s: the same moment on the clock of the samples.
        power_w: mean power above idle, or in all where there is no baseline; None where it could not be measured.
        u_power_w: its standard uncertainty (k = 1), without what is common to all windows of the source.
        grade: of the window.
    """

    started_at: str
    started_mono_s: float
    power_w: float | None
    u_power_w: float | None
    grade: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """What the control measurements of a session come to.

    Attributes:
        n: usable ones.
        mean_w: their mean.
        scatter: their standard deviation, as a share of that.
        drift: the last less the first, as a share of that.
        moved: two of them are further apart than MAX_MOVE and their uncertainty (k = 2).
    """

    n: int
    mean_w: float
    scatter: float
    drift: float
    moved: bool


def measure(sampler: Sampler, *, seconds: float = CONTROL_S, work: Work = busy_core) -> Control:
    """Measure the control workload once; blocks for that long and a little more.

    Raises:
        HardwareError: its process did not start.
    """
    started_at, start_s = datetime.now(UTC).isoformat(timespec="seconds"), sampler.clock.monotonic()
    with work(seconds) as go:
        window = sampler.open_window("control", GUARD_S)
        try:
            t0_s, t1_s = go()
            result = window.close(t0_s=t0_s, t1_s=t1_s, idle=sampler.idle_baseline, rhythm=())
        finally:
            window.cancel()
    has_net = result.energy_net_j is not None
    joules = result.energy_net_j if has_net else result.energy_gross_j
    own_j2 = [(term.net_j if has_net else term.gross_j) or 0.0 for term in result.terms if term.common != "source"]
    return Control(
        started_at=started_at,
        started_mono_s=start_s,
        power_w=None if joules is None else joules / result.duration_s,
        u_power_w=None if joules is None else sum(one**2 for one in own_j2) ** 0.5 / result.duration_s,
        grade=result.grade,
    )


def movement(points: Sequence[Control]) -> Movement | None:
    """What control measurements of one session show; None for fewer than two usable ones, or of no power."""
    usable = [(one.power_w, one.u_power_w or 0.0) for one in points if one.power_w is not None and one.grade != "X"]
    if len(usable) < 2:
        return None
    watts = [power_w for power_w, _ in usable]
    mean_w = statistics.fmean(watts)
    if mean_w <= 0:
        return None
    (low_w, low_u_w), (high_w, high_u_w) = min(usable), max(usable)
    return Movement(
        n=len(usable),
        mean_w=mean_w,
        scatter=statistics.stdev(watts) / mean_w,
        drift=(watts[-1] - watts[0]) / mean_w,
        moved=high_w - low_w > MAX_MOVE * mean_w + 2 * (low_u_w**2 + high_u_w**2) ** 0.5,
    )
