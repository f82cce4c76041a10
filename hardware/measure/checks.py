"""Checks: what speaks against a window, apart from its figures. Each is a pure function of what was seen."""

from __future__ import annotations

from hardware.measure.energy import INTEGRALS, Band, gap_limit_s, longest_gap_s, lost_fraction, memory_s
from hardware.measure.grade import (
    MAX_CROSS_CHECK,
    MAX_CROSS_CHECK_COUNTS,
    MAX_IDLE_BUSY,
    MAX_IDLE_SHIFT,
    MAX_IDLE_SHIFT_W,
    MAX_LOST,
    MIN_IDLE_S,
    MIN_IDLE_SAMPLES,
    NOT_QUIET,
)
from hardware.measure.idle import IdleBaseline
from hardware.measure.observation import Observation, UnusableError
from hardware.measure.result import CrossCheck
from hardware.source import SourceInfo


def idle_flags(info: SourceInfo, idle: IdleBaseline | None) -> list[str]:
    if idle is None or idle.power_w is None:
        return ["no_idle"]
    too_few = info.kind == "power" and idle.n_samples < MIN_IDLE_SAMPLES
    flags = ["short_idle"] if idle.duration_s < MIN_IDLE_S or too_few else []
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
    if info.kind != "power":
        return None, None
    lost = lost_fraction(seen.samples, band.a_s, band.b_s, period_s)
    gap_s = longest_gap_s(seen.samples, band.a_s, band.b_s)
    if lost > MAX_LOST or gap_s > gap_limit_s(period_s):
        raise UnusableError("gap", f"{lost:.1%} of the samples lost, longest gap {gap_s:.2f} s")
    return lost, gap_s


def leak(
    info: SourceInfo, seen: Observation, band: Band, *, idle_power_w: float | None, net_j: float | None
) -> tuple[float, list[str]]:
    """Energy above idle in the quiet outside the band: 0 if the quiet was quiet and the clocks agree."""
    if info.kind != "power" or idle_power_w is None or net_j is None or not band.guarded:
        return 0.0, []
    step_w = abs(net_j) / band.work_s
    leak_j, flags = 0.0, []
    for start_s, end_s in ((seen.quiet_from_s + memory_s(info), band.a_s), (band.b_s, seen.quiet_until_s)):
        if end_s - start_s < info.period_s / 2:
            continue  # too short to tell anything
        try:
            above_j = INTEGRALS[info.kind](seen.samples, start_s, end_s) - idle_power_w * (end_s - start_s)
        except ValueError:
            continue  # the samples end before the quiet does
        above_w = abs(above_j) / (end_s - start_s)
        allowed_w = max(MAX_IDLE_SHIFT_W, MAX_IDLE_SHIFT * max(idle_power_w, step_w))
        if above_w > max(NOT_QUIET * step_w, allowed_w):
            raise UnusableError("not_quiet", f"{above_w:.2f} W off idle in the quiet around the work")
        if above_w > allowed_w:
            flags = ["busy_guard"]
        leak_j += abs(above_j)
    return leak_j, flags


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
        return None, []  # it was set back meanwhile, and says nothing
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
