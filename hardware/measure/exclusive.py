"""Exclusive: what else the device did while the work ran, and what that may have cost.

Two things show it. Before and after the work the device should draw its idle power: a load that is there on either
side may have gone on inside, at most all the time. And the processor time of the machine, less that of the measuring
process and of all that it has started, is somebody else's; it costs at most about twice what a second of the work's own
processor time did here.

A load that begins and ends inside the work and uses no processor, e.g. of a disk, radio or graphics processor, is seen
by neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.measure.energy import INTEGRALS, Band, memory_s
from hardware.source import Sample, SourceInfo

CORE_COST = 2.0
"""A second of another program's processor time costs at most so many times what one of the work did."""

FREE_CORES, MARKED_CORES = 0.02, 0.05
"""Cores that other programs may use, beyond those of the idle baseline, without being counted, and without a flag."""

UNUSABLE = 0.5
"""Share of the net energy that others may have cost, from which on it is no figure of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Processor time from the opening of a window to its closing, s.

    Attributes:
        span_s: of the clock.
        machine_s: of all programs and cores, with what the host of a virtual machine took.
        cores_s: that there was: cores times time.
        own_s: of the measuring process and all that it has started.
    """

    span_s: float
    machine_s: float
    cores_s: float
    own_s: float

    def foreign_s(self, idle_share: float) -> float:
        """Of other programs, beyond what they use while the device is quiet, idle_share of all cores."""
        return max(0.0, self.machine_s - self.own_s - idle_share * self.cores_s)


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
