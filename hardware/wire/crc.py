"""Checksums that several meters share."""

from __future__ import annotations

import functools
from collections.abc import Callable


def crc16_modbus(data: bytes) -> int:
    """CRC-16/MODBUS: start 0xFFFF, reflected polynomial 0xA001, nothing added at the end. ``123456789`` -> 0x4B37."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _MODBUS[(crc ^ byte) & 0xFF]
    return crc


def crc8_fnirsi(data: bytes) -> int:
    """CRC-8 of FNIRSI's USB reports: start 0x42, polynomial 0x39, not reflected, nothing added at the end."""
    crc = 0x42
    for byte in data:
        crc = _FNIRSI[crc ^ byte]
    return crc


def _table(shifted: Callable[[int], int]) -> list[int]:
    """Shift each byte out bit by bit."""
    return [functools.reduce(lambda crc, _: shifted(crc), range(8), byte) for byte in range(256)]


_MODBUS = _table(lambda crc: (crc >> 1) ^ (0xA001 if crc & 1 else 0))
_FNIRSI = _table(lambda crc: ((crc << 1) & 0xFF) ^ (0x39 if crc & 0x80 else 0))
