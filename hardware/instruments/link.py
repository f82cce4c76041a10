"""Link: the way from a source to a simulated instrument without a port, for simulated clocks."""

from __future__ import annotations

from hardware.instruments.clock import SimulatedClock
from hardware.instruments.instrument import Instrument

WAIT_S = 0.1
"""As long as a serial port waits for a first byte, see `hardware.meters.link`."""


class SimulatedLink:
    """An open connection, as `hardware.meters.link.Link` describes it. It breaks when the instrument is disconnected.

    Raises:
        OSError: it is disconnected already.
    """

    def __init__(self, instrument: Instrument, clock: SimulatedClock) -> None:
        self._instrument = instrument
        self._clock = clock
        self._broken = False
        self._check()
        instrument.take(clock.monotonic())  # what came before anybody listened

    def read(self, *, wait: bool = True) -> bytes:
        until_s = self._clock.monotonic() + (WAIT_S if wait else 0.0)
        while True:
            self._check()
            data = self._instrument.take(self._clock.monotonic())
            now_s = self._clock.monotonic()
            if data or now_s >= until_s:
                return data
            self._clock.sleep_until(min(until_s, self._instrument.next_s(now_s) or until_s))

    def write(self, data: bytes) -> None:
        self._check()
        self._instrument.feed(self._clock.monotonic(), data)

    def close(self) -> None:
        """Nothing is held."""

    def _check(self) -> None:
        # a connection that was lost stays lost, even if the instrument is there again
        self._broken = self._broken or not self._instrument.connected(self._clock.monotonic())
        if self._broken:
            raise OSError("the instrument is unplugged")
