"""Meter: base of all meters on a cable or over Bluetooth. One thread reads, `poll` fetches the samples it has taken.

The thread alone uses the connection, so `poll` never waits for a slow or dead meter, and a sample gets the time at
which it arrived. When the connection breaks the thread connects again for ever; `poll` has no samples meanwhile: a gap,
which the evaluation judges, and no error. Only what cannot mend itself ends the source, e.g. a meter of another
model.

A subclass defines how to connect, the first and last commands, and one step of the exchange.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hardware.errors import SourceError
from hardware.meters.clockfit import ClockFit
from hardware.meters.link import Link, RawLog, Tap
from hardware.source import EnergyCount, Health, OwnCounter, PowerSource, Sample, SourceInfo
from hardware.wire.reading import JOULES_PER_MWH, Reading, Scale

FIRST_S = 12.0
"""Longest wait for a first good sample. A real UM24C took 4.5 s for its first reply, an Arduino starts for 2 s."""

RETRY_S = (0.2, 2.0)
"""First and longest pause before connecting again."""

KEPT = 1_000_000
"""Most samples that wait for a poll."""

NOMINAL = Reading(volts=5.0, amps=1.0, watts=5.0)
"""Stands for the first reading until there is one: a count of power depends on the voltage."""

ZERO = 0.004
"""Share of the largest current that the zero of a meter may be off while nobody has checked it; assumed. Makers state
errors of some counts at the zero of a new meter; a shunt amplifier that was knocked or aged shows 10 to 20 mA."""

Clock = Callable[[], float]


class SilentError(OSError):
    """The connection stands, but the meter has sent nothing of use for too long."""


class Meter(PowerSource):
    """Base of the meters. Subclasses implement `_step`, and of the other hooks below what their protocol needs.

    Args:
        dial: opens a connection.
        device_clock: its samples carry the time of its own clock.
        scale: of the meter's figures. It gives one count of power and with it the uncertainty of the zero, unless the
            facts state a resolution.
        facts: of `SourceInfo`, apart from name, kind and scope.
    """

    self_timed = True
    count_j = JOULES_PER_MWH
    """One count of the meter's own energy counter, if it has one."""

    silent_s = 10.0
    """A connection that has brought no good sample for so long is taken for broken."""

    def __init__(
        self,
        name: str,
        dial: Callable[[], Link],
        scale: Scale,
        *,
        clock: Clock = time.monotonic,
        device_clock: bool = False,
        **facts: Any,
    ) -> None:
        self.name = name
        defaults = {"covers": ("everything behind the meter",), "excludes": ("power supply",)}
        times = "device" if device_clock else "host"
        self._info = SourceInfo(name=name, kind="power", scope="board", clock=times, **{**defaults, **facts})
        self.first: Reading | None = None
        self._dial = dial
        self._scale = scale
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._alive = threading.Event()
        self._thread: threading.Thread | None = None
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._counts: deque[OwnCounter] = deque(maxlen=KEPT)
        self._raw: RawLog | None = None
        self._fatal: str | None = None
        self._problem: str | None = None
        self._connected = False
        self._port = ""
        self._disconnects = self._implausible = self._missing = 0
        self._good_s = self._last_s = 0.0
        self._energy = EnergyCount()
        self._fit = ClockFit()

    # the hooks of a subclass

    def _begin(self, link: Link) -> None:
        """Send the first commands on a fresh connection."""

    @abstractmethod
    def _step(self, link: Link) -> None:
        """One exchange or one read, of half a second or so at most; passes readings to `_give`."""

    def _end(self, link: Link) -> None:
        """Send the last commands, and read what is still under way, so that the meter starts cleanly next time."""

    def _lost(self) -> int:
        """Samples known to be lost since the start."""
        return self._missing

    def _bad(self) -> int:
        """Broken frames since the start."""
        return 0

    # the interface of a source

    @property
    def info(self) -> SourceInfo:
        reading = self.first or NOMINAL
        zero_w = ZERO * self._scale.max_amps * abs(reading.volts)
        if self._info.resolution is not None:
            return dataclasses.replace(self._info, zero_w=zero_w)
        count_w = self._scale.resolution_w(reading)
        return dataclasses.replace(self._info, resolution=count_w, offset_u=count_w, zero_w=zero_w)

    @property
    def health(self) -> Health:
        return Health(
            connected=self._connected,
            disconnects=self._disconnects,
            lost=self._lost(),
            bad_frames=self._bad(),
            implausible=self._implausible,
            problem=self._fatal or self._problem,
        )

    def record_raw(self, path: Path) -> bool:
        self._log_to(RawLog(path, self.name))
        return True

    def open(self) -> None:
        """Connect and wait for a first good sample, `FIRST_S` at most.

        Raises:
            SourceError: no connection, no answer, or another meter than the name states.
        """
        self._stop.clear()
        self._alive.clear()
        self._fatal = self._problem = None
        self._energy = EnergyCount()
        self._port = ""
        try:
            link = self._dial()
        except OSError as error:
            taken = error.errno in (errno.EAGAIN, errno.EBUSY)
            reason = "another program has the port open; end that one first" if taken else error
            raise SourceError(f"{self.name} cannot be opened: {reason}") from error
        self._good_s = self._clock()
        self._thread = threading.Thread(target=self._run, args=(link,), name=f"meter-{self.name}", daemon=True)
        self._thread.start()
        self._alive.wait(FIRST_S)
        if self._fatal is not None or not self._alive.is_set():
            got = f"{self._bad()} broken frames" if self._bad() else "nothing of use"
            why = (
                self._fatal or f"it does not answer: {got} in {FIRST_S:.0f} s ({self._problem or 'is it switched on?'})"
            )
            self.close()
            raise SourceError(f"{self.name}: {why}")

    def close(self) -> None:
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=3.0)  # one that hangs in a driver is left behind
        self._log_to(None)
        self._connected = False

    def poll(self) -> list[Sample]:
        if self._fatal is not None:
            raise SourceError(f"{self.name}: {self._fatal}")
        with self._lock:
            samples = list(self._samples)
            self._samples.clear()
        return samples

    def own_counter(self) -> OwnCounter | None:
        return self._energy.counter

    def own_counts(self) -> list[OwnCounter]:
        with self._lock:
            counts = list(self._counts)
            self._counts.clear()
        return counts

    # for subclasses

    def _give(self, reading: Reading, arrived_s: float) -> None:
        """Take a reading that arrived at arrived_s, unless it cannot be true. Its own time counts where it has one."""
        complaint = self._scale.complaint(reading)
        if complaint is not None:
            self._refuse(complaint)
            return
        taken_s = arrived_s
        if reading.device_s is not None:
            self._fit.add(reading.device_s, arrived_s)
            taken_s = self._fit.host_s(reading.device_s)
        self._sample(taken_s, reading.watts)
        self._energy.follow(reading.energy_j, self._last_s, self.count_j)
        if reading.energy_j is not None and self._energy.counter is not None:
            with self._lock:
                self._counts.append(self._energy.counter)
        self._note_alive(reading, arrived_s)

    def _refuse(self, complaint: str) -> None:
        """Count a reading that cannot be true."""
        self._implausible += 1
        self._problem = f"a reading cannot be true: {complaint}"

    def _sample(self, t_s: float, watts: float) -> None:
        """Queue a sample. Times only rise: a clock fit that mends itself may give two samples out of order."""
        with self._lock:
            self._last_s = max(t_s, self._last_s + 1e-6)
            self._samples.append((self._last_s, watts))

    def _identify(self, device: Mapping[str, Any]) -> None:
        """Store the identity that the meter sends, and check that it is that of the first connection.

        Raises:
            SourceError: it is another one; its scale may be another, and the results name the first.
        """
        if not self._info.device:
            self._info = dataclasses.replace(self._info, device=dict(device))
        known = self._info.device
        changed = [f"{name} {known[name]}, now {value}" for name, value in device.items() if known.get(name) != value]
        if changed:
            raise SourceError(
                f"another meter is on the port: {', '.join(changed)}; put the first one back, or run again"
            )

    def _note_alive(self, reading: Reading, arrived_s: float) -> None:
        """Note that a good reading has arrived."""
        self.first = self.first or reading
        self._good_s = arrived_s
        self._connected = True
        self._alive.set()

    def _drain(self, link: Link, *, wait: bool = True, up_to_s: float = 1.0) -> None:
        """Read and discard what is there, or with wait also what is still under way. Some meters never fall silent."""
        deadline_s = self._clock() + up_to_s
        while link.read(wait=wait) and self._clock() < deadline_s:
            pass

    def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond `close`."""
        if seconds > 0:
            self._stop.wait(seconds)

    def _new_clock(self) -> None:
        """Forget the meter's clock: it was set back."""
        self._fit = ClockFit()

    def _log_to(self, log: RawLog | None) -> None:
        old, self._raw = self._raw, log
        if old is not None:
            old.close()

    def _note(self, direction: str, data: bytes) -> None:
        raw = self._raw
        if raw is None:
            return
        try:
            raw.write(self._clock(), direction, data)
        except (OSError, ValueError) as error:  # a full disk ends the log, not the measurement
            self._raw = None
            self._problem = f"the raw log ended: {error}"

    def _run(self, link: Link | None) -> None:
        retry_s = RETRY_S[0]
        while not self._stop.is_set():
            try:
                link = Tap(link or self._dial(), self._note)
                if link.identity and self._port and link.identity != self._port:
                    raise SourceError(f"another device is on the port: {link.identity} instead of {self._port}")
                self._port = self._port or link.identity
                self._new_clock()
                self._good_s = self._clock()
                self._exchange(link)
            except OSError as error:
                self._problem = f"{type(error).__name__}: {error}"
            except SourceError as error:
                self._die(str(error))
            except Exception as error:  # a driver may raise anything, and a dead thread reports nothing
                self._die(f"{type(error).__name__}: {error}")
            finally:
                if link is not None:
                    link.close()
                link = None
            if self._connected and not self._stop.is_set():
                self._disconnects += 1
                retry_s = RETRY_S[0]
            self._connected = False
            self._pause(retry_s)
            retry_s = min(2 * retry_s, RETRY_S[1])

    def _exchange(self, link: Link) -> None:
        try:
            self._begin(link)
            while not self._stop.is_set():
                self._step(link)
                if self._clock() - self._good_s > self.silent_s:
                    raise SilentError(f"no good sample for {self.silent_s:.0f} s")
        finally:
            with contextlib.suppress(OSError):
                self._end(link)

    def _die(self, why: str) -> None:
        self._fatal = why
        self._stop.set()
        self._alive.set()
