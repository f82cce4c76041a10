"""um: the frames of a RuiDeng UM24C, UM25C or UM34C.

One byte 0xF0 from the host, 130 bytes back, big-endian. The layout is the one that rdserialtool and libsigrok's
``rdtech-um`` agree on, checked against a captured reply of a UM24C.
"""

from __future__ import annotations

import struct
from functools import reduce
from operator import xor

from hardware.instruments.instrument import Instrument, Reading
from hardware.wire.reading import JOULES_PER_MWH
from hardware.wire.um import CHECKED_BYTES, MODELS

REPLY_S = 0.03
"""The 130 bytes at 9600 baud take longer, but the line is Bluetooth or USB, where the baud rate means nothing."""

NUMBERS = {model.name: number for number, model in MODELS.items()}


def encode(reading: Reading, model: str = "um25c") -> bytes:
    """The 130 bytes of a reply. The meter multiplies its rounded volts and amperes, and so does this."""
    number = NUMBERS[model]
    volts, amperes = 1 / MODELS[number].volts_per, 1 / MODELS[number].amps_per
    voltage = round(reading.voltage_v / volts)
    current = max(0, round(reading.current_a / amperes))
    power_mw = round(voltage * volts * current * amperes * 1000)
    mwh = int(reading.energy_j / JOULES_PER_MWH) % 2**32
    mah = int(mwh / max(reading.voltage_v, 1.0))
    frame = bytearray(130)
    struct.pack_into(">HHHIHHH", frame, 0, number, voltage, current, power_mw, 25, 77, 0)
    struct.pack_into(">II", frame, 16, mah, mwh)
    resistance = round(voltage * volts / max(current * amperes, 1e-4) * 10)
    struct.pack_into(">I", frame, 122, min(resistance, 9_999_999))
    struct.pack_into(">H", frame, 128, 0xFFF1)
    if model == "um34c":
        frame[128] = 0
        frame[129] = reduce(xor, (frame[i] for i in CHECKED_BYTES))
    return bytes(frame)


class Um(Instrument):
    """Answers 0xF0 and nothing else."""

    counter_wraps_at_j = 2**32 * JOULES_PER_MWH
    model = "um25c"

    def feed(self, now_s: float, data: bytes) -> None:
        for byte in data:
            if byte == 0xF0:
                self.put(now_s, REPLY_S, encode(self.read(now_s), self.model))


class Um24c(Um):
    model = "um24c"


class Um34c(Um):
    model = "um34c"
