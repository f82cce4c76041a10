"""ppk2: Nordic's Power Profiler Kit II, for microcontroller targets: 0.8-5 V and 1 A at most.

    ppk2:/dev/ttyACM0?supply_mv=3300    ammeter in the target's supply line, which has 3300 mV
    ppk2:/dev/ttyACM0?source_mv=3300    the kit itself supplies the target with 3300 mV

One of the two must be given: the kit measures amperes only, and volts x amperes is as true as the volts. It keeps a
target that it supplies switched on when the source is closed. 100 000 samples a second are averaged to 100.

Written against the documented protocol; not yet tried on a real PPK2.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np

from hardware.errors import UnknownSourceError
from hardware.meters.link import Link, SerialLink, check_port
from hardware.meters.meter import Clock, SilentError
from hardware.meters.streaming import StreamingMeter
from hardware.source import Found, Probe
from hardware.sources.parameters import full_name, numbers
from hardware.wire.ppk2 import RATE_HZ, Calibration, Ppk2Decoder, Ppk2Error, decode_calibration
from hardware.wire.reading import Scale

BAUD = 9600
"""Without effect: the port is USB."""

GAIN_U = 0.05
"""The maker's accuracy is 10 % at worst and depends on the range; half of that as a standard uncertainty, assumed."""

SCALE = Scale(volt_count=0.001, amp_count=1e-7, watt_count=0.0, max_volts=5.5, max_amps=1.1)
START, STOP, POWER, SET_MV, MODE, METADATA = 0x06, 0x07, 0x0C, 0x0D, 0x11, 0x19
AMMETER, SOURCE = 1, 2
MIN_MV, MAX_MV = 800, 5000
TEXT_S = 3.0


class Ppk2Source(StreamingMeter):
    """One kit."""

    def __init__(self, name: str, port: str, *, mv: int, supplies: bool, clock: Clock = time.monotonic) -> None:
        super().__init__(
            name,
            lambda: SerialLink(port, BAUD),
            SCALE,
            volts=mv / 1000,
            rate_hz=RATE_HZ,
            clock=clock,
            covers=("everything behind the kit",),
            excludes=() if supplies else ("power supply",),
            gain_u=GAIN_U,
            params={"volts": mv / 1000, "supplies": supplies},
        )
        self._mv = mv
        self._supplies = supplies
        self._decoder = Ppk2Decoder()
        self._calibration = Calibration()

    def _begin(self, link: Link) -> None:
        link.write(bytes([STOP]))
        self._drain(link)
        link.write(bytes([METADATA]))
        text = b""
        deadline_s = self._clock() + TEXT_S
        while b"END" not in text and self._clock() < deadline_s and not self._stop.is_set():
            text += link.read()
        try:
            self._calibration = decode_calibration(text)
        except Ppk2Error as error:
            raise SilentError(f"no calibration came: {error}") from error
        constants = repr(sorted(self._calibration.constants.items())).encode()
        # the kit sends no serial number, but its own calibration
        self._identify(
            {
                "model": "PPK2",
                "calibration_constants": self._calibration.reported,
                "calibration_sha256": hashlib.sha256(constants).hexdigest(),
            }
        )
        link.write(bytes([MODE, SOURCE if self._supplies else AMMETER]))
        link.write(bytes([SET_MV]) + self._mv.to_bytes(2, "big"))
        link.write(bytes([POWER, 1]))
        self._decoder.reset()
        self._restart()
        link.write(bytes([START]))

    def _step(self, link: Link) -> None:
        data = link.read()
        arrived_s = self._clock()
        samples = self._decoder.feed(data)
        if not len(samples):
            return
        self._decoder.index += self._arrived(int(samples.index[-1]), arrived_s)
        amps = self._calibration.amps(samples, self.volts)
        # where samples were lost a new run begins
        for run in np.split(np.arange(len(samples)), np.flatnonzero(np.diff(samples.index) != 1) + 1):
            self._add(int(samples.index[run[0]]), amps[run].tolist(), arrived_s)

    def _end(self, link: Link) -> None:
        link.write(bytes([STOP]))
        self._drain(link)

    def _lost(self) -> int:
        return (self._decoder.lost + self._missing) // self.block

    def _bad(self) -> int:
        return self._decoder.bad


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the port can be opened; whether the kit answers shows when it is."""
    values = numbers("ppk2", params, {"supply_mv": 0, "source_mv": 0})
    barred = check_port("ppk2", argument)
    if barred is not None:
        return barred
    mv = int(values["supply_mv"] or values["source_mv"])
    if bool(values["supply_mv"]) == bool(values["source_mv"]) or not MIN_MV <= mv <= MAX_MV:
        raise UnknownSourceError(
            f"ppk2: give either supply_mv (ammeter) or source_mv (it supplies the target), {MIN_MV} to {MAX_MV}"
        )
    source = Ppk2Source(full_name("ppk2", argument, params), argument, mv=mv, supplies=bool(values["source_mv"]))
    return Found(source, f"a PPK2 should be on {argument}")
