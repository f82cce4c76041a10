"""Evaluation: from what was seen of one window to its energy, uncertainty, flags and grade. A pure function."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.energy import (
    INTEGRALS,
    Band,
    gap_limit_s,
    gross_and_net_j,
    guard_needed_s,
    longest_gap_s,
    lost_fraction,
    uncertainty,
)
from hardware.grade import (
    MAX_IDLE_BUSY,
    MAX_LOST,
    MIN_IDLE_S,
    MIN_IDLE_SAMPLES,
    WARN_LOST,
    grade,
    label,
    min_window_s,
)
from hardware.result import EnergyResult, IdleBaseline
from hardware.source import Sample, SourceInfo

SLACK_S = 0.25
"""How late the work may start after the window opened, and the window close after the work, to count as at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that was seen of a window. Times are this host's monotonic clock, in this order, s.

    Attributes:
        quiet_from_s: the device has been left alone since then.
        opened_s: the work was allowed to start.
        t0_s, t1_s: the work itself, as the worker reports it.
        closed_s: the end of the work was heard of.
        quiet_until_s: the device was left alone until then.
        executions: how often the work was done between t0_s and t1_s.
        samples: of a counter or meter, over the quiet times too.
        estimate_j: of an estimate, for [opened_s, closed_s].
        error: why the source died, None while it lives.
    """

    quiet_from_s: float
    opened_s: float
    t0_s: float
    t1_s: float
    closed_s: float
    quiet_until_s: float
    executions: int
    samples: Sequence[Sample] = ()
    estimate_j: float | None = None
    error: str | None = None


class UnusableError(Exception):
    """The window has no figure: the flag that says so, and why. Caught in `evaluate`."""

    def __init__(self, flag: str, why: str) -> None:
        super().__init__(why)
        self.flag = flag


def evaluate(info: SourceInfo, seen: Observation, idle: IdleBaseline | None, *, poll_s: float) -> EnergyResult:
    """The energy of one execution, with grade and flags. Never raises because of what the source said.

    Args:
        info: the source.
        seen: the window.
        idle: the baseline to subtract; without one there is no net energy.
        poll_s: how often the source was asked.
    """
    work_s = seen.t1_s - seen.t0_s
    nothing = EnergyResult(
        duration_s=work_s / seen.executions,
        window_s=work_s,
        executions=seen.executions,
        source=info.name,
        source_kind=None,
        grade=None,
    )
    if info.kind == "none":
        return nothing
    result = dataclasses.replace(nothing, source_kind=info.kind, idle_power_w=idle.power_w if idle else None)
    try:
        return _measured(result, info, seen, idle, max(info.period_s, poll_s))
    except UnusableError as error:
        # a wrong joule is worse than none
        flags = (*label(info), error.flag)
        return dataclasses.replace(result, grade=grade(info, flags), flags=flags, error=str(error))


def _measured(
    result: EnergyResult, info: SourceInfo, seen: Observation, idle: IdleBaseline | None, period_s: float
) -> EnergyResult:
    if seen.error is not None:
        raise UnusableError("source_died", seen.error)
    if seen.t0_s < seen.opened_s or seen.t1_s > seen.closed_s:
        raise UnusableError("times_outside_window", "the worker's clock is not this host's")
    idle_power_w = result.idle_power_w
    band, band_flags = _band(info, seen, has_idle=idle_power_w is not None)
    flags = [*label(info), *band_flags, *_idle_flags(info, idle), *_lost_flags(info, seen, band, period_s)]
    gross_j, net_j = gross_and_net_j(_band_energy_j(info, seen, band), band, idle_power_w)
    if gross_j <= 0:
        raise UnusableError("no_energy", f"{gross_j:g} J in {band.work_s:.3f} s of work")
    if net_j is not None and net_j <= 0:
        flags.append("net_not_positive")
    if band.work_s < min_window_s(info, guarded=band.guarded):
        flags.append("short_window")
    gross_u, net_u = uncertainty(
        info,
        band,
        gross_j=gross_j,
        net_j=net_j,
        idle_power_w=idle_power_w,
        idle_power_u_w=idle.u_power_w if idle else None,
        period_s=period_s,
    )
    count = seen.executions
    budgets = {"gross": gross_u} | ({"net": net_u} if net_u else {})
    return dataclasses.replace(
        result,
        energy_gross_j=gross_j / count,
        energy_net_j=None if net_j is None else net_j / count,
        energy_u_j=gross_u.expanded_j / count,
        energy_net_u_j=None if net_u is None else net_u.expanded_j / count,
        grade=grade(info, flags),
        flags=tuple(flags),
        n_samples=sum(band.a_s <= t <= band.b_s for t, _ in seen.samples) if seen.samples else 1,
        terms={
            name: {cause: joules / count for cause, joules in dataclasses.asdict(budget).items()}
            for name, budget in budgets.items()
        },
    )


def _band(info: SourceInfo, seen: Observation, *, has_idle: bool) -> tuple[Band, list[str]]:
    """What to integrate: the work with quiet on both sides where there is enough of it, else the bare work."""
    flags = []
    if seen.t0_s - seen.opened_s > SLACK_S:
        flags.append("late_start")
    if seen.closed_s - seen.t1_s > SLACK_S:
        flags.append("late_end")
    if info.kind == "estimate":
        # an estimate covers all that happened while it ran; it cannot be cut afterwards
        return Band(a_s=seen.opened_s, b_s=seen.closed_s, t0_s=seen.t0_s, t1_s=seen.t1_s), flags
    plain = Band(a_s=seen.t0_s, b_s=seen.t1_s, t0_s=seen.t0_s, t1_s=seen.t1_s)
    if flags or not has_idle:
        return plain, flags
    need_s = guard_needed_s(info)
    # out to where the device was quiet for certain: there a counter was read, and a line between readings is exact
    a_s = min(seen.t0_s - need_s, seen.opened_s)
    b_s = max(seen.t1_s + need_s, seen.closed_s)
    if a_s < seen.quiet_from_s or b_s > seen.quiet_until_s:
        return plain, ["no_guard"]
    return Band(a_s=a_s, b_s=b_s, t0_s=seen.t0_s, t1_s=seen.t1_s), []


def _band_energy_j(info: SourceInfo, seen: Observation, band: Band) -> float:
    if info.kind == "estimate":
        if seen.estimate_j is None:
            raise UnusableError("source_died", "the estimate gave nothing")
        return seen.estimate_j
    try:
        return INTEGRALS[info.kind](seen.samples, band.a_s, band.b_s)
    except ValueError as error:
        raise UnusableError("gap", str(error)) from error


def _idle_flags(info: SourceInfo, idle: IdleBaseline | None) -> list[str]:
    if idle is None or idle.power_w is None:
        return ["no_idle"]
    too_few = info.kind == "power" and idle.n_samples < MIN_IDLE_SAMPLES
    flags = ["short_idle"] if idle.duration_s < MIN_IDLE_S or too_few else []
    return flags + (["busy_idle"] if (idle.busy_fraction or 0) > MAX_IDLE_BUSY else [])


def _lost_flags(info: SourceInfo, seen: Observation, band: Band, period_s: float) -> list[str]:
    """A lost sample of a meter is lost energy; a counter catches up at the next reading."""
    if info.kind != "power":
        return []
    lost = lost_fraction(seen.samples, band.a_s, band.b_s, period_s)
    gap_s = longest_gap_s(seen.samples, band.a_s, band.b_s)
    if lost > MAX_LOST or gap_s > gap_limit_s(period_s):
        raise UnusableError("gap", f"{lost:.1%} of the samples lost, longest gap {gap_s:.2f} s")
    return ["lost_samples"] if lost > WARN_LOST else []
