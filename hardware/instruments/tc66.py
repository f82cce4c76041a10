"""tc66: the frames of a RuiDeng TC66 or TC66C.

``getva`` from the host, 192 bytes back: three blocks of 64 little-endian bytes named pac1, pac2 and pac3, each with
a CRC-16/MODBUS of its own, all of it under AES-256-ECB with the one key that every such meter has. The layout is the
one that the public decoders agree on, checked against a captured reply.
"""

from __future__ import annotations

import struct
from typing import Any

from hardware.instruments.frontend import Reading
from hardware.instruments.instrument import Instrument

KEY = bytes.fromhex("5821fa5601b2f02687ff1204622a4fb086f40260816f9a0ba7f106619ab87288")
J_PER_MWH = 3.6
REPLY_S = 0.02


def crc16_modbus(data: bytes | bytearray) -> int:
    """CRC-16 of the Modbus serial line specification: start 0xFFFF, polynomial 0xA001 reflected."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def plain(*, voltage_v: float, current_a: float, power_w: float, mah: int, mwh: int, serial: int = 48724) -> bytes:
    """The three blocks before encryption."""
    resistance = min(round(voltage_v / max(current_a, 1e-4) * 10), 9_999_999)
    one, two, three = bytearray(60), bytearray(60), bytearray(60)
    struct.pack_into("<4s4s4sI", one, 0, b"pac1", b"TC66", b"1.18", serial)
    struct.pack_into("<IIII", one, 44, 40, round(voltage_v * 1e4), round(current_a * 1e5), round(power_w * 1e4))
    struct.pack_into("<4sIII", two, 0, b"pac2", resistance, mah, mwh)
    struct.pack_into("<IIII", two, 24, 0, 27, 281, 280)
    struct.pack_into("<4s", three, 0, b"pac3")
    return b"".join(bytes(block) + struct.pack("<I", crc16_modbus(block)) for block in (one, two, three))


def encode(reading: Reading) -> bytes:
    """The 192 bytes of a reply."""
    mwh = int(reading.energy_j / J_PER_MWH) % 2**32
    return encrypt(
        plain(
            voltage_v=reading.voltage_v,
            current_a=max(0.0, reading.current_a),
            power_w=max(0.0, reading.power_w),
            mah=int(mwh / max(reading.voltage_v, 1.0)),
            mwh=mwh,
        ),
    )


def encrypt(data: bytes) -> bytes:
    """AES in ECB mode, as the meter does it."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return bytes(Cipher(algorithms.AES(KEY), modes.ECB()).encryptor().update(data))


class Tc66(Instrument):
    """Answers ``getva`` with a reply and ``query`` with ``firm``."""

    counter_wraps_at_j = 2**32 * J_PER_MWH

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heard = b""

    def feed(self, now_s: float, data: bytes) -> None:
        self._heard = (self._heard + data)[-64:]
        while True:
            at = {word: self._heard.find(word) for word in (b"getva", b"query")}
            known = [(place, word) for word, place in at.items() if place >= 0]
            if not known:
                return
            place, word = min(known)
            self._heard = self._heard[place + len(word) :]
            self.put(now_s, REPLY_S, b"firm" if word == b"query" else encode(self.read(now_s)))
