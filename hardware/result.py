"""Result: the idle baseline and the energy of one execution, as they go into a record."""

from __future__ import annotations

from dataclasses import dataclass, field

from hardware.grade import Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleBaseline:
    """The power of the quiet device.

    Attributes:
        power_w: mean power, None if the source gave none.
        u_power_w: standard uncertainty (k = 1) of that mean, from the scatter within the measurement.
        duration_s: how long it was measured.
        n_samples: samples of a meter, readings of a counter, parts of an estimate.
        started_at: UTC, ISO 8601.
        busy_fraction: share of all cores' time that something used meanwhile; None where unknown.
    """

    power_w: float | None
    u_power_w: float | None
    duration_s: float
    n_samples: int
    started_at: str
    busy_fraction: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyResult:
    """What one execution of the work cost. Not measured is None, never 0.

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
        flags: see `hardware.grade.FLAGS`.
        error: why the grade is X, or why there is no trace, in words.
        n_samples: readings inside the integrated band; 1 for an estimate.
        trace_file: name of the file in the trace folder.
        terms: standard uncertainties (k = 1), J, e.g. ``{"gross": {"gain_j": 0.1, ...}, "net": {...}}``.
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
    error: str | None = None
    n_samples: int = 0
    trace_file: str | None = None
    terms: dict[str, dict[str, float]] = field(default_factory=dict)
