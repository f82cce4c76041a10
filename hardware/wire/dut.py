r"""Lines of a device under test (DUT) that speaks the serial protocol of MLPerf Tiny, without a port.

A command is ASCII words that end with ``%``; replies are lines that end with CR LF: ``m-`` a message, ``e-[...]`` an
error, and ``m-ready`` ends every reply. Protocol: mlcommons/tiny 1afd2c9, benchmark/api.

| line | meaning |
|---|---|
| ``m-lap-us-1234`` | the board's timer, microseconds, modulo 2^32 |
| ``m-buffer-00-ff-a1`` | bytes of the input buffer, eight a line |
| ``m-results-[0.1,0.9,]`` | outputs; the list may end with a comma |
| ``[dut]: m-ready`` | the same through the interface board, which answered ``m-dut-passthrough(CMD)`` first |
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from hardware.wire.reading import WireError

READY = "m-ready"
MAX_COMMAND = 80
"""Characters that the reference firmware keeps of a command."""

MAX_UPLOAD = 27648
"""Bytes of the reference firmware's input buffer."""

PIECE, PIECE_PASSED = 31, 26
"""Bytes that fit one ``db`` command: to the board itself, and through the interface board."""

MAX_LINE = 65536
MAX_RESULTS = 10_000
LAP_WRAPS_US = 2**32

_WORD = re.compile(r"[!-$&-~]{1,70}")
_RESULTS = re.compile(r"m-results-\[(.*)\]")
_BUFFER = re.compile(r"m-buffer((?:-[0-9a-fA-F]{2})+)")
_LAP = re.compile(r"m-lap-us-([0-9]{1,10})")
_FLOAT = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{0,15})?(?:e[+-]?[0-9]{1,3})?")
_PASSED = "[dut]: "


class DutError(WireError):
    """The board answered with an error, with what is no answer, or not at all."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a reply, without its end, and when its last byte arrived, s."""

    text: str
    t_s: float


class Lines:
    """Bytes of a port -> lines. What is no text is shown as ``\\xNN``; a line without an end is cut at `MAX_LINE`."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, t_s: float) -> list[Line]:
        """The lines that these bytes complete.

        Raises:
            DutError: more than `MAX_LINE` bytes without the end of a line.
        """
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE or any(len(one) > MAX_LINE for one in whole):
            self._rest = b""
            raise DutError(f"over {MAX_LINE} bytes without the end of a line")
        texts = (one.rstrip(b"\r").decode("ascii", "backslashreplace") for one in whole)
        return [Line(text, t_s) for text in texts if text]

    def clear(self) -> None:
        """Forget a line that has begun."""
        self._rest = b""


def encode(command: str, *, passed: bool = False, longest: int = MAX_COMMAND) -> bytes:
    """A command as bytes.

    Args:
        passed: it goes through the interface board.
        longest: characters that the board takes, with the ``%``.

    Raises:
        DutError: it is empty, holds ``%`` or what is no printable ASCII, or is too long. A bare ``%`` crashes the
            reference firmware.
    """
    words = command.split(" ")
    whole = f"dut {command}%" if passed else f"{command}%"
    if not command or not all(_WORD.fullmatch(word[:70]) and word.isascii() and "%" not in word for word in words):
        raise DutError(f"no command: {command[:40]!r}")
    if len(whole) > longest:
        raise DutError(f"{command[:40]!r} has {len(whole)} characters; the board takes {longest}")
    return whole.encode("ascii")


def own_text(line: str, command: str, *, passed: bool) -> str | None:
    """What the board itself said in a line: without the interface board's prefix, and without an echo of the command.

    Returns:
        None for a line of the interface board.
    """
    if passed:
        if not line.startswith(_PASSED):
            return None
        line = line.removeprefix(_PASSED)
    return line.removeprefix(f"{command}%")


def lap_us(text: str) -> int | None:
    """The time of a lap line, None for another line.

    Raises:
        DutError: it is one, and its number is none of 32 bits.
    """
    if not text.startswith("m-lap-us-"):
        return None
    match = _LAP.fullmatch(text)
    if match is None or int(match[1]) >= LAP_WRAPS_US:
        raise DutError(f"no lap: {text[:60]!r}")
    return int(match[1])


def lap_s(first_us: int, second_us: int) -> float:
    """Seconds from one lap to another, less than 71 minutes later: the timer wraps at 2^32 us."""
    return ((second_us - first_us) % LAP_WRAPS_US) / 1e6


def results(text: str) -> list[float] | None:
    """The numbers of a results line, None for another line.

    Raises:
        DutError: it is one, and holds what is no finite number, or none, or more than `MAX_RESULTS`.
    """
    if not text.startswith("m-results"):
        return None
    match = _RESULTS.fullmatch(text)
    words = match[1].removesuffix(",").split(",") if match else []
    if not match or len(words) > MAX_RESULTS or not all(_FLOAT.fullmatch(word.strip(" ")) for word in words):
        raise DutError(f"no list of results: {text[:60]!r}")
    numbers = [float(word) for word in words]
    if not all(map(math.isfinite, numbers)):
        raise DutError(f"results that are not finite: {text[:60]!r}")
    return numbers


def buffer(text: str) -> bytes | None:
    """The bytes of a buffer line, None for another line.

    Raises:
        DutError: it is one, and holds what is no pair of hexadecimal digits.
    """
    if not text.startswith("m-buffer"):
        return None
    match = _BUFFER.fullmatch(text)
    if match is None:
        raise DutError(f"no bytes: {text[:60]!r}")
    return bytes.fromhex(match[1].replace("-", ""))
