"""FNIRSI FNB48, FNB58 and C1: the 64-byte reports of their USB HID interface.

Commands are ``AA``, a number, 61 zero bytes and a checksum (`hardware.wire.crc.crc8_fnirsi` of bytes 1-62 in byte
63). A report is data when it begins with ``AA 04``; four samples of 15 bytes follow from byte 2, little-endian:

| offset | size | field |
|---|---|---|
| 0, 4 | 4 each | volts, amperes (10 uV, 10 uA) |
| 8, 10 | 2 each | D+, D- (1 mV) |
| 12 | 1 | unknown, always 1 |
| 13 | 2 | temperature (0.1 degC) |

The meter sends no time, no counter and no watts, nominally 100 samples a second. So samples are counted, and the
count is the meter's clock; `hardware.meters.clockfit` sets it against ours. The first report after a start may be
garbage (188.7 V was seen) and is dropped.

Layout, commands and checksum as fnirsi-usb-power-data-logger has them; the checksum was checked on three of its
commands. No data report of a real meter was at hand.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hardware.wire.crc import crc8_fnirsi
from hardware.wire.reading import Reading, Scale, WireError

REPORT_BYTES = 64
SAMPLE_BYTES = 15
SAMPLES = 4
PERIOD_S = 0.01
DATA = 0x04

START = 0x81
ASK = 0x82
GO_ON = 0x83

SCALE = Scale(volt_count=1e-5, amp_count=1e-5, watt_count=0.0, max_volts=132.0, max_amps=13.2)
"""120 V and 12 A are the FNB58's limits, the largest of the family; a tenth to spare."""

_SAMPLE = struct.Struct("<IIHHBH")


class FnirsiError(WireError):
    """Not a data report of a FNIRSI meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FnirsiSample:
    """One of the four samples of a report."""

    volts: float
    amps: float
    d_plus_v: float
    d_minus_v: float
    temperature_c: float


def command(number: int) -> bytes:
    """The 64 bytes of a command."""
    body = bytes([number]) + bytes(REPORT_BYTES - 3)
    return b"\xaa" + body + bytes([crc8_fnirsi(body)])


def decode(report: bytes) -> tuple[FnirsiSample, ...]:
    """Read one data report.

    Raises:
        FnirsiError: not 64 bytes, another kind of report, or a wrong checksum.
    """
    if len(report) != REPORT_BYTES:
        raise FnirsiError(f"{len(report)} bytes, expected {REPORT_BYTES}")
    if report[0] != 0xAA or report[1] != DATA:
        raise FnirsiError(f"it begins with {report[:2].hex()}, expected aa04")
    expected = crc8_fnirsi(report[1:63])
    if report[63] != expected:
        raise FnirsiError(f"the checksum is 0x{report[63]:02X}, expected 0x{expected:02X}")
    samples = []
    for index in range(SAMPLES):
        volts, amps, plus, minus, _, tenths = _SAMPLE.unpack_from(report, 2 + index * SAMPLE_BYTES)
        samples.append(
            FnirsiSample(
                volts=volts / 100_000,
                amps=amps / 100_000,
                d_plus_v=plus / 1000,
                d_minus_v=minus / 1000,
                temperature_c=tenths / 10,
            )
        )
    return tuple(samples)


class FnirsiDecoder:
    """Readings from reports, with the count of samples as their clock.

    Attributes:
        bad: data reports that were broken.
        count: samples so far; the source adds the lost ones that it learns of, so that the clock is right again.
    """

    def __init__(self) -> None:
        self.bad = 0
        self.count = 0
        self._settled = False

    def feed(self, report: bytes) -> list[Reading]:
        """The four readings of one report as the USB delivers it; none of another kind, the first, or a broken one."""
        if report[:1] != b"\xaa" or report[1:2] != bytes([DATA]):
            return []  # answers to commands; some models send other ones
        try:
            samples = decode(report)
        except FnirsiError:
            self.bad += 1
            # its time has passed all the same
            self.count += SAMPLES
            return []
        if not self._settled:
            self._settled = True
            return []
        readings = [
            Reading(
                volts=sample.volts,
                amps=sample.amps,
                watts=sample.volts * sample.amps,
                device_s=(self.count + index) * PERIOD_S,
            )
            for index, sample in enumerate(samples)
        ]
        self.count += SAMPLES
        return readings

    def reset(self) -> None:
        """Begin anew, e.g. because the connection is a new one."""
        self.count = 0
        self._settled = False
