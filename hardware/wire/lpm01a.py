"""ST X-NUCLEO-LPM01A: the streams of the PowerShield firmware, as text and in binary.

Text (``format ascii_dec``, up to 10 kHz): one line a sample, four digits and a decimal exponent: ``6409-07`` is
6409e-7 A and ``0012+00`` is 12 A. In between stand ``TimeStamp: 1s 250ms, buff 3%``, ``end``, and messages.

Binary (``format bin_hexa``, up to 100 kHz): two bytes a sample, big-endian, exponent n in the upper 4 bits and v in
the other 12: v / 16^n A. n = 15 does not occur, so 0xF0 begins something else, which ends in ``FF FF``:

| bytes | meaning |
|---|---|
| F0 F1, F0 F2, text | error, information |
| F0 F3, 4 + 1 bytes | time in ms (the top bit is an overflow mark), fill of the buffer in % |
| F0 F4, F0 F5, F0 F6 | end of the acquisition, overcurrent, target switched off |
| F0 F7, 2 bytes | supply in mV |

The voltage is not in the stream of samples: it is what was set, and the power is its product with the current.

As UM2269 describes them and LPM01A-lib and EnergyRunner-era scripts read them. Written against the documented
protocol; no stream of a real LPM01A was at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hardware.wire.reading import WireError

MAX_LINE_BYTES = 200
MAX_TEXT_BYTES = 250

Kind = Literal["current", "time", "voltage", "end", "overcurrent", "power_down", "error", "message"]

_SAMPLE = re.compile(r"([0-9]{4})([+-][0-9]{2})")
_TIME = re.compile(r"TimeStamp:\s*([0-9]{1,9})s\s*([0-9]{1,3})ms", re.IGNORECASE)
_END = b"\xff\xff"
_KINDS: dict[int, Kind] = {
    0xF1: "error",
    0xF2: "message",
    0xF3: "time",
    0xF4: "end",
    0xF5: "overcurrent",
    0xF6: "power_down",
    0xF7: "voltage",
}
_BODY_BYTES = {0xF3: 5, 0xF4: 0, 0xF5: 0, 0xF6: 0, 0xF7: 2}


class Lpm01aError(WireError):
    """Neither a sample nor anything else that the board sends."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing from the stream; ``value`` is A for a current, s for a time, V for a voltage."""

    kind: Kind
    value: float = 0.0
    text: str = ""


def decode_line(line: str) -> Item:
    """Read one line of the text format.

    Raises:
        Lpm01aError: it begins with a digit, but is no sample.
    """
    match = _SAMPLE.fullmatch(line)
    if match is not None:
        return Item("current", float(f"{match[1]}e{match[2]}"))
    if line[:1].isdigit():
        raise Lpm01aError(f"{line!r} is no sample such as 6409-07")
    time = _TIME.search(line)
    if time is not None:
        return Item("time", int(time[1]) + int(time[2]) / 1000)
    if line == "end" or "Acquisition completed" in line:
        return Item("end", text=line)
    if line.startswith("error") or " err " in line:
        return Item("overcurrent" if "overcurrent" in line.lower() else "error", text=line)
    return Item("message", text=line)


def decode_sample(pair: bytes) -> Item:
    """Read one sample of the binary format.

    Raises:
        Lpm01aError: not 2 bytes, or the reserved exponent 15.
    """
    if len(pair) != 2 or pair[0] >= 0xF0:
        raise Lpm01aError(f"{pair.hex() or 'nothing'} is no sample")
    word = int.from_bytes(pair, "big")
    return Item("current", (word & 0xFFF) / 16 ** (word >> 12))


class TextDecoder:
    """Items from the text format.

    Attributes:
        bad: lines that look like a sample and are none, or are too long.
    """

    def __init__(self) -> None:
        self.bad = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Item]:
        """What these bytes complete, in order."""
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest[: MAX_LINE_BYTES + 2]
        items: list[Item] = []
        for raw in lines:
            line = raw.decode("ascii", errors="replace").strip()
            try:
                if len(raw) > MAX_LINE_BYTES:
                    raise Lpm01aError("too long")
                items += [decode_line(line)] if line else []
            except Lpm01aError:
                self.bad += 1
        return items


class BinaryDecoder:
    """Items from the binary format. What can be neither is dropped byte by byte.

    Attributes:
        bad: runs of bytes that can be nothing.
    """

    def __init__(self) -> None:
        self.bad = 0
        self._buffer = bytearray()
        self._lost = False

    def feed(self, data: bytes) -> list[Item]:
        """What these bytes complete, in order."""
        self._buffer += data
        items: list[Item] = []
        start = 0
        while len(self._buffer) - start >= 2:
            try:
                taken, item = self._take(start)
            except Lpm01aError:
                start += 1
                self.bad += not self._lost
                self._lost = True
                continue
            if not taken:
                break
            start += taken
            items += [item] if item else []
            self._lost = False
        del self._buffer[:start]
        return items

    def _take(self, start: int) -> tuple[int, Item | None]:
        """How many bytes the item at start has, 0 while they are not all there, and the item."""
        buffer = self._buffer
        if buffer[start] < 0xF0:
            return 2, decode_sample(bytes(buffer[start : start + 2]))
        mark = buffer[start + 1]
        kind = _KINDS.get(mark)
        if buffer[start] != 0xF0 or kind is None:
            raise Lpm01aError("no item begins like this")
        body = start + 2
        end = body + _BODY_BYTES[mark] if mark in _BODY_BYTES else buffer.find(_END, body, body + MAX_TEXT_BYTES)
        if end < 0 and len(buffer) - body >= MAX_TEXT_BYTES:
            raise Lpm01aError("a text without end")
        if end < 0 or len(buffer) < end + 2:
            return 0, None
        if bytes(buffer[end : end + 2]) != _END:
            raise Lpm01aError("it does not end in FF FF")
        return end + 2 - start, _item(kind, bytes(buffer[body:end]))


def _item(kind: Kind, body: bytes) -> Item:
    if kind == "time":
        return Item(kind, (int.from_bytes(body[:4], "big") & 0x7FFF_FFFF) / 1000)
    if kind == "voltage":
        return Item(kind, int.from_bytes(body, "big") / 1000)
    return Item(kind, text=body.decode("ascii", errors="replace").strip())
