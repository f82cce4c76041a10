"""Instrument: a meter's analogue front end and its bytes, with every moment given from outside."""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Protocol

from hardware.instruments.faults import Faults


class Power(Protocol):
    """A truth to be measured, e.g. a `hardware.instruments.waveform.Waveform`."""

    def power_w(self, t_s: float) -> float: ...

    def energy_j(self, start_s: float, end_s: float) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The figures of a meter at one moment, not yet rounded to the counts of its protocol.

    Attributes:
        voltage_v, current_a, power_w: of the last refresh.
        energy_j: the meter's own counter, since it was switched on.
        age_s: since it was switched on, by the meter's own clock.
    """

    voltage_v: float
    current_a: float
    power_w: float
    energy_j: float
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """The analogue half of a meter: refreshes every ``refresh_s`` and holds what it has in between.

    Attributes:
        waveform: the truth, on the host's clock.
        on_s: when the meter was switched on, on the host's clock.
        gain: reading over truth; 1 is perfect.
        offset_w: reading at no power.
        refresh_s: between two refreshes, by the host's clock.
        averaging: a refresh shows the mean since the one before; otherwise the power at its moment.
        delay_s: how old a refresh is when it is first shown.
        supply_v: at no load.
        source_ohm: of supply and cable; the voltage sags with the current.
        drift: the meter's clock gains this many seconds per second.
    """

    waveform: Power
    on_s: float = 0.0
    gain: float = 1.0
    offset_w: float = 0.0
    refresh_s: float = 0.5
    averaging: bool = True
    delay_s: float = 0.0
    supply_v: float = 5.1
    source_ohm: float = 0.05
    drift: float = 0.0

    def read(self, now_s: float) -> Reading:
        """The reading at now_s."""
        tick = max(0, math.floor((now_s - self.delay_s - self.on_s) / self.refresh_s + 1e-9))
        shown_s = self.on_s + tick * self.refresh_s
        if self.averaging and tick > 0:
            true_w = self.waveform.energy_j(shown_s - self.refresh_s, shown_s) / self.refresh_s
        else:
            true_w = self.waveform.power_w(shown_s)
        seen_j = self.waveform.energy_j(self.on_s, shown_s)
        power_w = self.gain * true_w + self.offset_w
        # P = V I with V = V0 - R I, solved for I
        sag = max(0.0, self.supply_v**2 - 4 * self.source_ohm * power_w)
        voltage_v = (self.supply_v + math.sqrt(sag)) / 2
        return Reading(
            voltage_v=voltage_v,
            current_a=power_w / voltage_v,
            power_w=power_w,
            energy_j=self.gain * seen_j + self.offset_w * (shown_s - self.on_s),
            age_s=(now_s - self.on_s) * (1 + self.drift),
        )


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
        return replace(
            reading,
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
