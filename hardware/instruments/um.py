"""um: the frames of a RuiDeng UM24C, UM25C or UM34C.

One byte 0xF0 from the host, 130 bytes back, big-endian. The layout is the one that rdserialtool and libsigrok's
``rdtech-um`` agree on, checked against a captured reply of a UM24C.
"""

from __future__ import annotations

import struct
from functools import reduce
from operator import xor

from hardware.instruments.frontend import Reading
from hardware.instruments.instrument import Instrument

J_PER_MWH = 3.6
REPLY_S = 0.03
"""The 130 bytes at 9600 baud take longer, but the line is Bluetooth or USB, where the baud rate means nothing."""

MODELS: dict[str, tuple[int, float, float]] = {
    "um24c": (0x0963, 0.01, 0.001),
    "um25c": (0x09C9, 0.001, 0.0001),
    "um34c": (0x0D4C, 0.01, 0.001),
}
"""Number on the wire, V per count, A per count."""

# fmt: off
UM34C_CHECKED = (
    1, 3, 7, 9, 15, 17, 19, 23, 31, 39, 41, 45, 49, 53, 55, 57, 59, 63, 67, 69, 73, 79, 83, 89, 97, 99, 109, 111,
    113, 119, 121, 127,
)
# fmt: on


def encode(reading: Reading, model: str = "um25c") -> bytes:
    """The 130 bytes of a reply. The meter multiplies its rounded volts and amperes, and so does this."""
    number, volts, amperes = MODELS[model]
    voltage = round(reading.voltage_v / volts)
    current = max(0, round(reading.current_a / amperes))
    power_mw = round(voltage * volts * current * amperes * 1000)
    mwh = int(reading.energy_j / J_PER_MWH) % 2**32
    mah = int(mwh / max(reading.voltage_v, 1.0))
    frame = bytearray(130)
    struct.pack_into(">HHHIHHH", frame, 0, number, voltage, current, power_mw, 25, 77, 0)
    struct.pack_into(">II", frame, 16, mah, mwh)
    resistance = round(voltage * volts / max(current * amperes, 1e-4) * 10)
    struct.pack_into(">I", frame, 122, min(resistance, 9_999_999))
    struct.pack_into(">H", frame, 128, 0xFFF1)
    if model == "um34c":
        frame[128] = 0
        frame[129] = reduce(xor, (frame[i] for i in UM34C_CHECKED))
    return bytes(frame)


class Um(Instrument):
    """Answers 0xF0 and nothing else."""

    counter_wraps_at_j = 2**32 * J_PER_MWH
    model = "um25c"

    def feed(self, now_s: float, data: bytes) -> None:
        for byte in data:
            if byte == 0xF0:
                self.put(now_s, REPLY_S, encode(self.read(now_s), self.model))


class Um24c(Um):
    model = "um24c"


class Um34c(Um):
    model = "um34c"
