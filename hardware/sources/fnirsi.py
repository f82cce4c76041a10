"""fnirsi: FNIRSI's USB meters FNB48, FNB48S, FNB58 and C1, over USB HID: ``fnirsi``, or ``fnirsi:SERIAL`` with several.

Needs the extra ``jouletune[fnirsi]`` (hidapi). Use the micro-USB port marked PC, and another host than the one that is
measured. The meter sits between the supply and the board. It samples 100 times a second. It needs a command to go on:
every second, or every 3 ms for the FNB48 and C1; ``keepalive_ms`` overrides that (an FNB58 with firmware 0.68 freezes
without ``keepalive_ms=3``).

A meter whose connection ends while it sends locks up until it is replugged, so closing reads until it is silent.
Accuracy is assumed to be 1 %. Written against the documented protocol; not yet tried on a real meter.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hardware.meters.clockfit import SampleClock
from hardware.meters.link import WAIT_S, Link, file_permission
from hardware.meters.meter import Clock, Meter
from hardware.source import Found, NoPermission, NotFound, Probe
from hardware.sources.parameters import full_name, numbers
from hardware.wire.fnirsi import ASK, GO_ON, PERIOD_S, REPORT_BYTES, SCALE, START, FnirsiDecoder, command

GAIN_U = 0.01
MODELS: dict[tuple[int, int], tuple[str, int, float]] = {
    (0x0483, 0x003A): ("FNB48", GO_ON, 0.003),
    (0x0483, 0x003B): ("C1", GO_ON, 0.003),
    (0x2E3C, 0x5558): ("FNB58", ASK, 1.0),
    (0x2E3C, 0x0049): ("FNB48S", ASK, 1.0),
}
"""USB numbers: the model, the third command of its greeting, and the time between its commands to go on, s."""

DRAIN_S = 1.5


class HidLink:
    """A HID device as a link. Each read is one report. Whoever opens it has chosen it by its serial number."""

    identity = ""

    def __init__(self, path: bytes) -> None:
        import hid

        self._device: Any = hid.device()
        self._device.open_path(path)
        # without this a read without a time limit waits for ever
        self._device.set_nonblocking(1)

    def read(self, *, wait: bool = True) -> bytes:
        # hidapi takes 0 ms for no limit
        return bytes(self._device.read(REPORT_BYTES, int(WAIT_S * 1000) if wait else 0))

    def write(self, data: bytes) -> None:
        # the first byte is the number of the report; there is only one, 0
        if self._device.write(b"\x00" + data) < 0:
            raise OSError("the meter takes no commands any more")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._device.close()


class FnirsiSource(Meter):
    """One meter."""

    silent_s = 3.0

    def __init__(
        self,
        name: str,
        dial: Callable[[], Link],
        usb: tuple[int, int],
        *,
        serial: str = "",
        keepalive_s: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._model, self._third, self._keepalive_s = MODELS[usb]
        self._keepalive_s = keepalive_s or self._keepalive_s
        self._decoder = FnirsiDecoder()
        self._ticks = SampleClock(PERIOD_S)
        self._told_s = 0.0
        super().__init__(
            name,
            dial,
            SCALE,
            clock=clock,
            device_clock=True,
            period_s=PERIOD_S,
            latency_s=0.1,
            gain_u=GAIN_U,
            device={"model": self._model, "serial": serial},
            params={"keepalive_s": self._keepalive_s},
        )

    def _begin(self, link: Link) -> None:
        self._decoder.reset()
        self._ticks = SampleClock(PERIOD_S)
        for number in (START, ASK, self._third):
            link.write(command(number))
        self._pause(0.1)
        self._told_s = self._clock()

    def _step(self, link: Link) -> None:
        if self._clock() - self._told_s >= self._keepalive_s:
            self._told_s = self._clock()
            link.write(command(GO_ON))
        # where a command is due every few ms, waiting for a report would take too long
        patient = self._keepalive_s >= WAIT_S
        report = link.read(wait=patient)
        if not report:
            self._pause(0.0 if patient else self._keepalive_s)
            return
        arrived_s = self._clock()
        first = self._decoder.count
        readings = self._decoder.feed(report)
        if not readings:
            return
        lost = self._ticks.arrived(self._decoder.count - 1, arrived_s)
        self._decoder.count += lost
        self._missing += lost
        for index, reading in enumerate(readings):
            complaint = SCALE.complaint(reading)
            if complaint is not None:
                self._refuse(complaint)
                continue
            self._sample(self._ticks.host_s(first + index), reading.watts)
            self._note_alive(reading, arrived_s)

    def _end(self, link: Link) -> None:
        self._drain(link, up_to_s=DRAIN_S)

    def _bad(self) -> int:
        return self._decoder.bad


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when exactly one such meter is plugged in, or the one of this serial number. Opens none."""
    values = numbers("fnirsi", params, {"keepalive_ms": 0})
    try:
        import hid
    except ImportError:
        return NotFound('it needs hidapi: pip install "jouletune[fnirsi]"')
    found = [entry for entry in hid.enumerate() if (entry["vendor_id"], entry["product_id"]) in MODELS]
    chosen = [entry for entry in found if argument in ("", entry["serial_number"])]
    if len(chosen) != 1:
        serials = ", ".join(str(entry["serial_number"]) for entry in found)
        return NotFound(
            f"{len(found)} FNIRSI meters are plugged in{f', with the serial numbers {serials}' if found else ''}"
            + ("; name one: fnirsi:SERIAL" if found else ": use the port marked PC")
        )
    return _found(argument, chosen[0], values["keepalive_ms"] / 1000, params)


def _found(argument: str, entry: dict[str, Any], keepalive_s: float, params: dict[str, str]) -> Found | NoPermission:
    usb = (entry["vendor_id"], entry["product_id"])
    path = entry["path"]
    barred = file_permission(Path(path.decode(errors="replace")))
    if barred is not None:
        return barred
    serial = str(entry["serial_number"])

    def dial() -> Link:
        import hid

        # a meter that was unplugged comes back under another path
        for again in hid.enumerate(*usb):
            if again["serial_number"] == entry["serial_number"]:
                return HidLink(again["path"])
        raise ConnectionError(f"no {MODELS[usb][0]} with the serial number {serial} is plugged in")

    source = FnirsiSource(
        full_name("fnirsi", argument, params), dial, usb, serial=serial, keepalive_s=keepalive_s or None
    )
    return Found(source, f"a {MODELS[usb][0]} is plugged in")
