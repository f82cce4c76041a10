"""tc66: the frames of a RuiDeng TC66 or TC66C.

``getva`` from the host, 192 bytes back: three blocks of 64 little-endian bytes named pac1, pac2 and pac3, each with
a CRC-16/MODBUS of its own, all of it under AES-256-ECB (`hardware.wire.tc66.encrypt`). The layout is the one that the
public decoders agree on, checked against a captured reply.
"""

from __future__ import annotations

import struct
from typing import Any

from hardware.instruments.instrument import Instrument, Reading
from hardware.wire.crc import crc16_modbus
from hardware.wire.reading import JOULES_PER_MWH
from hardware.wire.tc66 import encrypt

REPLY_S = 0.02


def plain(*, voltage_v: float, current_a: float, power_w: float, mah: int, mwh: int, serial: int = 48724) -> bytes:
    """The three blocks before encryption."""
    resistance = min(round(voltage_v / max(current_a, 1e-4) * 10), 9_999_999)
    one, two, three = bytearray(60), bytearray(60), bytearray(60)
    struct.pack_into("<4s4s4sI", one, 0, b"pac1", b"TC66", b"1.18", serial)
    struct.pack_into("<IIII", one, 44, 40, round(voltage_v * 1e4), round(current_a * 1e5), round(power_w * 1e4))
    struct.pack_into("<4sIII", two, 0, b"pac2", resistance, mah, mwh)
    struct.pack_into("<IIII", two, 24, 0, 27, 281, 280)
    struct.pack_into("<4s", three, 0, b"pac3")
    return b"".join(bytes(block) + struct.pack("<I", crc16_modbus(bytes(block))) for block in (one, two, three))


def encode(reading: Reading) -> bytes:
    """The 192 bytes of a reply."""
    mwh = int(reading.energy_j / JOULES_PER_MWH) % 2**32
    return encrypt(
        plain(
            voltage_v=reading.voltage_v,
            current_a=max(0.0, reading.current_a),
            power_w=max(0.0, reading.power_w),
            mah=int(mwh / max(reading.voltage_v, 1.0)),
            mwh=mwh,
        ),
    )


class Tc66(Instrument):
    """Answers ``getva`` with a reply and ``query`` with ``firm``."""

    counter_wraps_at_j = 2**32 * JOULES_PER_MWH

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received = b""

    def feed(self, now_s: float, data: bytes) -> None:
        self._received = (self._received + data)[-64:]
        while True:
            at = {word: self._received.find(word) for word in (b"getva", b"query")}
            known = [(place, word) for word, place in at.items() if place >= 0]
            if not known:
                return
            place, word = min(known)
            self._received = self._received[place + len(word) :]
            self.put(now_s, REPLY_S, b"firm" if word == b"query" else encode(self.read(now_s)))
