"""Simulated clock, on which hours of measuring take seconds."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator

STUCK_S = 0.2
"""Real time after which a sleeping thread checks whether the one that should run has ended."""


class SimulatedClock:
    """Time that passes only while every thread that uses it sleeps; one of them runs at a time.

    Has what `hardware.measure.sampler.Sampler` needs of the module `time`. The thread that makes it counts as running.
    Another one joins in with its first sleep.
    """

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        self._limit_s = float("inf")
        self._free = False
        self._lock = threading.Lock()
        self._number = itertools.count()
        self._owner = threading.current_thread()
        self._awake = {self._owner}
        self._asleep: list[tuple[float, int, threading.Thread, threading.Event]] = []
        self._due: list[tuple[float, int, float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        """The time it is."""
        return self._now_s

    def every(self, seconds: float, call: Callable[[], object]) -> None:
        """Call it whenever so many seconds have passed while the thread that made the clock sleeps."""
        heapq.heappush(self._due, (self._now_s + seconds, next(self._number), seconds, call))

    def sleep(self, seconds: float, /) -> None:
        """Let time pass for this thread."""
        self.sleep_until(self._now_s + seconds)

    def sleep_until(self, moment_s: float) -> None:
        """Let time pass until that moment, if it is still to come."""
        if threading.current_thread() is self._owner:
            while not self._free and self._due and self._due[0][0] <= moment_s:
                due_s, number, seconds, call = heapq.heappop(self._due)
                self._sleep_until(due_s)
                call()
                heapq.heappush(self._due, (max(due_s + seconds, self._now_s), number, seconds, call))
        self._sleep_until(moment_s)

    @contextlib.contextmanager
    def elsewhere(self, up_to_s: float) -> Iterator[None]:
        """The thread that made the clock waits for another by other means inside; time goes on for so long at most."""
        with self._lock:
            self._limit_s = self._now_s + up_to_s
            self._awake.discard(threading.current_thread())
            self._wake_next()
        try:
            yield
        finally:
            with self._lock:
                self._awake.add(threading.current_thread())
                self._limit_s = float("inf")

    def release(self) -> None:
        """End every sleep at once from now on, so that threads can end."""
        with self._lock:
            self._free = True
            for _, _, _, wake in self._asleep:
                wake.set()

    def _sleep_until(self, moment_s: float) -> None:
        me, wake = threading.current_thread(), threading.Event()
        with self._lock:
            if self._free:
                self._now_s = max(self._now_s, moment_s)
            if moment_s <= self._now_s:
                return
            heapq.heappush(self._asleep, (moment_s, next(self._number), me, wake))
            self._awake.discard(me)
            self._wake_next()
        while not wake.wait(STUCK_S):
            with self._lock:
                self._wake_next()

    def _wake_next(self) -> None:
        """Advance to the next wake-up time if no thread is awake. The caller holds the lock."""
        self._awake = {thread for thread in self._awake if thread.is_alive()}
        if self._awake or not self._asleep or self._asleep[0][0] > self._limit_s:
            return
        moment_s, _, thread, wake = heapq.heappop(self._asleep)
        self._now_s = max(self._now_s, moment_s)
        self._awake.add(thread)
        wake.set()
