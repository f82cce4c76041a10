"""Sampler: one source, an idle baseline, and windows whose energy is a cell's.

    sampler = Sampler(choose("auto").source, run_dir / "traces")
    sampler.start()
    if sampler.idle_due():                                         # at first, every 15 min, after a change of state
        sampler.measure_idle(30)
    window = sampler.open_window("digits/full/s=0", guard_s=2)     # the device stays quiet for 2 s
    ...                                                            # work; note time.monotonic() around it
    result = window.close(t0_s=t0, t1_s=t1, executions=1, idle=sampler.idle_baseline)
    sampler.measure_idle(30)                                 # once more: `hardware.measure.idle.bracket` takes both
    sampler.stop()

The work should be ready before the window is opened and start at once when it is: the guard band has to be quiet, and
an estimate covers everything that happens while the window is open. A source that dies does
not end a campaign: that window and all later ones have grade X, and no other source takes its place.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from hardware.device import machine as device
from hardware.device.changes import changes
from hardware.device.machine import Snapshot
from hardware.errors import SourceError
from hardware.measure.energy import MAX_GUARD_S, guard_needed_s
from hardware.measure.idle import RETAKE_S, IdleBaseline, measure
from hardware.measure.recorder import Recorder
from hardware.measure.trace import COLUMNS, TraceFile
from hardware.measure.window import Window
from hardware.source import Clock, Source

GUARD_SLACK_S = 0.1
"""The work may seem to start so much early, since two processes read the clock."""


class Sampler:
    """Measures idle baselines and windows with one source, from `start` to `stop`. One window at a time.

    Args:
        source: not yet open.
        trace_dir: folder for the samples of each window and idle baseline; None: they are not written.
        clock: tests bring their own.
        cpu_times, look, suspended_s: read the load, the state and the sleep of the device.
        tree_cpu_s: reads the processor time of this process and of all that it has started; by default this machine's,
            unless the clock is another.
        background: poll from a thread. Simulations set it to False and call `poll` when they move the clock.
    """

    def __init__(
        self,
        source: Source,
        trace_dir: Path | None = None,
        *,
        clock: Clock = time,
        cpu_times: Callable[[], tuple[float, float] | None] = device.cpu_times,
        look: Callable[[], Snapshot] = device.snapshot,
        suspended_s: Callable[[], float] = device.suspended_s,
        tree_cpu_s: Callable[[], float | None] | None = None,
        background: bool = True,
    ) -> None:
        self.source = source
        self.idle_baselines: list[IdleBaseline] = []
        self._idle_at_s = float("-inf")
        self._idle_env: Snapshot | None = None
        self._look = look
        self._cpu_times = cpu_times
        self._tree_cpu_s = tree_cpu_s or (device.tree_cpu_s if clock is time else lambda: None)
        self._trace_dir = trace_dir
        self._clock = clock
        self._recorder = Recorder(source, clock, background=background, suspended_s=suspended_s)
        self._window: Window | None = None

    @property
    def clock(self) -> Clock:
        """The clock of samples and windows."""
        return self._clock

    @property
    def error(self) -> str | None:
        """The error that ended the source; None without one."""
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
        """Fetch what the source has now. The sampler's own thread does that, unless it has none."""
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
        with contextlib.suppress(Exception):  # its error is of no use any more
            self.source.close()

    def measure_idle(self, seconds: float) -> IdleBaseline:
        """Measure the quiet device; it becomes `idle_baseline`. Blocks for that long and a little more.

        A dead source, or one that pauses for too long, gives a baseline of None.
        """
        baseline = measure(
            self._recorder,
            seconds,
            cpu_times=self._cpu_times,
            make_trace=lambda at, start_s: self._trace(f"idle_{at}", started_at=at, idle_from_s=start_s),
        )
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
            cpu_s=self._cpu_s,
            other_users=self._other_users,
        )
        return self._window

    def _other_users(self) -> set[int]:
        """Processes that use what the source measures, less those of this process and of what it started."""
        users = {*self.source.users()}
        return users - device.tree() if users else users

    def _cpu_s(self) -> tuple[float, float, float] | None:
        machine, own_s = self._cpu_times(), self._tree_cpu_s()
        if machine is None or own_s is None:
            return None
        return machine[0] / device.ticks_per_s(), machine[1] / device.ticks_per_s(), own_s

    def _trace(self, name: str, **facts: object) -> TraceFile | None:
        """The file for the samples of a span that begins now; None without a trace folder."""
        info = self.source.info
        if self._trace_dir is None or info.kind not in COLUMNS:
            return None
        return TraceFile(self._trace_dir, name, column=COLUMNS[info.kind], facts={"source": info.name, **facts})
