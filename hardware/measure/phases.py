"""Phases: the energy of parts of a window that follow each other, each with an uncertainty that includes its edges.

The cuts between two phases lie inside the work, where the device is never quiet. A sample is late by anything between
nothing and what the source remembers, m = `memory_s`; so a cut at time t is made at t + m / 2, and the delay is off by
up to m / 2 to either side, by the same amount at every cut of a window. Whatever energy a wrong cut takes from one
phase it gives to the next, so that the phases always add up to the window.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hardware.measure.budget import Term, expanded_j
from hardware.measure.energy import INTEGRALS, Band, memory_s
from hardware.measure.grade import UNSEEN_PERIODS
from hardware.source import Sample, SourceInfo

NEGLIGIBLE = 0.01
"""Share of a phase that may lie in spans which the source does not resolve, such as the moment before a method chooses.

Its energy is then within what the cuts beside it are taken to be off by."""

Span = tuple[str, float, float]
"""Phase, start and end on this host's monotonic clock in s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of one execution. Energies in J, None where the source does not resolve it; see `EnergyResult`.

    Attributes:
        time_s: how long it lasted, all its spans together.
        band_s: how long it was integrated for; see `hardware.measure.idle.rebase`.
    """

    name: str
    time_s: float
    energy_gross_j: float | None = None
    energy_net_j: float | None = None
    energy_u_j: float | None = None
    energy_net_u_j: float | None = None
    band_s: float | None = None


def spans_text(spans: Sequence[Span]) -> str:
    """Write spans as JSON on one line of a trace: [[phase, start, end], ...], s of the trace's clock, the first 60."""
    return json.dumps([[name[:30], round(t0_s, 6), round(t1_s, 6)] for name, t0_s, t1_s in spans[:60]])


def seconds(spans: Sequence[Span], executions: int) -> tuple[Phase, ...]:
    """The phases in the order of their first span, without energies."""
    found: dict[str, float] = {}
    for name, t0_s, t1_s in spans:
        found[name] = found.get(name, 0.0) + (t1_s - t0_s)
    return tuple(Phase(name=name, time_s=time_s / executions) for name, time_s in found.items())


def covers(spans: Sequence[Span], t0_s: float, t1_s: float) -> bool:
    """Whether spans follow each other from t0_s to t1_s without gaps."""
    ends = [t0_s, *(end for _, _, end in spans)]
    return (
        bool(spans)
        and ends[-1] == t1_s
        and all(start == before and end >= start for (_, start, end), before in zip(spans, ends, strict=False))
    )


def split(
    info: SourceInfo,
    band: Band,
    samples: Sequence[Sample],
    spans: Sequence[Span],
    *,
    executions: int,
    idle_power_w: float | None,
    idle_power_u_w: float | None,
    period_s: float,
    terms: Sequence[Term],
) -> tuple[Phase, ...]:
    """The energy of each phase.

    Args:
        samples: that reach over the band.
        spans: that follow each other over the work.
        period_s: the slower of the source's own period and of how often it was asked.
        terms: budget of the whole window, not yet per execution.

    Returns:
        In the order of their first span. A phase of which more than a hundredth lies in spans shorter than two periods
        has no energies: what the samples show of these is up to chance. An estimate covers the whole window and cannot
        be cut.
    """
    if len(spans) == 0 or info.kind not in INTEGRALS:
        return seconds(spans, executions)
    cut_s = _cuts(info, band, spans, period_s)
    joules = [INTEGRALS[info.kind](samples, left, right) for left, right in pairwise(cut_s)]
    lengths_s = [right - left for left, right in pairwise(cut_s)]
    idle_w = idle_power_w or 0.0
    net_j = [energy - idle_w * length for energy, length in zip(joules, lengths_s, strict=True)]
    # the power above idle that a wrong cut after a span moves, and the step there
    above_w = [abs(net) / max(end - start, period_s) for net, (_, start, end) in zip(net_j, spans, strict=True)]
    level_w = [max(pair) for pair in pairwise(above_w)]
    step_w = [abs(right - left) for left, right in pairwise(above_w)]
    off_s = _late_s(info, period_s) / (2 * math.sqrt(3))
    of_window = {term.name: term for term in terms}
    found = []
    for phase in seconds(spans, executions):
        mine = [number for number, span in enumerate(spans) if span[0] == phase.name]
        span_s = [spans[number][2] - spans[number][1] for number in mine]
        unseen_s = math.fsum(length for length in span_s if length < UNSEEN_PERIODS * period_s)
        if unseen_s > NEGLIGIBLE * math.fsum(span_s) and len(spans) > 1:
            found.append(phase)
            continue
        time_s, length_s = phase.time_s * executions, math.fsum(lengths_s[number] for number in mine)
        net = math.fsum(net_j[number] for number in mine)
        gross = net + idle_w * time_s if idle_power_w is not None else math.fsum(joules[number] for number in mine)
        moved_w = sum(level_w[n - 1] for n in mine if n > 0) - sum(level_w[n] for n in mine if n < len(level_w))
        steps = [step_w[n - 1] for n in mine if n > 0] + [step_w[n] for n in mine if n < len(step_w)]
        outer = 0 in mine or len(spans) - 1 in mine
        count = info.resolution or 0.0
        both = [
            count / math.sqrt(12) * length_s if info.kind == "power" else count / math.sqrt(6) * math.sqrt(len(mine)),
            off_s * abs(moved_w),
            period_s / math.sqrt(12) * math.hypot(*steps),
            of_window["edge"].gross_j if outer else 0.0,
            of_window["leak"].gross_j if outer else 0.0,
            of_window["gap"].gross_j,
        ]
        idle_u_w = idle_power_u_w or 0.0
        gross_u_j = expanded_j(
            [*both, info.gain_u * abs(gross), info.offset_u * time_s, idle_u_w * (length_s - time_s)]
        )
        has_net = idle_power_w is not None
        found.append(
            Phase(
                name=phase.name,
                time_s=phase.time_s,
                energy_gross_j=gross / executions,
                energy_net_j=net / executions if has_net else None,
                energy_u_j=gross_u_j / executions,
                energy_net_u_j=expanded_j([*both, info.gain_u * abs(net), idle_u_w * length_s]) / executions
                if has_net
                else None,
                band_s=length_s / executions,
            )
        )
    return tuple(found)


def _late_s(info: SourceInfo, period_s: float) -> float:
    """The latest that a sample can be. A counter's readings are joined by lines, which smear a step over a period."""
    return memory_s(info) if info.kind == "power" else period_s


def _cuts(info: SourceInfo, band: Band, spans: Sequence[Span], period_s: float) -> list[float]:
    """Where the samples are cut: the ends of the band, and between two spans later by half of what a sample may be."""
    shift_s = _late_s(info, period_s) / 2 if info.kind == "power" else 0.0
    inner = [min(max(end + shift_s, band.a_s), band.b_s) for _, _, end in spans[:-1]]
    return [band.a_s, *inner, band.b_s]
