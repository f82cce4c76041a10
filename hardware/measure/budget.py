"""Budget: the standard uncertainties of a window's energy, one term per cause, and what each rests on.

Terms are independent and added in quadrature (GUM, JCGM 100:2008, 5.1.2); what is published is expanded by k = 2
(6.2), about 95 %. A bound of +-a within which nothing is likelier than anything else counts as a / sqrt(3) (4.3.7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.measure.energy import Band
from hardware.source import SourceInfo

COVERAGE_FACTOR = 2.0
"""k: expanded uncertainties are k standard ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One cause. ``gross_j`` and ``net_j`` are standard uncertainties (k = 1); ``net_j`` is None without a baseline."""

    name: str
    gross_j: float
    net_j: float | None
    basis: str


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
) -> tuple[Term, ...]:
    """The terms of a whole window, not yet per execution.

    Args:
        period_s: the slower of the source's own period and of how often it was asked.
        gap_j: bound of what short gaps may have hidden, `hardware.measure.energy.gap_swing_j`.
        leak_j: energy above idle that was seen in the quiet outside the band; as much may be missing inside.
    """
    step_w = abs(gross_j / band.work_s - (idle_power_w or 0.0))
    count = info.resolution or 0.0
    has_net = net_j is not None
    rounding_j, rounding = 0.0, "no counts"
    if info.kind == "power":
        # not divided by sqrt(N): a steady power is rounded the same way every time
        rounding_j, rounding = count / math.sqrt(12) * band.span_s, f"{count:g} W per count, evenly spread"
    elif info.kind == "counter":
        rounding_j, rounding = count / math.sqrt(6), f"{count:g} J per count, two readings"
    edge_j, edge = _edge(info, band, step_w, period_s)
    idle_u_w = idle_power_u_w or 0.0
    gain_basis = f"{info.gain_basis}: {info.gain_u:.2g} of the reading, common to all windows of the source"
    terms = [
        Term(
            name="gain",
            gross_j=info.gain_u * abs(gross_j),
            net_j=info.gain_u * abs(net_j) if net_j is not None else None,
            basis=gain_basis,
        ),
        # the baseline has the same zero, so net energy is free of it
        Term(
            name="offset",
            gross_j=info.offset_u * band.work_s,
            net_j=0.0 if has_net else None,
            basis=f"{info.gain_basis}: {info.offset_u:g} W",
        ),
        Term(name="rounding", gross_j=rounding_j, net_j=rounding_j if has_net else None, basis=rounding),
        Term(name="edge", gross_j=edge_j, net_j=edge_j if has_net else None, basis=edge),
        Term(
            name="gap",
            gross_j=gap_j / math.sqrt(3),
            net_j=gap_j / math.sqrt(3) if has_net else None,
            basis="half the swing of the power, over the time without samples",
        ),
        Term(
            name="leak",
            gross_j=abs(leak_j) / math.sqrt(3),
            net_j=abs(leak_j) / math.sqrt(3) if has_net else None,
            basis="energy above idle seen outside the window",
        ),
        Term(
            name="idle",
            gross_j=idle_u_w * (band.span_s - band.work_s),
            net_j=idle_u_w * band.span_s if has_net else None,
            basis="scatter of the idle baseline",
        ),
    ]
    return tuple(terms)


def expanded_j(standard_j: Sequence[float]) -> float:
    """k = 2, in quadrature."""
    return COVERAGE_FACTOR * math.hypot(*standard_j)


def _edge(info: SourceInfo, band: Band, step_w: float, period_s: float) -> tuple[float, str]:
    """A load step dP that falls anywhere between two samples.

    Between guard bands each of the two steps is off by up to +-dP p / 2, evenly: together dP p / sqrt(6). Without
    them energy is cut off too, up to dP (period + latency), and nothing tells how much. A counter between quiet
    readings has no edges; an estimate none that are known.
    """
    if info.kind == "estimate" or (info.kind == "counter" and band.guarded):
        return 0.0, "none: nothing is cut"
    if band.guarded:
        return step_w * period_s / math.sqrt(6), "two steps of the load, each evenly spread over a period"
    late_s = period_s + info.latency_s
    return step_w * late_s / math.sqrt(
        3
    ), "no quiet around the work: its ends are cut by up to a period and the latency"
