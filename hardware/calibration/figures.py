"""Figures of a calibration, computed from samples. Pure functions; times in s, power in W, energy in J.

Noise floor. In m pairs of equal windows, with differences d_j between the two energies of a pair, the standard
deviation of one window is s = sqrt(sum d_j^2 / (2 m)), with m degrees of freedom; slow drift cancels in a pair. Two
cells of n repeats each differ by more than chance alone explains (two-sided, 95 %) when their means lie further apart
than

    t(0.975; m) x s x sqrt(2 / n)

which is given as a share of the energy of a window. A gain that is off changes both cells alike and nothing in it.

Gain. With a load of P watts the reading rises from q to r: gain = (r - q) / P. Type A is the scatter of r and q (JCGM
100:2008, GUM, 4.2), type B what is known of P: within +-a nothing likelier than anything else, a / sqrt(3) (4.3.7);
both in quadrature (5.1.2).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from hardware.calibration.profile import AllanPoint, Gain, IdleNoise, NoiseFloor, UpdatePeriod
from hardware.errors import HardwareError
from hardware.measure.energy import INTEGRALS
from hardware.measure.idle import IdleBaseline, bracket, of_means
from hardware.source import Sample, SourceInfo

TAUS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""Averaging times of the Allan deviation; those that the samples are too coarse or too short for are left out."""

DRIFT_BLOCKS = 10
MIN_CHANGES = 20
"""Fewer new values than these give no period."""

REPEATS = 5
"""Repeats of a cell that the noise floor is stated for: a suite's default."""

GAIN_LIMITS = (0.5, 2.0)
"""Beyond these the load is not connected, or not the one that was stated."""

MAX_GAIN_U = 0.1
"""A gain that is known no better than this (k = 1) is worse than what is assumed of any meter."""

FORMULA = "t(0.975; pairs) x spread_rel x sqrt(2 / repeats)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A load that is known better than the meter.

    Attributes:
        power_w: what it draws.
        u_rel: relative standard uncertainty (k = 1) of that.
        basis: of that figure, in words.
    """

    power_w: float
    u_rel: float
    basis: str

    @classmethod
    def of_watts(cls, power_w: float, tolerance_rel: float) -> Load:
        """Stated in watts, known to within +-tolerance_rel."""
        basis = f"stated {power_w:g} W, known to within {tolerance_rel:.2%}"
        return cls(power_w=power_w, u_rel=tolerance_rel / math.sqrt(3), basis=basis)

    @classmethod
    def of_ohms(cls, resistance_ohm: float, voltage_v: float, tolerance_rel: float) -> Load:
        """V^2 / R, with the volts across the resistor while it is connected; the tolerance is that of the power."""
        power_w = voltage_v**2 / resistance_ohm
        basis = f"{voltage_v:g} V across {resistance_ohm:g} ohm, their watts known to within {tolerance_rel:.2%}"
        return cls(power_w=power_w, u_rel=tolerance_rel / math.sqrt(3), basis=basis)


def idle_noise(info: SourceInfo, samples: Sequence[Sample]) -> IdleNoise:
    """Scatter, drift and Allan deviation of a quiet span.

    Args:
        samples: of the span, in their order.

    Raises:
        HardwareError: fewer than 4 samples.
    """
    if len(samples) < 4:
        raise HardwareError(f"{info.name} gave {len(samples)} samples of the quiet device: too few to judge its noise")
    start_s, end_s = samples[0][0], samples[-1][0]
    span_s = end_s - start_s
    readings_w = _powers_w(info, samples)
    count = max(2, min(DRIFT_BLOCKS, len(samples) // 2))
    means_w = _means_w(info, samples, start_s, span_s / count, count)
    mean_w, u_mean_w = of_means(means_w, info)
    slope, u_slope = _slope([(i + 0.5) * span_s / count for i in range(count)], means_w)
    spacing_s = span_s / (len(samples) - 1)
    allan = []
    for tau_s in TAUS_S:
        blocks = int(span_s / tau_s + 1e-9)
        if tau_s < 2 * spacing_s or blocks < 4:
            continue
        steps = [right - left for left, right in pairwise(_means_w(info, samples, start_s, tau_s, blocks))]
        deviation_w = math.sqrt(statistics.fmean(step * step for step in steps) / 2)
        allan.append(AllanPoint(tau_s=tau_s, deviation_w=deviation_w, pairs=len(steps)))
    return IdleNoise(
        duration_s=span_s,
        n_samples=len(samples),
        mean_w=mean_w or 0.0,
        u_mean_w=u_mean_w,
        sd_w=statistics.stdev(readings_w),
        drift_w_per_h=slope * 3600,
        drift_u_w_per_h=u_slope * 3600,
        allan=tuple(allan),
    )


def noise_floor(
    info: SourceInfo, energies_j: Sequence[float], *, window_s: float, work: Literal["cpu", "quiet"]
) -> NoiseFloor:
    """The smallest difference that equal windows can resolve, see the top of this module.

    The scatter of a meter that shows the same figure every time is its rounding.

    Raises:
        HardwareError: fewer than 2 pairs, or windows that cost nothing.
    """
    from scipy.special import stdtrit

    pairs = len(energies_j) // 2
    mean_j = statistics.fmean(energies_j) if energies_j else 0.0
    if pairs < 2 or mean_j <= 0:
        raise HardwareError(f"{info.name}: {pairs} pairs of windows with {mean_j:g} J on average tell no noise floor")
    differences = [energies_j[2 * i + 1] - energies_j[2 * i] for i in range(pairs)]
    spread_j = math.sqrt(math.fsum(d * d for d in differences) / (2 * pairs))
    count = info.resolution or 0.0
    rounding_j = count * window_s / math.sqrt(12) if info.kind == "power" else count / math.sqrt(6)
    spread_rel = math.hypot(spread_j, rounding_j) / mean_j
    return NoiseFloor(
        work=work,
        window_s=window_s,
        pairs=pairs,
        mean_j=mean_j,
        spread_rel=spread_rel,
        repeats=REPEATS,
        smallest_difference_rel=float(stdtrit(pairs, 0.975)) * spread_rel * math.sqrt(2 / REPEATS),
        formula=FORMULA,
    )


def update_period(samples: Sequence[Sample]) -> UpdatePeriod:
    """The time between new values, from the times between changed values.

    The mean of the intervals that are not longer than one and a half medians: a meter that is polled at another rate
    than its own shows an interval of now one and now two requests, which averages out, and a value that happens to
    repeat doubles an interval, which must not count.

    Raises:
        ValueError: fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError("two samples at least")
    spacing_s = statistics.median(right - left for (left, _), (right, _) in pairwise(samples))
    changed_s = [right_s for (_, left), (right_s, right) in pairwise(samples) if right != left]
    duplicates = 1 - len(changed_s) / (len(samples) - 1)
    intervals_s = [right - left for left, right in pairwise(changed_s)]
    period_s = p10_s = p90_s = None
    if len(intervals_s) >= MIN_CHANGES:
        limit_s = 1.5 * statistics.median(intervals_s) * (1 + 1e-9)
        # nothing faster than the samples can be seen
        period_s = max(spacing_s, statistics.fmean(t for t in intervals_s if t <= limit_s))
        p10_s, *_, p90_s = statistics.quantiles(intervals_s, n=10, method="inclusive")
    return UpdatePeriod(
        period_s=period_s,
        spacing_s=spacing_s,
        changes=len(changed_s),
        duplicate_share=duplicates,
        p10_s=p10_s,
        p90_s=p90_s,
    )


def gain(info: SourceInfo, load: Load, *, before: IdleBaseline, under: IdleBaseline, after: IdleBaseline) -> Gain:
    """Reading over truth from three spans: without the load, with it, and without it again.

    Raises:
        HardwareError: a span has no figure, or the reading did not rise as a load of that power makes it.
    """
    if before.power_w is None or after.power_w is None or under.power_w is None:
        raise HardwareError(f"{info.name} gave no power for a part of the gain measurement; repeat it")
    if before.u_power_w is None or after.u_power_w is None or under.u_power_w is None:
        raise HardwareError(f"{info.name} gave too few samples to judge their scatter; measure for longer")
    quiet = bracket(before, after)
    assert quiet.power_w is not None
    assert quiet.u_power_w is not None
    ratio = (under.power_w - quiet.power_w) / load.power_w
    if not GAIN_LIMITS[0] < ratio < GAIN_LIMITS[1]:
        raise HardwareError(
            f"{info.name} went from {quiet.power_w:.3f} W to {under.power_w:.3f} W with a load of {load.power_w:g} W: "
            "is the load behind the meter, and are its watts right?"
        )
    type_a = math.hypot(under.u_power_w, quiet.u_power_w) / load.power_w / ratio
    u_rel = math.hypot(type_a, load.u_rel)
    if u_rel > MAX_GAIN_U:
        raise HardwareError(
            f"{info.name}: the gain is {ratio:.3f} to within {2 * u_rel:.0%} (k = 2), which is of no use; "
            "take a larger load, or one that is better known, and measure for longer"
        )
    return Gain(
        gain=ratio,
        u_rel=u_rel,
        type_a_rel=type_a,
        type_b_rel=load.u_rel,
        load_w=load.power_w,
        load_basis=load.basis,
        reading_w=under.power_w,
        quiet_w=quiet.power_w,
        duration_s=min(before.duration_s, under.duration_s, after.duration_s),
    )


def _powers_w(info: SourceInfo, samples: Sequence[Sample]) -> list[float]:
    if info.kind == "power":
        return [power_w for _, power_w in samples]
    return [(right_j - left_j) / (right_s - left_s) for (left_s, left_j), (right_s, right_j) in pairwise(samples)]


def _means_w(info: SourceInfo, samples: Sequence[Sample], start_s: float, block_s: float, count: int) -> list[float]:
    integral = INTEGRALS[info.kind]
    # the last edge may lie behind the last sample by a rounding error
    edges_s = [min(start_s + i * block_s, samples[-1][0]) for i in range(count + 1)]
    return [integral(samples, left, right) / (right - left) for left, right in pairwise(edges_s)]


def _slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least squares: (slope, its standard uncertainty)."""
    slope, intercept = statistics.linear_regression(x, y)
    if len(x) < 3:
        return slope, 0.0
    residual = math.fsum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True)) / (len(x) - 2)
    middle = statistics.fmean(x)
    return slope, math.sqrt(residual / math.fsum((a - middle) ** 2 for a in x))
