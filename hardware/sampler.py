"""Sampler: one source, an idle baseline, and windows whose energy is a cell's.

    sampler = Sampler(choose("auto").source, run_dir / "traces")
    sampler.start()
    if sampler.idle_due():                                         # at first, every 15 min, after a change of state
        sampler.measure_idle(30)
    window = sampler.open_window("digits/full/s=0", guard_s=2)     # the device stays quiet for 2 s
    ...                                                            # work; note time.monotonic() around it
    result = window.close(t0_s=t0, t1_s=t1, executions=1, idle=sampler.idle_baseline)
    sampler.measure_idle(30)                                       # once more: `hardware.idle.bracket` takes both
    sampler.stop()

Whoever does the work should be ready before the window is opened and start at once when it is: the guard band is
meant to be quiet, and an estimate covers whatever happens while the window is open. A source that dies does
not end a campaign: that window and all later ones have grade X, and no other source takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from hardware import device
from hardware.device import Snapshot
from hardware.energy import INTEGRALS, gap_limit_s, guard_needed_s, longest_gap_s, memory_s
from hardware.environment import changes
from hardware.errors import SourceError
from hardware.idle import RETAKE_S, IdleBaseline, of_means
from hardware.recorder import Clock, Recorder
from hardware.source import EstimateSource, Sample, Source
from hardware.trace import COLUMNS
from hardware.trace_file import TraceFile
from hardware.window import Window

IDLE_BLOCKS = 10
"""The baseline's uncertainty is the scatter of the means of this many parts: single samples are not independent."""

MAX_GUARD_S = 5.0
"""A guard band that is wanted at all is made as long as the source needs, up to this."""

GUARD_SLACK_S = 0.1
"""The work may start that much before it is due, as a clock sees it that is read from two processes."""


class Sampler:
    """Measures windows with one source, from `start` to `stop`. One window at a time.

    Args:
        source: not yet open.
        trace_dir: where the samples of each window and idle baseline go; None: nowhere.
        clock: tests bring their own.
        cpu_times, look: how to learn the load and the state of the device.
        background: poll from a thread. Otherwise whoever moves the clock calls `poll`, as simulations do.
    """

    def __init__(
        self,
        source: Source,
        trace_dir: Path | None = None,
        *,
        clock: Clock = time,
        cpu_times: Callable[[], tuple[float, float] | None] = device.cpu_times,
        look: Callable[[], Snapshot] = device.snapshot,
        background: bool = True,
    ) -> None:
        self.source = source
        self.idle_baselines: list[IdleBaseline] = []
        self._idle_at_s = float("-inf")
        self._idle_env: Snapshot | None = None
        self._look = look
        self._cpu_times = cpu_times
        self._trace_dir = trace_dir
        self._clock = clock
        self._recorder = Recorder(source, clock, background=background)
        self._window: Window | None = None

    @property
    def error(self) -> str | None:
        """Why the source died; None while it lives."""
        return self._recorder.error

    @property
    def idle_baseline(self) -> IdleBaseline | None:
        """The latest one; None before the first."""
        return self.idle_baselines[-1] if self.idle_baselines else None

    def idle_due(self) -> str | None:
        """Why the idle baseline has to be measured before the next window, None if the latest one still holds."""
        if self.source.info.kind == "none" or self.error is not None:
            return None
        if self.idle_baseline is None:
            return "none was measured yet"
        if self.idle_baseline.power_w is None:
            return "the one before failed"
        if self._clock.monotonic() - self._idle_at_s > RETAKE_S:
            return f"the one before is more than {RETAKE_S / 60:.0f} min old"
        changed = changes(self._idle_env, self._look())
        return f"the device has changed: {', '.join(changed)}" if changed else None

    def poll(self) -> None:
        """Take what the source has now. The sampler's own thread does that, unless it was told to have none."""
        self._recorder.poll()

    def start(self) -> None:
        """Open the source and begin to record.

        Raises:
            SourceError: the source was found, but does not open or gives no first reading.
        """
        try:
            self.source.open()
        except SourceError:
            raise
        except Exception as error:  # a driver may raise anything
            raise SourceError(f"{self.source.info.name} does not open: {error}") from error
        self._recorder.start()
        if self.error is not None:
            self.stop()
            raise SourceError(f"{self.source.info.name} does not answer: {self.error}")

    def stop(self) -> None:
        """Stop recording and close the source. Always safe: twice, before `start`, after a death."""
        if self._window is not None:
            self._window.cancel()
        self._recorder.stop()
        with contextlib.suppress(Exception):  # nothing more is wanted from it, not even why it would not close
            self.source.close()

    def measure_idle(self, seconds: float) -> IdleBaseline:
        """Measure the quiet device; it becomes `idle_baseline`. Blocks for that long and a little more.

        A dead source, or one that pauses for too long, gives a baseline of None.
        """
        info = self.source.info
        if self._recorder.sampled:
            # what the source still remembers of the time before would count as idle
            self._clock.sleep(min(memory_s(info), MAX_GUARD_S))
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        start_s = self._clock.monotonic()
        before = self._cpu_times()
        samples: list[Sample] = []
        trace = None
        if isinstance(self.source, EstimateSource):
            means_w = self._estimated_means_w(seconds)
            n_samples = len(means_w)
        else:
            trace = self._trace(f"idle_{started_at}", started_at=started_at, idle_from_s=start_s)
            samples = self._sampled(start_s, seconds, trace)
            means_w, n_samples = self._means_w(samples, start_s, seconds), len(samples)
        power_w, u_power_w = (None, None) if self.error else of_means(means_w, info)
        baseline = IdleBaseline(
            power_w=power_w,
            u_power_w=u_power_w,
            duration_s=self._clock.monotonic() - start_s,
            n_samples=n_samples,
            started_at=started_at,
            busy_fraction=_busy_fraction(before, self._cpu_times()),
        )
        if trace is not None:
            baseline = dataclasses.replace(baseline, trace_file=_finished(trace, baseline, samples, start_s, seconds))
        self.idle_baselines.append(baseline)
        self._idle_at_s = self._clock.monotonic()
        self._idle_env = self._look()
        return baseline

    def open_window(self, name: str, guard_s: float) -> Window:
        """Keep quiet for guard_s, then open a window. The work should start as soon as this returns.

        Args:
            name: names the trace file.
            guard_s: quiet time on each side; 0 for none. Otherwise it is made as long as the source needs, up
                to `MAX_GUARD_S`, and as much of it is used as the source needs.

        Raises:
            RuntimeError: the window before is still open.
        """
        if self._window is not None and self._window.is_open:
            raise RuntimeError("one window at a time: close or cancel the one before")
        if guard_s > 0 and self._recorder.sampled:
            guard_s = max(guard_s, min(guard_needed_s(self.source.info) + GUARD_SLACK_S, MAX_GUARD_S))
        quiet_from_s = self._clock.monotonic()
        self._recorder.keep_from_s = quiet_from_s
        self._recorder.trace = trace = self._trace(name, quiet_from_s=quiet_from_s)
        env_before = self._look()
        self._recorder.poll()
        self._clock.sleep(guard_s)
        self._window = Window(
            self._recorder,
            name,
            quiet_from_s=quiet_from_s,
            trace=trace,
            look=self._look,
            env_before=env_before,
        )
        return self._window

    def _trace(self, name: str, **facts: object) -> TraceFile | None:
        """Where the samples of a span that begins now will go."""
        info = self.source.info
        if self._trace_dir is None or info.kind not in COLUMNS:
            return None
        return TraceFile(self._trace_dir, name, column=COLUMNS[info.kind], facts={"source": info.name, **facts})

    def _sampled(self, start_s: float, seconds: float, trace: TraceFile | None) -> list[Sample]:
        """The samples of a quiet span that began just now."""
        recorder = self._recorder
        recorder.keep_from_s, recorder.trace = start_s, trace
        recorder.poll()
        self._clock.sleep(seconds)
        recorder.await_sample(start_s + seconds)
        samples = recorder.samples(start_s, start_s + seconds)
        recorder.keep_from_s = recorder.trace = None
        return samples

    def _means_w(self, samples: Sequence[Sample], start_s: float, seconds: float) -> list[float]:
        """Mean power of each part of a quiet span."""
        # two samples make a part at least, or its mean is the mean of nothing
        blocks = max(1, min(IDLE_BLOCKS, len(samples) // 2))
        edges_s = [start_s + seconds * i / blocks for i in range(blocks + 1)]
        info = self.source.info
        if info.kind == "power" and longest_gap_s(samples, start_s, start_s + seconds) > gap_limit_s(
            max(info.period_s, self._recorder.asked_s)
        ):
            return []
        try:
            return _block_means_w(samples, edges_s, info.kind)
        except ValueError:  # too few samples to reach over the span
            return []

    def _estimated_means_w(self, seconds: float) -> list[float]:
        """Mean power of each part of a quiet span, one estimate each; at least 1 s long where there is room for two."""
        blocks = max(2, min(IDLE_BLOCKS, int(seconds)))
        means_w = []
        for _ in range(blocks):
            self._recorder.begin()
            began_s = self._clock.monotonic()
            self._clock.sleep(seconds / blocks)
            ended_s = self._clock.monotonic()
            joules = self._recorder.end()
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


def _block_means_w(samples: Sequence[Sample], edges_s: Sequence[float], kind: str) -> list[float]:
    if kind not in INTEGRALS:
        return []
    integral = INTEGRALS[kind]
    return [integral(samples, left, right) / (right - left) for left, right in pairwise(edges_s)]


def _busy_fraction(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])
