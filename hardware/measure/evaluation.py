"""Evaluation: from what was seen of one window to its energy, uncertainty, flags and grade. A pure function."""

from __future__ import annotations

import dataclasses

from hardware.device.changes import changes, standing
from hardware.measure import checks
from hardware.measure.budget import Term, budget, expanded_j
from hardware.measure.energy import INTEGRALS, Band, gap_swing_j, gross_and_net_j, guard_needed_s, memory_s
from hardware.measure.grade import UNSEEN_PERIODS, WARN_LOST, grade, label, min_window_s
from hardware.measure.idle import IdleBaseline
from hardware.measure.observation import Observation, UnusableError
from hardware.measure.result import EnergyResult
from hardware.source import SourceInfo

SLACK_S = 0.25
"""How late the work may start after the window opened, and the window close after the work, to count as at once."""


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
        env_before=seen.env_before,
        env_after=seen.env_after,
        health=seen.health,
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
    flags = [*label(info), *band_flags, *checks.idle_flags(info, idle)]
    flags += [*standing(seen.env_before), *changes(seen.env_before, seen.env_after)]
    lost, gap_s = checks.losses(info, seen, band, period_s)
    flags += ["lost_samples"] if (lost or 0) > WARN_LOST else []
    gross_j, net_j = gross_and_net_j(_band_energy_j(info, seen, band), band, idle_power_w)
    if gross_j <= 0:
        raise UnusableError("no_energy", f"{gross_j:g} J in {band.work_s:.3f} s of work")
    leak_j, leak_flags = checks.leak(info, seen, band, idle_power_w=idle_power_w, net_j=net_j)
    checked, check_flags = checks.cross_check(info, seen)
    flags += [*leak_flags, *check_flags]
    if net_j is not None and net_j <= 0:
        flags.append("net_not_positive")
    if info.kind == "power" and band.work_s < UNSEEN_PERIODS * info.period_s:
        flags.append("unseen")
    if band.work_s < min_window_s(info, guarded=band.guarded):
        flags.append("short_window")
    if seen.executions > 1:
        flags.append("repeated_in_window")
    terms = budget(
        info,
        band,
        gross_j=gross_j,
        net_j=net_j,
        idle_power_w=idle_power_w,
        idle_power_u_w=idle.u_power_w if idle else None,
        period_s=period_s,
        gap_j=gap_swing_j(seen.samples, band.a_s, band.b_s, period_s) if info.kind == "power" else 0.0,
        leak_j=leak_j,
    )
    terms = tuple(_per_execution(term, seen.executions) for term in terms)
    count = seen.executions
    return dataclasses.replace(
        result,
        energy_gross_j=gross_j / count,
        energy_net_j=None if net_j is None else net_j / count,
        energy_u_j=expanded_j([term.gross_j for term in terms]),
        energy_net_u_j=None if net_j is None else expanded_j([term.net_j or 0.0 for term in terms]),
        grade=grade(info, flags),
        flags=tuple(flags),
        n_samples=sum(band.a_s <= t <= band.b_s for t, _ in seen.samples) if seen.samples else 1,
        terms=terms,
        band_s=band.span_s / count,
        lost_fraction=lost,
        longest_gap_s=gap_s,
        cross_check=checked,
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
    # out to where the device was quiet for certain: there a counter was read, and a line between readings is exact
    a_s = min(seen.t0_s - info.period_s, seen.opened_s)
    b_s = max(seen.t1_s + memory_s(info), seen.closed_s)
    if seen.t0_s - guard_needed_s(info) < seen.quiet_from_s or b_s > seen.quiet_until_s:
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


def _per_execution(term: Term, count: int) -> Term:
    net_j = None if term.net_j is None else term.net_j / count
    return dataclasses.replace(term, gross_j=term.gross_j / count, net_j=net_j)
