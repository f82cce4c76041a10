"""Nordic Power Profiler Kit II: 4-byte samples, 100 000 a second, and the calibration that turns them into amperes.

A sample is a little-endian word: bits 0-13 the ADC (times 4), 14-16 the range (0-4), 18-23 a counter modulo 64, 24-31
the logic pins. The counter finds lost samples, and finds the frame again after a lost byte: a position is believed
where eight counters in a row go up by one. A loss of 64 samples or a multiple of it leaves the counter as it was;
only the clock shows it (`hardware.meters.clockfit`).

The current of range r is UG x (g x (GS x g + GI) + S x U + I), where g = (ADC - O) x 1.8 / 163840 / R and U is the
supply in volts. The constants, seven for each range, come as text in answer to one command, one ``R0: 1031.64`` a
line, up to ``END``; some units report ``-nan`` or 0 ohm, and then the default stands. The maker's program smooths the
first samples after a change of range; here they are left as they were measured.

Layout and formula as pc-nrfconnect-ppk and ppk2-api agree on them. Written against the documented protocol; no stream
of a real PPK2 was at hand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hardware.wire.reading import WireError

RATE_HZ = 100_000
SAMPLE_BYTES = 4
COUNTER_MODULO = 64
CONFIRM = 8
ADC_VOLTS = 1.8 / 163840
RANGES = 5

DEFAULTS: dict[str, tuple[float, ...]] = {
    "R": (1031.64, 101.65, 10.15, 0.94, 0.043),
    "GS": (1.0,) * RANGES,
    "GI": (1.0,) * RANGES,
    "O": (0.0,) * RANGES,
    "S": (0.0,) * RANGES,
    "I": (0.0,) * RANGES,
    "UG": (1.0,) * RANGES,
}
"""What holds for a constant that the device does not report. R is the shunt of each range, ohm."""

_LINE = re.compile(r"(R|GS|GI|O|S|I|UG)([0-4]):\s*(\S+)")


class Ppk2Error(WireError):
    """Not the calibration text of a PPK2, or not whole samples."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples in order, one array each.

    Attributes:
        index: number of the sample since the start, the lost ones counted too.
        adc: the converter's figure, already times 4.
        range: 0-4.
        logic: the eight pins, bit 0 is D0.
    """

    index: NDArray[np.int64]
    adc: NDArray[np.int64]
    range: NDArray[np.int64]
    logic: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Calibration:
    """The constants of one device, and how many of them it reported itself."""

    constants: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: dict(DEFAULTS))
    reported: int = 0

    def amps(self, samples: Samples, supply_v: float) -> NDArray[np.float64]:
        """The currents in A at this supply voltage."""
        k = {name: np.asarray(values)[samples.range] for name, values in self.constants.items()}
        g = (samples.adc - k["O"]) * ADC_VOLTS / k["R"]
        return np.asarray(k["UG"] * (g * (k["GS"] * g + k["GI"]) + k["S"] * supply_v + k["I"]), dtype=float)


def decode_calibration(text: bytes) -> Calibration:
    """Read the calibration text, up to ``END``. Other lines are skipped.

    Raises:
        Ppk2Error: the end or every shunt is missing: it is not such a text.
    """
    body, end, _ = text.decode("ascii", errors="replace").partition("END")
    if not end:
        raise Ppk2Error("the text does not reach END")
    constants = {name: list(values) for name, values in DEFAULTS.items()}
    reported = 0
    for line in body.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        name, index, number = match.groups()
        value = _number(number)
        # a shunt of 0 ohm would make every current infinite
        if value is not None and not (name == "R" and value <= 0):
            constants[name][int(index)] = value
            reported += 1
    if not any(f"R{index}:" in body for index in range(RANGES)):
        raise Ppk2Error("the text has no shunts")
    return Calibration({name: tuple(values) for name, values in constants.items()}, reported)


def decode(data: bytes, first_index: int = 0) -> Samples:
    """Read whole samples, taken to follow each other without loss.

    Raises:
        Ppk2Error: not a multiple of 4 bytes.
    """
    if len(data) % SAMPLE_BYTES:
        raise Ppk2Error(f"{len(data)} bytes, expected a multiple of {SAMPLE_BYTES}")
    words = np.frombuffer(data, dtype="<u4").astype(np.int64)
    return Samples(
        index=np.arange(first_index, first_index + len(words), dtype=np.int64),
        adc=(words & 0x3FFF) * 4,
        range=np.minimum((words >> 14) & 0x7, RANGES - 1),
        logic=words >> 24,
    )


class Ppk2Decoder:
    """Samples from a stream of bytes.

    Attributes:
        bad: how often the frame was lost and searched for.
        lost: samples that the counter shows to be missing; modulo 64, so at least so many.
        index: number of the next sample; the source adds the lost ones that it learns of.
    """

    def __init__(self) -> None:
        self.bad = 0
        self.lost = 0
        self.index = 0
        self._buffer = bytearray()
        self._expected: int | None = None
        self._locked = False
        self._searching = False

    def feed(self, data: bytes) -> Samples:
        """The samples that these bytes complete."""
        self._buffer += data
        parts: list[Samples] = []
        while self._lock():
            whole = len(self._buffer) // SAMPLE_BYTES
            if not whole:
                break
            counters = np.frombuffer(bytes(self._buffer[2 : whole * SAMPLE_BYTES : SAMPLE_BYTES]), np.uint8) >> 2
            wanted = (self._next + np.arange(whole)) % COUNTER_MODULO
            wrong = np.flatnonzero(counters != wanted)
            good = int(wrong[0]) if len(wrong) else whole
            parts.append(decode(bytes(self._buffer[: good * SAMPLE_BYTES]), self.index))
            del self._buffer[: good * SAMPLE_BYTES]
            self.index += good
            self._expected = (self._next + good) % COUNTER_MODULO
            self._locked = not len(wrong)
        return _joined(parts)

    def reset(self) -> None:
        """Begin anew, e.g. because the connection is a new one."""
        self._buffer.clear()
        self._expected = None
        self._locked = self._searching = False
        self.index = 0

    @property
    def _next(self) -> int:
        return self._expected or 0

    def _lock(self) -> bool:
        """Whether samples begin at the start of the buffer, after dropping what comes before them."""
        while not self._locked:
            if len(self._buffer) < CONFIRM * SAMPLE_BYTES:
                return False
            counters = [byte >> 2 for byte in self._buffer[2 : CONFIRM * SAMPLE_BYTES : SAMPLE_BYTES]]
            if all((right - left) % COUNTER_MODULO == 1 for left, right in pairwise(counters)):
                missing = 0 if self._expected is None else (counters[0] - self._expected) % COUNTER_MODULO
                self.lost += missing
                self.index += missing
                self._expected = counters[0]
                self._locked = True
                self._searching = False
            else:
                del self._buffer[0]
                self.bad += not self._searching
                self._searching = True
        return True


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _joined(parts: list[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    none = decode(b"")
    parts = parts or [none]
    return Samples(
        index=np.concatenate([part.index for part in parts]),
        adc=np.concatenate([part.adc for part in parts]),
        range=np.concatenate([part.range for part in parts]),
        logic=np.concatenate([part.logic for part in parts]),
    )
