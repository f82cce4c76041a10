"""Budget: the standard uncertainties of a window's energy, one term per cause, each with its basis.

Terms are independent and added in quadrature (GUM, JCGM 100:2008, 5.1.2); what is published is expanded by k = 2
(6.2), about 95 %. A bound of +-a within which nothing is likelier than anything else counts as a / sqrt(3) (4.3.7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hardware.measure.energy import Band
from hardware.source import SourceInfo

COVERAGE_FACTOR = 2.0
"""k: expanded uncertainties are k standard ones."""


Common = Literal["source", "idle"]
COMMON: dict[str, Common] = {"gain": "source", "offset": "source", "idle": "idle"}
"""Terms whose deviation is not drawn anew in each window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One cause of uncertainty.

    Attributes:
        name: of the cause.
        gross_j, net_j: standard uncertainties (k = 1); ``net_j`` is None without a baseline.
        basis: where the figure comes from, in words.
        common: what the same deviation is common to: ``source``, all windows of a source, by the same factor or the
            same watts; ``idle``, all windows from which the same idle baseline was taken off; None, this window alone.
    """

    name: str
    gross_j: float
    net_j: float | None
    basis: str
    common: Common | None = None


def budget(
    info: SourceInfo,
    band: Band,
    *,
    gross_j: float,
    net_j: float | None,
    idle_power_w: float | None,
    idle_power_u_w: float | None,
    period_s: float,
    gap_j: float = 0.0,
    leak_j: float = 0.0,
    exclusive: tuple[float, str] = (0.0, "not looked at"),
    paths_j: float = 0.0,
    sampling_u_j: float = 0.0,
    shifted_j: float = 0.0,
    least_step_w: float = 0.0,
    edge_s: float | None = None,
    zero_w: float = 0.0,
    edge_u_s: float = 0.0,
) -> tuple[Term, ...]:
    """The terms of a whole window, not yet per execution.

    Args:
        period_s: the longer of the source's own period and the time between two polls.
        gap_j: bound of what short gaps may have hidden, `hardware.measure.energy.gap_swing_j`.
        leak_j: energy above idle that was seen in the quiet outside the band; as much may be missing inside.
        edge_s: time within which an edge of the work lies, where that is less than a period: a meter that averages
            leaves only the time between two requests.
        least_step_w: least step of the load at an edge of the work; its mean over the work, if that is more.
        exclusive: bound of what others may have drawn inside the work, J, and its basis.
        sampling_u_j: standard uncertainty of what lies between the readings, `hardware.measure.sampling`.
        shifted_j: energy of the time by which the readings show the work shorter or longer than it was.
        zero_w: bound of the meter's zero where it matters, beside its `offset_u`.
        edge_u_s: standard uncertainty of each end of the work, where another clock gave it.
        paths_j: what the meter's own counter and its watts differ by beyond rounding; either may be wrong.
    """
    step_w = max(abs(gross_j / band.work_s - (idle_power_w or 0.0)), least_step_w)
    count = info.resolution or 0.0
    rounding_j, rounding = 0.0, "no counts"
    if info.kind == "power":
        # not divided by sqrt(N): a steady power is rounded the same way every time
        rounding_j, rounding = count / math.sqrt(12) * band.span_s, f"{count:g} W per count, evenly spread"
    elif info.kind == "counter":
        # at idle, where a reading may be a period old
        aged_j = abs(idle_power_w or 0.0) * period_s if band.guarded else 0.0
        rounding_j = math.hypot(count, aged_j) / math.sqrt(6)
        rounding = f"{count:g} J per count, two readings, each up to {period_s:g} s old"
    edge_j, edge = _edge(info, band, step_w, edge_s or period_s)
    idle_u_w = idle_power_u_w or 0.0
    zero_w = math.hypot(info.offset_u, zero_w / math.sqrt(3))
    gap_u_j, leak_u_j, paths_u_j = (bound_j / math.sqrt(3) for bound_j in (gap_j, abs(leak_j), paths_j))
    # name: gross, net, basis. Each of the two readings of a net energy has the same zero, so net is free of the offset
    causes = {
        "gain": (
            info.gain_u * abs(gross_j),
            info.gain_u * abs(net_j or 0.0),
            f"{info.gain_basis}: {info.gain_u:.2g} of the reading, common to all windows of the source",
        ),
        "offset": (zero_w * band.work_s, 0.0, f"{info.gain_basis}: {zero_w:.3g} W"),
        "rounding": (rounding_j, rounding_j, rounding),
        "edge": (edge_j, edge_j, edge),
        "sampling": (sampling_u_j, sampling_u_j, "scatter and autocorrelation of readings that may be of moments"),
        "shifted": (shifted_j, shifted_j, "time by which the readings show the work too short or too long"),
        "gap": (gap_u_j, gap_u_j, "half the swing of the power, over the time without samples"),
        "leak": (leak_u_j, leak_u_j, "energy above idle seen outside the window"),
        "exclusive": (exclusive[0] / math.sqrt(3), exclusive[0] / math.sqrt(3), exclusive[1]),
        "paths": (paths_u_j, paths_u_j, "difference of the meter's counter and its watts beyond one count"),
        "idle": (idle_u_w * (band.span_s - band.work_s), idle_u_w * band.span_s, "scatter of the idle baseline"),
    }
    if edge_u_s:
        # between guard bands all energy above idle is in the band, and only the idle part depends on the length
        over_w = abs(idle_power_w or 0.0) if band.guarded else step_w + abs(idle_power_w or 0.0)
        ends_j = over_w * math.sqrt(2) * edge_u_s
        causes["clock"] = (
            ends_j,
            0.0 if band.guarded else step_w * math.sqrt(2) * edge_u_s,
            f"{edge_u_s:.2g} s at each end of the work, which another clock gave",
        )
    return tuple(
        Term(name=name, gross_j=gross, net_j=None if net_j is None else net, basis=basis, common=COMMON.get(name))
        for name, (gross, net, basis) in causes.items()
    )


def expanded_j(standard_j: Sequence[float]) -> float:
    """k = 2, in quadrature."""
    return COVERAGE_FACTOR * math.hypot(*standard_j)


def _edge(info: SourceInfo, band: Band, step_w: float, period_s: float) -> tuple[float, str]:
    """A load step dP that falls anywhere between two samples.

    Between guard bands each of the two steps is off by up to +-dP p / 2, evenly: together dP p / sqrt(6). Without
    them energy is cut off too, up to dP (period + latency), by an unknown amount. A counter between quiet
    readings has no edges; an estimate none that are known.
    """
    if info.kind == "estimate" or (info.kind == "counter" and band.guarded):
        return 0.0, "none: nothing is cut"
    if band.guarded:
        return step_w * period_s / math.sqrt(6), "two steps of the load, each evenly spread over a period"
    late_s = period_s + info.latency_s
    edge_j = step_w * late_s / math.sqrt(3)
    return edge_j, "no quiet around the work: its ends are cut by up to a period and the latency"
