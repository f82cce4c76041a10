"""RDTech TC66 and TC66C: the 192 encrypted bytes that they answer to ``getva`` over USB.

The reply is AES-256 in ECB mode, always with the same key, so the cipher hides nothing and is only a step of
decoding. The plain text is three blocks of 64 bytes, little-endian, that begin with ``pac1``, ``pac2`` and ``pac3``;
they are found by name, since one public tool sees them out of order. The last 4 bytes of a block are the
CRC-16/MODBUS of the other 60:

| block | offset | field |
|---|---|---|
| pac1 | 4, 8 | product and firmware, 4 characters each |
| pac1 | 12, 44 | serial number, number of runs |
| pac1 | 48, 52, 56 | volts (0.1 mV), amperes (10 uA), watts (0.1 mW) |
| pac2 | 4 | load resistance (0.1 ohm; volts over amperes in a real reply confirm the scale) |
| pac2 | 8, 12, 16, 20 | mAh and mWh of group 0, then of group 1 |
| pac2 | 24, 28 | temperature: 1 when below zero, degC |
| pac2 | 32, 36 | D+, D- (10 mV) |

Every number is 4 bytes. Key and layout as tc66c2mqtt, tc66c-toolkit, TheHWcave/TC66 and rd-usb agree on them; checked
against a reply of a real TC66C.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from hardware.wire.crc import crc16_modbus
from hardware.wire.reading import JOULES_PER_MWH, FrameDecoder, Reading, Scale, WireError

REQUEST = b"getva"
FRAME_BYTES = 192
BLOCK_BYTES = 64
BLOCKS = (b"pac1", b"pac2", b"pac3")
CIPHER_BYTES = 16
KEY = bytes.fromhex("5821fa5601b2f02687ff1204622a4fb086f40260816f9a0ba7f106619ab87288")

SCALE = Scale(volt_count=1e-4, amp_count=1e-5, watt_count=1e-4, max_volts=26.4, max_amps=5.5)
"""24 V and 5 A are the maker's limits; a tenth to spare."""

_U32 = struct.Struct("<I")


class Tc66Error(WireError):
    """Not a reply of a TC66."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tc66Frame:
    """One reply. Names say the units; groups are (mAh, mWh)."""

    product: str
    firmware: str
    serial: int
    runs: int
    volts: float
    amps: float
    watts: float
    resistance_ohm: float
    groups: tuple[tuple[int, int], ...]
    temperature_c: int
    d_plus_v: float
    d_minus_v: float

    @property
    def reading(self) -> Reading:
        """The frame as any meter's reading. The counter is the sum of both groups, of which one moves at a time."""
        energy_j = sum(mwh for _, mwh in self.groups) * JOULES_PER_MWH
        return Reading(volts=self.volts, amps=self.amps, watts=self.watts, energy_j=energy_j)


def decrypt(data: bytes, key: bytes = KEY) -> bytes:
    """AES in ECB mode, whole blocks of 16 bytes, no padding."""
    return bytes(_cipher(key).decryptor().update(data))


def encrypt(data: bytes, key: bytes = KEY) -> bytes:
    """The inverse of `decrypt`, for simulated meters and tests."""
    return bytes(_cipher(key).encryptor().update(data))


def decode(frame: bytes) -> Tc66Frame:
    """Decrypt and read one whole reply.

    Raises:
        Tc66Error: not 192 bytes, a block missing, or a wrong checksum.
    """
    if len(frame) != FRAME_BYTES:
        raise Tc66Error(f"{len(frame)} bytes, expected {FRAME_BYTES}")
    plain = decrypt(frame)
    blocks: dict[bytes, bytes] = {}
    for start in range(0, FRAME_BYTES, BLOCK_BYTES):
        block = plain[start : start + BLOCK_BYTES]
        name, found, expected = block[:4], _u32(block, 60), crc16_modbus(block[:60])
        if name in BLOCKS and found != expected:
            raise Tc66Error(f"the checksum of {name.decode()} is 0x{found:X}, expected 0x{expected:X}")
        blocks[name] = block
    if set(blocks) != set(BLOCKS):
        raise Tc66Error("it does not decrypt to pac1, pac2 and pac3")
    one, two = blocks[b"pac1"], blocks[b"pac2"]
    return Tc66Frame(
        product=one[4:8].decode("latin-1"),
        firmware=one[8:12].decode("latin-1"),
        serial=_u32(one, 12),
        runs=_u32(one, 44),
        volts=_u32(one, 48) / 10_000,
        amps=_u32(one, 52) / 100_000,
        watts=_u32(one, 56) / 10_000,
        resistance_ohm=_u32(two, 4) / 10,
        groups=((_u32(two, 8), _u32(two, 12)), (_u32(two, 16), _u32(two, 20))),
        temperature_c=-_u32(two, 28) if _u32(two, 24) == 1 else _u32(two, 28),
        d_plus_v=_u32(two, 32) / 100,
        d_minus_v=_u32(two, 36) / 100,
    )


class Tc66Decoder(FrameDecoder[Tc66Frame]):
    """Replies from a stream of bytes. One block of the cipher tells whether a reply can begin there."""

    head_bytes, frame_bytes = CIPHER_BYTES, FRAME_BYTES

    def _begins(self, head: bytes) -> bool:
        return decrypt(head)[:4] in BLOCKS

    def _decode(self, frame: bytes) -> Tc66Frame:
        return decode(frame)


@cache
def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(key), modes.ECB())


def _u32(block: bytes, offset: int) -> int:
    return int(_U32.unpack_from(block, offset)[0])
