"""Streaming meter: one that sends currents at a fixed rate far above that of a trace, with neither times nor watts.

The samples are counted; their number is the meter's clock (`hardware.meters.clockfit.SampleClock`). The mean of each
`BLOCK_S` becomes one sample, so the energy is that of all samples, and a day's trace fits into memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hardware.meters.clockfit import SampleClock
from hardware.meters.link import Link
from hardware.meters.meter import Clock, Meter
from hardware.wire.reading import Reading, Scale

BLOCK_S = 0.01


class StreamingMeter(Meter):
    """Base of the meters that stream currents at a known, constant voltage."""

    silent_s = 3.0

    def __init__(
        self,
        name: str,
        dial: Callable[[], Link],
        scale: Scale,
        *,
        volts: float,
        rate_hz: float,
        clock: Clock = time.monotonic,
        **facts: Any,
    ) -> None:
        self.volts = volts
        self.rate_hz = rate_hz
        self.block = max(1, round(rate_hz * BLOCK_S))
        super().__init__(
            name,
            dial,
            scale,
            clock=clock,
            resolution=scale.amp_count * volts,
            period_s=self.block / rate_hz,
            latency_s=0.05,
            averages=1.0,
            device_clock=True,
            **facts,
        )
        self._ticks = SampleClock(1 / rate_hz)
        self._block_start = 0
        self._block_amps: list[float] = []

    def _restart(self) -> None:
        """Begin to count at 0, e.g. on a fresh connection."""
        self._ticks = SampleClock(1 / self.rate_hz)
        self._block_amps = []

    def _arrived(self, index: int, arrived_s: float) -> int:
        """Compare the count with the clock. Returns how many samples the count lacks."""
        lost = self._ticks.arrived(index, arrived_s)
        self._missing += lost
        return lost

    def _add(self, first_index: int, amps: Sequence[float], arrived_s: float) -> None:
        """Take currents that follow each other without loss; the first has this number."""
        if self._block_amps and first_index != self._block_start + len(self._block_amps):
            self._block_amps = []  # a block with a gap has no mean
        for offset, current_a in enumerate(amps):
            if not self._block_amps:
                self._block_start = first_index + offset
            self._block_amps.append(current_a)
            if len(self._block_amps) == self.block:
                self._close_block(arrived_s)

    def _close_block(self, arrived_s: float) -> None:
        mean_a = sum(self._block_amps) / self.block
        middle = self._block_start + (self.block - 1) / 2
        self._block_amps = []
        reading = Reading(volts=self.volts, amps=mean_a, watts=self.volts * mean_a)
        complaint = self._scale.complaint(reading)
        if complaint is not None:
            self._refuse(complaint)
            return
        self._sample(self._ticks.host_s(middle), reading.watts)
        self._note_alive(reading, arrived_s)
