"""Exclusive: what else the device did while the work ran, and what that may have cost.

Two things show it. Before and after the work the device should draw its idle power: a load that is there on either
side may have gone on inside, at most all the time. And the processor time of the machine, less that of the measuring
process and of all that it has started, is somebody else's; it costs at most about twice what a second of the work's own
processor time did here.

A load that begins and ends inside the work and uses no processor, e.g. of a disk or radio, is seen by neither. Of a
graphics card its driver says which processes compute on it, not what each costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.measure.energy import INTEGRALS, Band, memory_s
from hardware.measure.grade import MAX_IDLE_SHIFT, MAX_IDLE_SHIFT_W, MIN_IDLE_S, NOT_QUIET, label
from hardware.measure.idle import IdleBaseline
from hardware.measure.observation import Load, Observation, UnusableError
from hardware.source import Sample, SourceInfo

CORE_COST = 2.0
"""A second of another program's processor time costs at most so many times what one of the work did."""

FREE_CORES, MARKED_CORES = 0.02, 0.05
"""Cores that other programs may use, beyond those of the idle baseline, without being counted, and without a flag."""

UNUSABLE = 0.5
"""Share of the net energy that others may have cost, from which on it is no figure of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """The power beside the work.

    Attributes:
        above_w: the larger distance from idle, before or after.
        joules: of both together.
        sure_w: distance that the noise of the readings explains.
        seen: whether there was quiet enough to look at on each side.
    """

    above_w: float = 0.0
    joules: float = 0.0
    sure_w: float = 0.0
    seen: tuple[bool, bool] = (False, False)


def quiet(
    info: SourceInfo,
    samples: Sequence[Sample],
    band: Band,
    *,
    quiet_from_s: float,
    quiet_until_s: float,
    idle_power_w: float,
    idle_power_u_w: float,
) -> Quiet:
    """Compare the power before and after the work with the idle power.

    A sample depends on the past only, so those before the work are free of it up to its first moment.
    """
    above_w, seen, joules, sure_w = 0.0, [False, False], 0.0, 0.0
    before_s = max((t_s for t_s, _ in samples if t_s <= band.t0_s), default=band.t0_s)
    after_s = band.b_s if band.guarded else band.t1_s + memory_s(info)
    for side, (start_s, end_s) in enumerate(((quiet_from_s + memory_s(info), before_s), (after_s, quiet_until_s))):
        length_s = end_s - start_s
        if length_s < info.period_s / 2 or length_s <= 0:
            continue
        try:
            off_j = INTEGRALS[info.kind](samples, start_s, end_s) - idle_power_w * length_s
        except ValueError:
            continue  # the samples end before the quiet does
        count_w = (info.resolution or 0.0) / (length_s if info.kind == "counter" else 1.0)
        # the baseline's uncertainty is that of ten parts of it together; one reading scatters more
        scatter_w = idle_power_u_w * math.sqrt(30.0 / length_s)
        seen[side] = True
        joules += abs(off_j)
        sure_w = max(sure_w, 3 * scatter_w + 2 * count_w)
        above_w = max(above_w, abs(off_j) / length_s)
    return Quiet(above_w=above_w, joules=joules, sure_w=sure_w, seen=(seen[0], seen[1]))


def processor_j(load: Load, idle_share: float | None, net_j: float) -> float:
    """Bound of what other programs' processor time cost, J.

    Args:
        idle_share: of the processor that was in use during the idle baseline.
    """
    foreign_s = load.foreign_s(idle_share or 0.0)
    if foreign_s <= FREE_CORES * load.span_s:
        return 0.0
    # work that uses less than one core does not say what a core costs; it is taken to use one
    return CORE_COST * abs(net_j) * foreign_s / max(load.own_s + foreign_s, load.span_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """What the device did beside the work: energy seen in the quiet, a bound of that inside, flags, and in words."""

    leak_j: float = 0.0
    inside_j: float = 0.0
    flags: tuple[str, ...] = ()
    basis: str = "not known: no idle power to compare with"


def others_of(
    info: SourceInfo, seen: Observation, band: Band, idle: IdleBaseline | None, net_j: float | None
) -> Others:
    """What else the device may have done meanwhile.

    Raises:
        UnusableError: as much as the work, or about as much.
    """
    if info.kind not in INTEGRALS or idle is None or idle.power_w is None or net_j is None or label(info):
        return Others()
    step_w = abs(net_j) / band.work_s
    allowed_w = max(MAX_IDLE_SHIFT_W, MAX_IDLE_SHIFT * max(idle.power_w, step_w))
    beside = quiet(
        info,
        seen.samples,
        band,
        quiet_from_s=seen.quiet_from_s,
        quiet_until_s=seen.quiet_until_s,
        idle_power_w=idle.power_w,
        idle_power_u_w=idle.u_power_w or 0.0,
    )
    flags = []
    if seen.other_users:
        flags.append("other_load")
    if beside.above_w > allowed_w + (beside.sure_w if info.kind == "counter" else 0.0):
        flags.append("busy_guard")
        if beside.above_w > NOT_QUIET * step_w:
            raise UnusableError("not_quiet", f"{beside.above_w:.2f} W off idle in the quiet around the work")
    inside_j = beside.above_w * band.work_s if "busy_guard" in flags or beside.above_w > beside.sure_w else 0.0
    looked = [side for side, was in zip(("before", "after"), beside.seen, strict=True) if was]
    basis = f"power off idle {' and '.join(looked)} the work" if looked else "no quiet long enough to look at"
    if seen.other_users:
        basis += (
            f"; processes {', '.join(map(str, sorted(seen.other_users)))} also used what is measured, at unknown cost"
        )
    # in a short baseline the share of other programs is that of chance
    if seen.load is None or info.scope == "gpu" or idle.duration_s < 0.999 * MIN_IDLE_S:
        return Others(
            leak_j=beside.joules, inside_j=inside_j, flags=tuple(flags), basis=f"{basis}; processor time not looked at"
        )
    other_j = processor_j(seen.load, idle.busy_fraction, net_j)
    foreign_s = seen.load.foreign_s(idle.busy_fraction or 0.0)
    if other_j > UNUSABLE * abs(net_j):
        raise UnusableError(
            "foreign_load", f"other programs used {foreign_s:.1f} s of processor time, the work {seen.load.own_s:.1f} s"
        )
    if other_j > 0 and foreign_s > MARKED_CORES * seen.load.span_s and not seen.other_users:
        flags.append("other_load")
    return Others(
        leak_j=beside.joules,
        inside_j=inside_j + other_j,
        flags=tuple(flags),
        basis=f"{basis}; {foreign_s:.2f} s of other programs' processor time",
    )
