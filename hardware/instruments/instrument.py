"""Instrument: bytes in, bytes out, with every moment given from outside; no ports and no clock of its own."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod

from hardware.instruments.faults import Faults
from hardware.instruments.frontend import FrontEnd, Reading


class Instrument(ABC):
    """A meter on a serial line.

    ``feed`` hands it what the host sent, ``take`` fetches what it has put on the line since. Both must be
    called with times that do not fall.
    """

    counter_wraps_at_j = float("inf")
    """Energy at which the meter's own counter starts again at 0."""

    def __init__(self, front: FrontEnd, faults: Faults | None = None) -> None:
        self.front = front
        self.faults = faults or Faults()
        self._outbox: list[tuple[float, int, bytes]] = []
        self._sent = 0

    @abstractmethod
    def feed(self, now_s: float, data: bytes) -> None:
        """Take bytes from the host."""

    def take(self, now_s: float) -> bytes:
        """The bytes sent up to now_s."""
        due = []
        while self._outbox and self._outbox[0][0] <= now_s:
            due.append(heapq.heappop(self._outbox)[2])
        return b"".join(due) if self.connected(now_s) else b""

    def next_s(self, now_s: float) -> float | None:
        """Time of the next byte on the line, as far as it is known; None if there is none."""
        return self._outbox[0][0] if self._outbox else None

    def connected(self, now_s: float) -> bool:
        """Whether its port is there."""
        return self.faults.connected(now_s - self.front.on_s)

    def read(self, now_s: float) -> Reading:
        """The front end's reading, on this instrument's clock."""
        reading = self.front.read(now_s)
        age_s = now_s - self.front.on_s
        return Reading(
            voltage_v=reading.voltage_v,
            current_a=reading.current_a,
            power_w=reading.power_w,
            energy_j=(reading.energy_j + self._counter_start_j()) % self.counter_wraps_at_j,
            age_s=reading.age_s + self.faults.drift_s(age_s),
        )

    def put(self, now_s: float, delay_s: float, frame: bytes) -> None:
        """Send a frame, as the faults leave it."""
        if not self.connected(now_s):
            return
        for fault_s, part in self.faults.send(frame, now_s - self.front.on_s):
            self._sent += 1
            heapq.heappush(self._outbox, (now_s + delay_s + fault_s, self._sent, part))

    def _counter_start_j(self) -> float:
        """Start of the counter when the meter was switched on, so that it wraps at the time of the fault."""
        wrap = self.faults.first("wrap")
        if wrap is None:
            return 0.0
        until_j = self.front.read(self.front.on_s + wrap.at_s).energy_j
        return self.counter_wraps_at_j - until_j
