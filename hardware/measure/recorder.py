"""Recorder: polls an open source from a thread and keeps its samples.

Nothing here raises because of a source: the first error ends the recording for good and stays in ``error``. A meter
that is unplugged for a while is no error: it gives no samples, and the evaluation of a window judges the gap.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hardware.device import machine as device
from hardware.errors import SourceError
from hardware.measure.trace import TraceFile
from hardware.source import Clock, EstimateSource, OwnCounter, Sample, SampledSource, Source

KEEP_S = 60.0
"""Samples older than this are dropped, unless a window needs them."""

FIRST_REPLY_S = 10.0
"""How long a meter may take to give its first sample. One real UM24C took 4.5 s."""

FETCH_S = 1.0
"""Time between two fetches from a source whose own thread takes and stamps the samples: none is lost in between."""

AHEAD_S = 1.0
"""A sample from further in the future has a wrong time, and would exclude all that come before it."""

STOPPED_S = 2.0
"""A thread that wakes up so much late did not wait for a processor: the process was stopped, e.g. by Ctrl-Z."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruptions:
    """Time in which nothing was measured, s since some moment: this process was stopped, or the machine slept."""

    stopped_s: float
    suspended_s: float

    def since(self, earlier: Interruptions) -> Interruptions:
        """Those after an earlier moment. Less than 0.1 s of sleep is none: the two clocks are read one by one."""
        slept_s = self.suspended_s - earlier.suspended_s
        return Interruptions(
            stopped_s=self.stopped_s - earlier.stopped_s, suspended_s=slept_s if slept_s > 0.1 else 0.0
        )

    @property
    def reason(self) -> tuple[str, str] | None:
        """The flag of a span with these interruptions, and what happened; None if there was none."""
        if self.suspended_s > 0:
            return "suspended", f"the machine slept for {self.suspended_s:.1f} s"
        return ("stopped", f"this process was stopped for {self.stopped_s:.1f} s") if self.stopped_s > 0 else None


class Recorder:
    """Polls a counter or a meter from a thread, and at once on `poll`. An estimate has no samples.

    Attributes:
        error: the error that ended the source; None without one.
        keep_from_s: samples since then are kept, however old they get.
        trace: gets each sample that is kept, while it is set.
        rejected: samples that were no numbers, or out of their order.
    """

    def __init__(
        self,
        source: Source,
        clock: Clock,
        *,
        background: bool = True,
        suspended_s: Callable[[], float] = device.suspended_s,
    ) -> None:
        self.source = source
        self._suspended_s = suspended_s
        self._stopped_s = 0.0
        self._woke_s = time.monotonic()
        self.clock = clock
        self.rejected = 0
        self._background = background
        self.error: str | None = None
        self.keep_from_s: float | None = None
        self.trace: TraceFile | None = None
        self.sampled = isinstance(source, SampledSource)
        self._samples: list[Sample] = []
        self._counts: list[OwnCounter] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def interval_s(self) -> float:
        """Time between two polls: each wakes up a processor that is being measured."""
        return FETCH_S if self.source.self_timed else self._refresh_s

    @property
    def _refresh_s(self) -> float:
        """Time after which a new sample can be there. A counter loses nothing meanwhile: polls serve trace and wraps.

        Nor does a meter with its own clock: its samples carry their times.
        """
        info = self.source.info
        unhurried = info.kind == "counter" or info.clock == "device"
        return min(max(info.period_s, 0.1 if unhurried else 0.01), 1.0)

    @property
    def asked_s(self) -> float:
        """The period that polling adds to the samples: 0 if they carry a time of their own."""
        return 0.0 if self.source.info.clock == "device" or self.source.self_timed else self.interval_s

    def start(self) -> None:
        """Wait for a first sample, so that every later moment has one before it; then go on in a thread."""
        if self.sampled:
            self.await_sample(self.clock.monotonic(), at_least_s=FIRST_REPLY_S)
            if self.error is None and not self._samples:
                self.error = "it gives no reading"
            if self._background:
                self._woke_s = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="energy-recorder", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread. A source that hangs is left behind after 2 s: the thread is a daemon."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def interruptions(self) -> Interruptions:
        """How long this process was stopped and the machine slept until now, while the thread ran."""
        late_s = self._late_s() if self._thread is not None else 0.0
        return Interruptions(stopped_s=self._stopped_s + late_s, suspended_s=self._suspended_s())

    def poll(self) -> None:
        """Fetch what the source has now."""
        source = self.source
        with self._lock:
            new = self._safely(source.poll) if isinstance(source, SampledSource) else None
            if self._take(new or []):
                for count in self._safely(source.own_counts) or ():
                    if not self._counts or count.t_s > self._counts[-1].t_s:
                        self._counts.append(count)
            self._forget()

    def begin(self) -> None:
        """Begin an estimate, if the source is one."""
        if isinstance(self.source, EstimateSource):
            self._safely(self.source.begin)

    def end(self) -> float | None:
        """End the estimate: joules, or None if the source gave none."""
        return self._safely(self.source.end) if isinstance(self.source, EstimateSource) else None

    def await_sample(self, until_s: float, *, at_least_s: float = 0.0) -> None:
        """Wait for a sample at or after until_s, no longer than a living source can take, or at_least_s."""
        if not self.sampled:
            return
        info = self.source.info
        wait_s = max(3 * info.period_s + info.latency_s + 1.0, at_least_s)
        give_up_s = self.clock.monotonic() + wait_s
        self.poll()
        while self._latest_s() < until_s and self.error is None and self.clock.monotonic() < give_up_s:
            self.clock.sleep(self._refresh_s / 2)
            self.poll()

    def samples(self, start_s: float, end_s: float) -> list[Sample]:
        """The samples in [start_s, end_s] and one more on each side, to interpolate with."""
        with self._lock:
            first = bisect_right(self._samples, start_s, key=_time) - 1
            last = bisect_left(self._samples, end_s, key=_time)
            return self._samples[max(first, 0) : last + 1]

    def counts(self, start_s: float, end_s: float) -> list[OwnCounter]:
        """The readings of the meter's own energy counter in [start_s, end_s]."""
        with self._lock:
            return [count for count in self._counts if start_s <= count.t_s <= end_s]

    def _take(self, new: list[Sample]) -> bool:
        """Keep finite samples in rising order of time. Returns whether any was kept."""
        latest_s = self._samples[-1][0] if self._samples else float("-inf")
        now_s = self.clock.monotonic()
        before = len(self._samples)
        for t_s, value in new:
            if not (latest_s < t_s <= now_s + AHEAD_S and math.isfinite(value)):
                self.rejected += 1
                continue
            latest_s = t_s
            self._samples.append((t_s, value))
        trace = self.trace  # the window's thread sets it to None when the span is over
        if trace is not None:
            trace.add(self._samples[before:], now_s)
        return len(self._samples) > before

    def _latest_s(self) -> float:
        with self._lock:
            return self._samples[-1][0] if self._samples else float("-inf")

    def _run(self) -> None:
        while not self._stop.wait(self.interval_s) and self.error is None:
            self._stopped_s += self._late_s()
            self._woke_s = time.monotonic()
            self.poll()
            # a poll may take its time; it is no stop
            self._woke_s = time.monotonic()

    def _late_s(self) -> float:
        """How much later than due the thread wakes up, if that is more than a busy machine explains."""
        late_s = time.monotonic() - self._woke_s - self.interval_s
        return late_s if late_s > STOPPED_S else 0.0

    def _safely(self, call: Callable[[], T]) -> T | None:
        if self.error is not None:
            return None
        try:
            return call()
        except SourceError as error:
            self.error = str(error)
        except Exception as error:  # a driver may raise anything; the window reports it
            self.error = f"{type(error).__name__}: {error}"
        return None

    def _forget(self) -> None:
        horizon_s = self.clock.monotonic() - KEEP_S
        if self.keep_from_s is not None:
            horizon_s = min(horizon_s, self.keep_from_s - KEEP_S)
        # in large pieces: dropping one sample at a time would copy the list at every poll
        if self._samples and self._samples[0][0] < horizon_s - KEEP_S:
            del self._samples[: bisect_left(self._samples, horizon_s, key=_time)]
            self._counts = [count for count in self._counts if count.t_s >= horizon_s]


def _time(sample: Sample) -> float:
    return sample[0]
