"""Idle span: the quiet device, measured for a while with a source in use, as an `IdleBaseline`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from hardware.measure.energy import INTEGRALS, MAX_GUARD_S, gap_limit_s, longest_gap_s, memory_s
from hardware.measure.idle import IdleBaseline, of_means
from hardware.measure.recorder import Recorder
from hardware.measure.trace_file import TraceFile
from hardware.source import EstimateSource, Sample

IDLE_BLOCKS = 10
"""The baseline's uncertainty is the scatter of the means of this many parts: single samples are not independent."""


def measure(
    recorder: Recorder,
    seconds: float,
    *,
    cpu_times: Callable[[], tuple[float, float] | None],
    make_trace: Callable[[str, float], TraceFile | None],
) -> IdleBaseline:
    """Measure the quiet device; blocks for that long and a little more.

    Args:
        cpu_times: how to learn the load of the device.
        make_trace: where the samples go, from the moment in UTC (ISO 8601) and on the clock at which the span begins.

    Returns:
        A baseline, of None where the source is dead or pauses for too long.
    """
    source, clock = recorder.source, recorder.clock
    if recorder.sampled:
        # what the source still remembers of the time before would count as idle
        clock.sleep(min(memory_s(source.info), MAX_GUARD_S))
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start_s = clock.monotonic()
    before = cpu_times()
    samples: list[Sample] = []
    trace = None
    if isinstance(source, EstimateSource):
        means_w = _estimated_means_w(recorder, seconds)
        n_samples = len(means_w)
    else:
        trace = make_trace(started_at, start_s)
        samples = _sampled(recorder, start_s, seconds, trace)
        means_w, n_samples = _means_w(recorder, samples, start_s, seconds), len(samples)
    power_w, u_power_w = (None, None) if recorder.error else of_means(means_w, source.info)
    baseline = IdleBaseline(
        power_w=power_w,
        u_power_w=u_power_w,
        duration_s=clock.monotonic() - start_s,
        n_samples=n_samples,
        started_at=started_at,
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
    # two samples make a part at least, or its mean is the mean of nothing
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
    """The name of a baseline's trace; None if it has no samples or the disk refuses them: the figure stands without."""
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
