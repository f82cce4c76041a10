"""Idle: the power of the quiet device, measured before and after the work, and energies rebased to another baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from hardware.measure.energy import INTEGRALS, MAX_GUARD_S, gap_limit_s, longest_gap_s, memory_s
from hardware.measure.grade import MAX_IDLE_SHIFT, MAX_IDLE_SHIFT_W, MIN_IDLE_SHIFT
from hardware.measure.recorder import Recorder
from hardware.measure.refresh import new_readings
from hardware.measure.trace import TraceFile
from hardware.source import EstimateSource, Sample, SourceInfo

RETAKE_S = 900.0
"""A baseline older than this is taken again: rooms and boards change temperature."""

IDLE_BLOCKS = 10
"""The baseline's uncertainty is the scatter of the means of this many parts: single samples are not independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleBaseline:
    """The power of the quiet device.

    Attributes:
        power_w: mean power, None if the source gave none.
        u_power_w: standard uncertainty (k = 1) of that mean, from the scatter within the measurement.
        duration_s: how long it was measured.
        n_samples: samples of a meter, readings of a counter, parts of an estimate.
        started_at: UTC, ISO 8601.
        started_mono_s: the same moment on the clock of the samples; None where an older version did not note it.
        busy_fraction: share of all cores' time that something used meanwhile; None where unknown.
        drifted: two baselines in one, and they differ by more than one idle power does.
        trace_file: name of the file in the trace folder that has its samples.
    """

    power_w: float | None
    u_power_w: float | None
    duration_s: float
    n_samples: int
    started_at: str
    started_mono_s: float | None = None
    busy_fraction: float | None = None
    drifted: bool = False
    trace_file: str | None = None


def differ(first_w: float, second_w: float) -> bool:
    """Whether two idle powers differ by more than one idle power may."""
    shift_w = abs(first_w - second_w)
    least_w = min(abs(first_w), abs(second_w))
    return shift_w > MAX_IDLE_SHIFT * least_w or (shift_w > MAX_IDLE_SHIFT_W and shift_w > MIN_IDLE_SHIFT * least_w)


def bracket(before: IdleBaseline, after: IdleBaseline) -> IdleBaseline:
    """The mean of the baselines before and after some work; one of them, if the other has no power.

    Its uncertainty is that of a mean of two, and that of the power between the two: uniform over their
    difference d, d / sqrt(12) (JCGM 100:2008, 4.3.7).
    """
    if before.power_w is None or after.power_w is None:
        return before if after.power_w is None else after
    scatter_w = math.hypot(before.u_power_w or 0.0, after.u_power_w or 0.0) / 2
    busy = [one.busy_fraction for one in (before, after) if one.busy_fraction is not None]
    return IdleBaseline(
        power_w=(before.power_w + after.power_w) / 2,
        u_power_w=math.hypot(scatter_w, (after.power_w - before.power_w) / math.sqrt(12)),
        duration_s=min(before.duration_s, after.duration_s),
        n_samples=min(before.n_samples, after.n_samples),
        started_at=before.started_at,
        busy_fraction=max(busy, default=None),
        drifted=differ(before.power_w, after.power_w),
    )


def bracketing(baselines: Sequence[IdleBaseline], n_before: int) -> IdleBaseline | None:
    """The bracket of some work, None without any baseline.

    Args:
        baselines: of one session, in the order in which they were measured.
        n_before: how many of them were measured before the work.
    """
    before = [one for one in baselines[:n_before] if one.power_w is not None]
    after = [one for one in baselines[n_before:] if one.power_w is not None]
    if before and after:
        return bracket(before[-1], after[0])
    return before[-1] if before else after[0] if after else None


def rebase(
    gross_j: float, net_j: float, *, from_w: float, to_w: float, work_s: float, band_s: float
) -> tuple[float, float]:
    """(gross, net) for another idle power than the one they were computed with.

    What was integrated is E = E_net + P x band, and E_gross = E_net + P x work: of these E alone was measured.

    Args:
        work_s, band_s: of one execution, like the energies; ``duration_s`` and ``band_s`` of a result.
    """
    shift_w = to_w - from_w
    return gross_j - shift_w * (band_s - work_s), net_j - shift_w * band_s


def of_means(means_w: Sequence[float], info: SourceInfo) -> tuple[float | None, float | None]:
    """(mean, its standard uncertainty) of the means of equal parts of a quiet span; None for what they do not give.

    The scatter of n values understates itself when n is small: s / sqrt(n) is widened to the standard deviation of the
    t distribution that it stands for, by sqrt((n - 1) / (n - 3)) (JCGM 101:2008, 6.4.9.4). Parts that depend on those
    before count as fewer. A meter that shows the same figure all the time is no better than its rounding.
    """
    n = len(means_w)
    if n == 0:
        return None, None
    mean_w = math.fsum(means_w) / n
    if n == 1:
        return mean_w, None
    variance = math.fsum((value - mean_w) ** 2 for value in means_w) / (n - 1) / n
    if n > 3:
        variance *= (n - 1) / (n - 3)
        variance *= _dependence(means_w, mean_w)
    rounding_w = (info.resolution or 0.0) / math.sqrt(12) if info.kind == "power" else 0.0
    return mean_w, math.hypot(math.sqrt(variance), rounding_w)


def _dependence(values: Sequence[float], mean: float) -> float:
    """How many values stand for one, of n that depend on those before: (1 + r) / (1 - r), at most n.

    r is their correlation at lag one (Bayley and Hammersley, J. R. Stat. Soc. Suppl. 8, 1946, for a process of order
    one). Where r may be nothing but chance, below 2 / sqrt(n), it is none.
    """
    n = len(values)
    off = [value - mean for value in values]
    total = math.fsum(one * one for one in off)
    if total == 0:
        return 1.0
    r = math.fsum(left * right for left, right in pairwise(off)) / total
    return 1.0 if r < 1 / math.sqrt(n) else min(float(n), (1 + r) / (1 - r))


def measure(
    recorder: Recorder,
    seconds: float,
    *,
    cpu_times: Callable[[], tuple[float, float] | None],
    make_trace: Callable[[str, float], TraceFile | None],
) -> IdleBaseline:
    """Measure the quiet device; blocks for that long and a little more.

    Args:
        cpu_times: reads the load of the device.
        make_trace: makes the file of the samples, from the start of the span in UTC (ISO 8601) and on the clock, s.

    Returns:
        A baseline, of None where the source is dead or pauses for too long, or this process or the machine stood still.
    """
    source, clock = recorder.source, recorder.clock
    if recorder.sampled:
        # samples that still depend on the time before are not idle
        clock.sleep(min(memory_s(source.info), MAX_GUARD_S))
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start_s = clock.monotonic()
    before, undisturbed = cpu_times(), recorder.interruptions()
    samples: list[Sample] = []
    trace = None
    if isinstance(source, EstimateSource):
        means_w = _estimated_means_w(recorder, seconds)
        n_samples = len(means_w)
    else:
        trace = make_trace(started_at, start_s)
        samples = _sampled(recorder, start_s, seconds, trace)
        means_w = _means_w(recorder, samples, start_s, seconds)
        n_samples = new_readings(samples, source.info.period_s)
    interrupted = recorder.interruptions().since(undisturbed).reason is not None
    power_w, u_power_w = (None, None) if recorder.error or interrupted else of_means(means_w, source.info)
    baseline = IdleBaseline(
        power_w=power_w,
        u_power_w=u_power_w,
        duration_s=clock.monotonic() - start_s,
        n_samples=n_samples,
        started_at=started_at,
        started_mono_s=start_s,
        busy_fraction=_busy_fraction(before, cpu_times()),
    )
    if trace is None:
        return baseline
    return dataclasses.replace(baseline, trace_file=_finished(trace, baseline, samples, start_s, seconds))


def _sampled(recorder: Recorder, start_s: float, seconds: float, trace: TraceFile | None) -> list[Sample]:
    """The samples of a quiet span that began just now."""
    recorder.keep_from_s, recorder.trace = start_s, trace
    recorder.poll()
    recorder.clock.sleep(seconds)
    recorder.await_sample(start_s + seconds)
    samples = recorder.samples(start_s, start_s + seconds)
    recorder.keep_from_s = recorder.trace = None
    return samples


def _means_w(recorder: Recorder, samples: Sequence[Sample], start_s: float, seconds: float) -> list[float]:
    """Mean power of each part of a quiet span."""
    # at least two samples for each part, or it has no mean
    blocks = max(1, min(IDLE_BLOCKS, len(samples) // 2))
    edges_s = [start_s + seconds * i / blocks for i in range(blocks + 1)]
    info = recorder.source.info
    if info.kind == "power" and longest_gap_s(samples, start_s, start_s + seconds) > gap_limit_s(
        max(info.period_s, recorder.asked_s)
    ):
        return []
    if info.kind not in INTEGRALS:
        return []
    integral = INTEGRALS[info.kind]
    try:
        return [integral(samples, left, right) / (right - left) for left, right in pairwise(edges_s)]
    except ValueError:  # too few samples to reach over the span
        return []


def _estimated_means_w(recorder: Recorder, seconds: float) -> list[float]:
    """Mean power of each part of a quiet span, one estimate each; at least 1 s long where there is room for two."""
    blocks = max(2, min(IDLE_BLOCKS, int(seconds)))
    clock = recorder.clock
    means_w = []
    for _ in range(blocks):
        recorder.begin()
        began_s = clock.monotonic()
        clock.sleep(seconds / blocks)
        ended_s = clock.monotonic()
        joules = recorder.end()
        if joules is not None and ended_s > began_s:
            means_w.append(joules / (ended_s - began_s))
    return means_w


def _finished(
    trace: TraceFile, baseline: IdleBaseline, samples: Sequence[Sample], start_s: float, seconds: float
) -> str | None:
    """The name of a baseline's trace; None if it has no samples or cannot be written: the figure stands without."""
    if not samples:
        trace.drop()
        return None
    facts = {
        "idle_until_s": start_s + seconds,
        "power_w": baseline.power_w,
        "u_power_w": baseline.u_power_w,
    }
    try:
        return trace.finish(samples, facts)
    except OSError:
        return None


def _busy_fraction(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])
