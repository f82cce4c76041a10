"""Evaluation: computes energy, uncertainty, flags and grade of one window from its observation. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hardware.device.changes import changes, standing
from hardware.measure import sampling
from hardware.measure.budget import COVERAGE_FACTOR, Term, budget, expanded_j
from hardware.measure.energy import (
    INTEGRALS,
    Band,
    gap_limit_s,
    gap_swing_j,
    gross_and_net_j,
    guard_needed_s,
    longest_gap_s,
    lost_fraction,
    memory_s,
)
from hardware.measure.exclusive import others_of
from hardware.measure.grade import (
    MAX_CLOCK,
    MAX_CROSS_CHECK,
    MAX_CROSS_CHECK_COUNTS,
    MAX_DOUBT,
    MAX_IDLE_BUSY,
    MAX_LOST,
    MAX_ZERO,
    MIN_IDLE_S,
    MIN_IDLE_SAMPLES,
    UNSEEN_PERIODS,
    WARN_LOST,
    grade,
    label,
    min_window_s,
)
from hardware.measure.idle import IdleBaseline
from hardware.measure.observation import Observation, UnusableError
from hardware.measure.phases import Phase, covers, seconds, split
from hardware.measure.refresh import Refresh, new_readings, of_window
from hardware.measure.result import CrossCheck, EnergyResult
from hardware.source import Sample, SourceInfo

SLACK_S = 0.25
"""Longest time from the opening of the window to the work, and from the work to the closing, that needs no flag."""


def evaluate(info: SourceInfo, seen: Observation, idle: IdleBaseline | None, *, poll_s: float) -> EnergyResult:
    """The energy of one execution, with grade and flags. Never raises because of the source.

    Args:
        info: the source.
        seen: the window.
        idle: the baseline to subtract; without one there is no net energy.
        poll_s: time between two polls of the source.
    """
    work_s = seen.t1_s - seen.t0_s
    nothing = EnergyResult(
        duration_s=work_s / seen.executions,
        window_s=work_s,
        executions=seen.executions,
        source=info.name,
        source_kind=None,
        grade=None,
        phases=seconds(seen.spans, seen.executions),
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
    if seen.interruptions.reason is not None:
        raise UnusableError(*seen.interruptions.reason)
    if seen.t0_s < seen.opened_s or seen.t1_s > seen.closed_s:
        raise UnusableError("times_outside_window", "the worker's clock is not this host's")
    idle_power_w = result.idle_power_w
    refresh = _refresh(info, seen)
    slow = refresh.period_s > info.period_s
    if slow:
        # a value may be one refresh old when it is shown
        late_s = max(info.latency_s, refresh.period_s)
        info = dataclasses.replace(info, period_s=refresh.period_s, latency_s=late_s)
        period_s = max(period_s, refresh.period_s)
    band, band_flags = _band(info, seen, has_idle=idle_power_w is not None)
    flags = [*label(info), *band_flags, *idle_flags(info, idle)]
    flags += [*standing(seen.env_before), *changes(seen.env_before, seen.env_after)]
    lost, gap_s = losses(info, seen, band, period_s)
    flags += ["lost_samples"] if (lost or 0) > WARN_LOST else []
    flags += ["slow_meter"] if slow else []
    frozen_s, longest_s = refresh.frozen_s(band)
    if frozen_s > MAX_LOST * band.span_s or longest_s > gap_limit_s(period_s):
        # a display that stands still loses as much as samples that are missing
        raise UnusableError("frozen", f"no new reading for {frozen_s:.1f} s in all, {longest_s:.1f} s at a time")
    gross_j, net_j = gross_and_net_j(_band_energy_j(info, seen, band), band, idle_power_w)
    if gross_j <= 0:
        raise UnusableError("no_energy", f"{gross_j:g} J in {band.work_s:.3f} s of work")
    others = others_of(info, seen, band, idle, net_j)
    checked, check_flags = cross_check(info, seen)
    flags += [*others.flags, *check_flags]
    if net_j is not None and net_j <= 0:
        flags.append("net_not_positive")
    flags += _length_flags(info, seen, band)
    between = sampling.of_window(
        info,
        seen.samples,
        band,
        earlier=seen.earlier,
        idle_power_w=idle_power_w,
        period_s=period_s,
        rhythm=seen.rhythm,
    )
    flags += [*between.flags, *_broken(seen)]
    doubtful_j = _doubtful_j(seen, refresh)
    if net_j is not None and doubtful_j > MAX_DOUBT * abs(net_j):
        flags.append("may_be_frozen")
    zero_matters = info.zero_w > MAX_ZERO * gross_j / band.work_s
    flags += ["zero_unchecked"] if zero_matters else []
    terms = budget(
        info,
        band,
        gross_j=gross_j,
        net_j=net_j,
        idle_power_w=idle_power_w,
        idle_power_u_w=idle.u_power_w if idle else None,
        period_s=period_s,
        gap_j=doubtful_j + (gap_swing_j(seen.samples, band.a_s, band.b_s, period_s) if info.kind == "power" else 0.0),
        leak_j=others.leak_j if band.guarded else 0.0,
        zero_w=info.zero_w if zero_matters else 0.0,
        edge_s=between.edge_s,
        edge_u_s=seen.edge_u_s,
        exclusive=(others.inside_j, others.basis),
        paths_j=_paths_j(info, checked),
        sampling_u_j=between.energy_u_j,
        shifted_j=between.shifted_s * abs(net_j or 0.0) / band.work_s,
        # at the edges of a slow meter the load may step by all that was seen
        least_step_w=_swing_w(seen.samples) if slow and info.kind == "power" else between.end_step_w,
    )
    flags += _clock_flags(seen, terms, gross_j, net_j)
    phases = result.phases
    if len(phases) > 1 and covers(seen.spans, seen.t0_s, seen.t1_s):
        phases = split(
            info,
            band,
            seen.samples,
            seen.spans,
            executions=seen.executions,
            idle_power_w=idle_power_w,
            idle_power_u_w=idle.u_power_w if idle else None,
            period_s=period_s,
            terms=terms,
        )
        flags += ["phase_unresolved"] if any(phase.energy_gross_j is None for phase in phases) else []
    terms = tuple(_per_execution(term, seen.executions) for term in terms)
    count = seen.executions
    result = dataclasses.replace(
        result,
        energy_gross_j=gross_j / count,
        energy_net_j=None if net_j is None else net_j / count,
        energy_u_j=expanded_j([term.gross_j for term in terms]),
        energy_net_u_j=None if net_j is None else expanded_j([term.net_j or 0.0 for term in terms]),
        grade=grade(info, flags),
        flags=tuple(flags),
        n_samples=new_readings([one for one in seen.samples if band.a_s <= one[0] <= band.b_s], info.period_s)
        if seen.samples
        else 1,
        terms=terms,
        band_s=band.span_s / count,
        lost_fraction=lost,
        longest_gap_s=gap_s,
        cross_check=checked,
        phases=phases,
    )
    return dataclasses.replace(result, phases=(_whole(result),)) if len(phases) == 1 else result


def _length_flags(info: SourceInfo, seen: Observation, band: Band) -> list[str]:
    flags = ["unseen"] if info.kind == "power" and band.work_s < UNSEEN_PERIODS * info.period_s else []
    flags += ["short_window"] if band.work_s < min_window_s(info, guarded=band.guarded) else []
    return flags + (["repeated_in_window"] if seen.executions > 1 else [])


def _clock_flags(seen: Observation, terms: Sequence[Term], gross_j: float, net_j: float | None) -> list[str]:
    unsure = any(
        COVERAGE_FACTOR * term.gross_j > MAX_CLOCK * gross_j
        or COVERAGE_FACTOR * (term.net_j or 0.0) > MAX_CLOCK * abs(net_j or gross_j)
        for term in terms
        if term.name == "clock"
    )
    return ["clock_jumped"] * seen.clock_jumped + ["clock_unsure"] * unsure


def _broken(seen: Observation) -> list[str]:
    """A connection that breaks many frames, or a meter that sends what cannot be true, may also send what passes."""
    dropped = seen.health.bad_frames + seen.health.implausible if seen.health is not None else 0
    return ["broken_frames"] if dropped > max(1.0, MAX_LOST * len(seen.samples)) else []


def _refresh(info: SourceInfo, seen: Observation) -> Refresh:
    counts = [(count.t_s, count.joules) for count in seen.counts]
    count_j = max((count.resolution_j for count in seen.counts), default=0.0)
    restarted = bool(seen.counts) and seen.counts[-1].restarts != seen.counts[0].restarts
    return of_window(
        info,
        seen.samples,
        [] if restarted else counts,
        count_j,
        earlier=seen.earlier,
        work=(seen.t0_s, seen.t1_s),
    )


def _doubtful_j(seen: Observation, refresh: Refresh) -> float:
    """What values that may have been frozen hide, J: half the swing of the power of the work, for their duration."""
    late_s = 2 * refresh.period_s  # a reading that holds an end of the work may be seen a period later
    swing_w = _swing_w([one for one in seen.samples if seen.t0_s + late_s < one[0] < seen.t1_s - refresh.period_s / 2])
    return swing_w / 2 * sum(end_s - start_s for start_s, end_s in refresh.doubtful)


def _swing_w(samples: Sequence[Sample]) -> float:
    powers_w = [power_w for _, power_w in samples]
    return max(powers_w, default=0.0) - min(powers_w, default=0.0)


def _paths_j(info: SourceInfo, check: CrossCheck | None) -> float:
    """What a meter's counter and watts differ by, J, where rounding does not explain it."""
    if check is None or info.kind != "power":
        return 0.0
    difference_j = abs(check.counter_j - check.integral_j)
    # the counter is rounded to its counts
    return difference_j + check.count_j / 2 if difference_j > check.count_j else 0.0


def _band(info: SourceInfo, seen: Observation, *, has_idle: bool) -> tuple[Band, list[str]]:
    """The span to integrate: the work with quiet on both sides where there is enough of it, else the bare work."""
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
    # out to where the device was certainly quiet: a counter was read there, and a line between readings is exact
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


def _whole(result: EnergyResult) -> Phase:
    """The only phase of a window, with all of its energy."""
    return dataclasses.replace(
        result.phases[0],
        energy_gross_j=result.energy_gross_j,
        energy_net_j=result.energy_net_j,
        energy_u_j=result.energy_u_j,
        energy_net_u_j=result.energy_net_u_j,
        band_s=result.band_s,
    )


def _per_execution(term: Term, count: int) -> Term:
    net_j = None if term.net_j is None else term.net_j / count
    return dataclasses.replace(term, gross_j=term.gross_j / count, net_j=net_j)


def idle_flags(info: SourceInfo, idle: IdleBaseline | None) -> list[str]:
    if idle is None or idle.power_w is None:
        return ["no_idle"]
    # a meter of two readings a second may give one less in 30 s
    too_few = info.kind == "power" and idle.n_samples < 0.95 * MIN_IDLE_SAMPLES
    # a thousandth less is the rounding of two clock readings
    flags = ["short_idle"] if idle.duration_s < 0.999 * MIN_IDLE_S or too_few else []
    flags += ["idle_drift"] if idle.drifted else []
    return flags + (["busy_idle"] if (idle.busy_fraction or 0) > MAX_IDLE_BUSY else [])


def losses(info: SourceInfo, seen: Observation, band: Band, period_s: float) -> tuple[float | None, float | None]:
    """(share of the band that is lost, longest gap in s). A meter's lost sample is lost energy; a counter catches up.

    Raises:
        UnusableError: more than the rules allow to be bridged.
    """
    if seen.health is not None and seen.health.disconnects and info.kind == "counter":
        # a counter inside a meter stands still while the meter is unplugged, so here it does not catch up
        raise UnusableError("gap", f"the meter was lost {seen.health.disconnects} times meanwhile")
    if info.kind == "counter":
        _check_edges(seen, band, period_s)
    if info.kind != "power":
        return None, None
    lost = lost_fraction(seen.samples, band.a_s, band.b_s, period_s)
    gap_s = longest_gap_s(seen.samples, band.a_s, band.b_s)
    if lost > MAX_LOST or gap_s > gap_limit_s(period_s):
        raise UnusableError("gap", f"{lost:.1%} of the samples lost, longest gap {gap_s:.2f} s")
    return lost, gap_s


def _check_edges(seen: Observation, band: Band, period_s: float) -> None:
    """Check that no long pause between two readings of a counter holds the edge of the band and some of the work.

    Raises:
        UnusableError: what passed on either side of the edge is not known.
    """
    for edge_s in (band.a_s, band.b_s):
        left_s = max((t for t, _ in seen.samples if t <= edge_s), default=edge_s)
        right_s = min((t for t, _ in seen.samples if t >= edge_s), default=edge_s)
        if right_s - left_s > gap_limit_s(period_s) and right_s > band.t0_s and left_s < band.t1_s:
            raise UnusableError(
                "gap", f"no reading of the counter for {right_s - left_s:.1f} s around an end of the work"
            )


def cross_check(info: SourceInfo, seen: Observation) -> tuple[CrossCheck | None, list[str]]:
    """The counter and the watts of one source over quiet and work together, if it has both and they ran through.

    Raises:
        UnusableError: they disagree, and the figure is the watts'. Joules of a counter stand, with a flag: watts that
            are sampled now and then are the weaker of the two.
    """
    if info.kind not in INTEGRALS or len(seen.counts) < 2:
        return None, []
    first, last = seen.counts[0], seen.counts[-1]
    if last.restarts != first.restarts:
        return None, []  # it was set back meanwhile: its difference has no meaning
    try:
        sampled_j = INTEGRALS[info.kind](seen.samples, first.t_s, last.t_s)
    except ValueError:
        return None, []
    other_j = last.joules - first.joules
    counts, watts = (sampled_j, other_j) if info.kind == "counter" else (other_j, sampled_j)
    check = CrossCheck(
        span_s=last.t_s - first.t_s,
        integral_j=watts,
        counter_j=counts,
        count_j=max(first.resolution_j, last.resolution_j),
    )
    allowed_j = max(MAX_CROSS_CHECK * abs(sampled_j), MAX_CROSS_CHECK_COUNTS * check.count_j)
    if abs(counts - watts) <= allowed_j:
        return check, []
    if info.kind == "counter":
        return check, ["paths_differ"]
    raise UnusableError(
        "cross_check",
        f"the meter's watts give {watts:.1f} J and its own counter {counts:.1f} J over {check.span_s:.1f} s",
    )
