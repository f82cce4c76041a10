"""Connections to a simulated instrument: a pseudo-terminal, or a link without a port for simulated clocks."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from hardware.instruments.clock import SimulatedClock
from hardware.instruments.instrument import Instrument

STEP_S = 0.005
"""How late a byte may be, and how long the server sleeps when nothing is sent."""

WAIT_S = 0.1
"""As long as a serial port waits for a first byte, see `hardware.meters.link`."""


class PtyServer:
    """Serves one instrument. ``link`` is the name to open, like ``/dev/rfcomm0`` of a real meter.

    The instrument's times are this host's ``time.monotonic``. When the instrument is disconnected both ends of the
    terminal are closed, so that a program that has it open gets a hang-up, as of a pulled cable, and the name vanishes.
    """

    def __init__(self, instrument: Instrument, link: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.instrument = instrument
        self.link = link
        self._clock = clock
        self._ends: tuple[int, int] | None = None

    def serve(self, stop: threading.Event) -> None:
        """Serve until stop is set, from the thread that calls this."""
        try:
            while not stop.is_set():
                self._step()
        finally:
            self._unplug()

    def _step(self) -> None:
        now_s = self._clock()
        if not self.instrument.connected(now_s):
            self._unplug()
            self.instrument.take(now_s)
            time.sleep(STEP_S)
            return
        if self._ends is None:
            self._plug()
        assert self._ends is not None
        host_end = self._ends[0]
        readable, _, _ = select.select([host_end], [], [], STEP_S)
        if readable:
            with contextlib.suppress(OSError):
                self.instrument.feed(self._clock(), os.read(host_end, 4096))
        data = self.instrument.take(self._clock())
        if data:
            # bytes that are not read are lost once the terminal's buffer is full, as on a real line
            with contextlib.suppress(BlockingIOError):
                os.write(host_end, data)

    def _plug(self) -> None:
        host_end, device_end = os.openpty()
        tty.setraw(device_end)
        os.set_blocking(host_end, False)
        self._ends = host_end, device_end
        partial = self.link.with_name(f".{self.link.name}.new")
        partial.unlink(missing_ok=True)
        partial.symlink_to(os.ttyname(device_end))
        partial.replace(self.link)

    def _unplug(self) -> None:
        if self._ends is not None:
            self.link.unlink(missing_ok=True)
            for end in self._ends:
                os.close(end)
            self._ends = None


@contextlib.contextmanager
def served(instrument: Instrument, link: Path) -> Iterator[PtyServer]:
    """Serve from a thread while the block runs. The port is there when the block begins, if it is connected at all."""
    server = PtyServer(instrument, link)
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,), name="instrument", daemon=True)
    thread.start()
    deadline_s = time.monotonic() + 2.0
    while not link.is_symlink() and time.monotonic() < deadline_s:
        time.sleep(STEP_S)
    try:
        yield server
    finally:
        stop.set()
        thread.join(timeout=2.0)


class SimulatedLink:
    """An open connection, as `hardware.meters.link.Link` describes it. It breaks when the instrument is disconnected.

    Raises:
        OSError: it is disconnected already.
    """

    identity = ""

    def __init__(self, instrument: Instrument, clock: SimulatedClock) -> None:
        self._instrument = instrument
        self._clock = clock
        self._broken = False
        self._check()
        instrument.take(clock.monotonic())  # bytes sent before the connection are lost

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
