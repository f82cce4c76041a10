"""Recorder: a source in use. Polls it while something else runs, and turns its death into a fact to be read.

Nothing here raises because of a source: the first error ends the recording for good and stays in ``error``.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Protocol, TypeVar

from hardware.errors import SourceError
from hardware.source import CounterSource, EstimateSource, PowerSource, Sample, Source

KEEP_S = 60.0
"""Samples older than this are dropped, unless a window needs them."""

T = TypeVar("T")


class Clock(Protocol):
    """What the sampler needs of the module `time`; tests bring their own."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


class Recorder:
    """Polls a counter or a meter from a thread, and at once when asked to. An estimate has no samples."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self.source = source
        self.clock = clock
        self.error: str | None = None
        self.keep_from_s: float | None = None
        self.sampled = isinstance(source, CounterSource | PowerSource)
        self._samples: list[Sample] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def interval_s(self) -> float:
        """Time between two polls. A counter loses nothing between two: they serve the trace and show each wrap."""
        fastest_s = 0.1 if isinstance(self.source, CounterSource) else 0.01
        return min(max(self.source.info.period_s, fastest_s), 1.0)

    def start(self) -> None:
        """Wait for a first sample, so that every later moment has one before it; then go on in a thread."""
        if self.sampled:
            self.await_sample(self.clock.monotonic())
            if self.error is None and not self._samples:
                self.error = "it gives no reading"
            self._thread = threading.Thread(target=self._run, name="energy-recorder", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread. A source that hangs is left behind after 2 s: the thread is a daemon."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def poll(self) -> None:
        """Take what the source has now."""
        source = self.source
        with self._lock:
            new: list[Sample] | None = None
            if isinstance(source, CounterSource):
                reading = self._safely(source.read)
                new = None if reading is None else [reading]
            elif isinstance(source, PowerSource):
                new = self._safely(source.poll)
            self._samples += new or []
            self._forget()

    def begin(self) -> None:
        """Begin an estimate, if the source is one."""
        if isinstance(self.source, EstimateSource):
            self._safely(self.source.begin)

    def end(self) -> float | None:
        """End the estimate: joules, or None if the source gave none."""
        return self._safely(self.source.end) if isinstance(self.source, EstimateSource) else None

    def await_sample(self, until_s: float) -> None:
        """Wait for a sample at or after until_s, no longer than a living source can take."""
        if not self.sampled:
            return
        info = self.source.info
        give_up_s = self.clock.monotonic() + 3 * info.period_s + info.latency_s + 1.0
        self.poll()
        while self._latest_s() < until_s and self.error is None and self.clock.monotonic() < give_up_s:
            self.clock.sleep(self.interval_s / 2)
            self.poll()

    def samples(self, start_s: float, end_s: float) -> list[Sample]:
        """The samples in [start_s, end_s] and one more on each side, to interpolate with."""
        with self._lock:
            first = bisect_right(self._samples, start_s, key=_time) - 1
            last = bisect_left(self._samples, end_s, key=_time)
            return self._samples[max(first, 0) : last + 1]

    def _latest_s(self) -> float:
        with self._lock:
            return self._samples[-1][0] if self._samples else float("-inf")

    def _run(self) -> None:
        while not self._stop.wait(self.interval_s) and self.error is None:
            self.poll()

    def _safely(self, ask: Callable[[], T]) -> T | None:
        if self.error is not None:
            return None
        try:
            return ask()
        except SourceError as error:
            self.error = str(error)
        except Exception as error:  # a driver may raise anything; the window must only learn that it did
            self.error = f"{type(error).__name__}: {error}"
        return None

    def _forget(self) -> None:
        horizon_s = self.clock.monotonic() - KEEP_S
        if self.keep_from_s is not None:
            horizon_s = min(horizon_s, self.keep_from_s - KEEP_S)
        # in large bites: dropping one sample at a time would copy the list at every poll
        if self._samples and self._samples[0][0] < horizon_s - KEEP_S:
            del self._samples[: bisect_left(self._samples, horizon_s, key=_time)]


def _time(sample: Sample) -> float:
    return sample[0]
