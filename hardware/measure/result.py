"""Result: the energy of one execution, as it goes into a record."""

from __future__ import annotations

from dataclasses import dataclass

from hardware.device.machine import Snapshot
from hardware.measure.budget import Term
from hardware.measure.grade import RULES, Grade
from hardware.measure.phases import Phase
from hardware.source import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossCheck:
    """Two paths from one meter to the same joules, over the same time, which is longer than the work.

    Attributes:
        span_s: its length.
        integral_j: its watts, integrated.
        counter_j: its counter.
        count_j: one count of the path that is not the source's own figure.
    """

    span_s: float
    integral_j: float
    counter_j: float
    count_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyResult:
    """The energy of one execution of the work. Not measured is None, never 0.

    Attributes:
        energy_gross_j: all that the source saw during the work.
        energy_net_j: gross less idle power x time; None without a baseline.
        energy_u_j: expanded uncertainty of the gross energy, k = 2.
        energy_net_u_j: expanded uncertainty of the net energy, k = 2.
        idle_power_w: the baseline that was used.
        duration_s: of one execution.
        window_s: of all executions together.
        executions: energies, uncertainties and duration_s are per one of these.
        source: its name.
        source_kind: counter, power or estimate; None when nothing was to be measured.
        grade: A, B, C or X; None when nothing was to be measured.
        rules: version of the rules that graded it, `hardware.measure.grade.RULES`.
        flags: see `hardware.measure.grade.FLAGS`.
        error: why the grade is X, or why there is no trace, in words.
        n_samples: readings inside the integrated band; 1 for an estimate.
        trace_file: name of the file in the trace folder.
        terms: the uncertainty budget, one term per cause with its basis, J per execution, k = 1.
        band_s: length of the integrated span per execution, guard bands included; see `hardware.measure.idle.rebase`.
        lost_fraction: share of the band without samples where there should have been some; None for what has none.
        longest_gap_s: longest time without a sample in the band; None for what has none.
        cross_check: the source's counter against its watts over the same time; None if it does not have both.
        phases: parts of one execution that follow each other, with their own energies; empty for work of one piece.
        health: lost samples, broken frames and lost connections of the source meanwhile.
        env_before, env_after: state of the device before the quiet time ahead of the work, and right after the work.
    """

    energy_gross_j: float | None = None
    energy_net_j: float | None = None
    energy_u_j: float | None = None
    energy_net_u_j: float | None = None
    idle_power_w: float | None = None
    duration_s: float
    window_s: float
    executions: int
    source: str
    source_kind: str | None
    grade: Grade | None
    flags: tuple[str, ...] = ()
    rules: int = RULES
    error: str | None = None
    n_samples: int = 0
    trace_file: str | None = None
    terms: tuple[Term, ...] = ()
    band_s: float | None = None
    lost_fraction: float | None = None
    longest_gap_s: float | None = None
    cross_check: CrossCheck | None = None
    phases: tuple[Phase, ...] = ()
    health: Health | None = None
    env_before: Snapshot | None = None
    env_after: Snapshot | None = None
