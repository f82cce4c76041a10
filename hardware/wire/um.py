"""RDTech UM24C, UM25C and UM34C: the 130 bytes that they answer to the one byte 0xF0.

Big-endian. Bytes 0-1 name the model, which sets the scale of volts and amperes; everything else is laid out alike:

| offset | size | field |
|---|---|---|
| 0 | 2 | model: 0x0963 UM24C, 0x09C9 UM25C, 0x0D4C UM34C |
| 2, 4, 6 | 2, 2, 4 | volts (10 mV, UM25C 1 mV), amperes (1 mA, UM25C 0.1 mA), watts (1 mW) |
| 10, 12, 14 | 2 each | temperature in degC and degF, selected data group |
| 16 + 8i | 4 + 4 | data group i, 0-9: mAh, mWh |
| 96, 98, 100 | 2 each | D+ and D- (10 mV), charge mode |
| 102, 106, 110 | 4, 4, 2 | recorded mAh, mWh, threshold (10 mA) |
| 112, 116 | 4, 2 | recorded seconds, recording or not |
| 118, 120 | 2 each | screen timeout in min, backlight 0-5 |
| 122, 126 | 4, 2 | load resistance (0.1 ohm), screen |
| 128 | 2 | 0xFFF1; on the UM34C its second byte is a checksum instead |

Layout and scales as rd-usb, rdserialtool and libsigrok's rdtech-um driver agree on them; the checksum as libsigrok
has it. Checked against a reply of a real UM24C; no reply of a real UM25C or UM34C was at hand.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import reduce
from operator import xor

from hardware.wire.reading import JOULES_PER_MWH, FrameDecoder, Reading, Scale, WireError

REQUEST = b"\xf0"
FRAME_BYTES = 130
END_MARK = b"\xff\xf1"
GROUPS = 10

CHECKED_BYTES = (
    *(1, 3, 7, 9, 15, 17, 19, 23, 31, 39, 41, 45, 49, 53, 55, 57, 59, 63, 67, 69, 73, 79, 83, 89, 97, 99),
    *(109, 111, 113, 119, 121, 127),
)
"""The UM34C's byte 129 is the exclusive or of these."""

_FIELDS = struct.Struct(">HHHIHHH20IHHHIIHIHHHIH2s")


@dataclass(frozen=True, slots=True)
class Model:
    """One of the three meters. 24 V and the largest currents are the makers' limits, with a tenth to spare."""

    name: str
    volts_per: int
    amps_per: int
    max_amps: float

    @property
    def scale(self) -> Scale:
        return Scale(
            volt_count=1 / self.volts_per,
            amp_count=1 / self.amps_per,
            watt_count=0.001,
            max_volts=26.4,
            max_amps=self.max_amps,
        )


MODELS = {
    0x0963: Model("um24c", 100, 1000, 3.3),
    0x09C9: Model("um25c", 1000, 10_000, 5.5),
    0x0D4C: Model("um34c", 100, 1000, 4.4),
}


class UmError(WireError):
    """Not a reply of a UM meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UmFrame:
    """One reply. Names say the units; groups are (mAh, mWh)."""

    model: Model
    volts: float
    amps: float
    watts: float
    temperature_c: int
    temperature_f: int
    group: int
    groups: tuple[tuple[int, int], ...]
    d_plus_v: float
    d_minus_v: float
    charge_mode: int
    recorded_mah: int
    recorded_mwh: int
    record_threshold_a: float
    recorded_s: int
    recording: bool
    screen_timeout_min: int
    backlight: int
    resistance_ohm: float
    screen: int

    @property
    def reading(self) -> Reading:
        """The frame as any meter's reading.

        The counter is the sum of all groups: only the selected one moves, so selecting another one changes nothing.
        """
        energy_j = sum(mwh for _, mwh in self.groups) * JOULES_PER_MWH
        return Reading(volts=self.volts, amps=self.amps, watts=self.watts, energy_j=energy_j)


def decode(frame: bytes) -> UmFrame:
    """Read one whole frame.

    Raises:
        UmError: not 130 bytes, no known model, or a wrong end mark or checksum.
    """
    if len(frame) != FRAME_BYTES:
        raise UmError(f"{len(frame)} bytes, expected {FRAME_BYTES}")
    fields = _FIELDS.unpack(frame)
    model = MODELS.get(fields[0])
    if model is None:
        raise UmError(f"no UM meter has the model number 0x{fields[0]:04X}")
    if model.name == "um34c":
        checksum = reduce(xor, (frame[i] for i in CHECKED_BYTES))
        if frame[129] != checksum:
            raise UmError(f"the checksum is 0x{frame[129]:02X}, expected 0x{checksum:02X}")
    elif fields[-1] != END_MARK:
        raise UmError(f"it ends in {fields[-1].hex()}, expected {END_MARK.hex()}")
    counts = fields[7 : 7 + 2 * GROUPS]
    rest = fields[7 + 2 * GROUPS :]
    return UmFrame(
        model=model,
        # integers divided, never multiplied by 0.001: 502 / 100 is the double nearest to 5.02
        volts=fields[1] / model.volts_per,
        amps=fields[2] / model.amps_per,
        watts=fields[3] / 1000,
        temperature_c=fields[4],
        temperature_f=fields[5],
        group=fields[6],
        groups=tuple(zip(counts[::2], counts[1::2], strict=True)),
        d_plus_v=rest[0] / 100,
        d_minus_v=rest[1] / 100,
        charge_mode=rest[2],
        recorded_mah=rest[3],
        recorded_mwh=rest[4],
        record_threshold_a=rest[5] / 100,
        recorded_s=rest[6],
        recording=bool(rest[7]),
        screen_timeout_min=rest[8],
        backlight=rest[9],
        resistance_ohm=rest[10] / 10,
        screen=rest[11],
    )


class UmDecoder(FrameDecoder[UmFrame]):
    """Replies from a stream of bytes."""

    head_bytes, frame_bytes = 2, FRAME_BYTES

    def _begins(self, head: bytes) -> bool:
        return int.from_bytes(head, "big") in MODELS

    def _decode(self, frame: bytes) -> UmFrame:
        return decode(frame)
