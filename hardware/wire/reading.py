"""Reading: one moment's figures of a meter, their check for plausibility, and the search for frames in a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

JOULES_PER_MWH = 3.6

AGREEMENT = 0.02
"""Volts times amperes may differ from the meter's own watts by this share ..."""

COUNTS = 2
"""... and by so many counts of the coarsest of the three, since each is rounded on its own."""


class WireError(Exception):
    """Bytes that are no frame of the protocol. Each protocol has one subclass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The figures that a meter sends for one moment.

    Attributes:
        volts: V.
        amps: A; negative when the meter can tell that it flows back.
        watts: W; the meter's own figure where it sends one, else volts x amps.
        device_s: the meter's own clock, s from any moment; None if it sends none.
        energy_j: the meter's own energy counter, J from any moment; None if it has none.
    """

    volts: float
    amps: float
    watts: float
    device_s: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The ranges of a meter, and one count of each quantity.

    Attributes:
        volt_count: V.
        amp_count: A.
        watt_count: W; 0 when the watts are computed here.
        max_volts: V. More is garbage, e.g. of a first packet.
        max_amps: A, either sign.
    """

    volt_count: float
    amp_count: float
    watt_count: float
    max_volts: float
    max_amps: float

    def resolution_w(self, reading: Reading) -> float:
        """One count of power, W: the coarsest of what the three quantities make of it at this voltage and current."""
        return max(self.watt_count, abs(reading.volts) * self.amp_count, abs(reading.amps) * self.volt_count)

    def complaint(self, reading: Reading) -> str | None:
        """Why the reading cannot be true; None if it can."""
        if not 0 <= reading.volts <= self.max_volts:
            return f"{reading.volts:g} V, of at most {self.max_volts:g} V"
        if not abs(reading.amps) <= self.max_amps:
            return f"{reading.amps:g} A, of at most {self.max_amps:g} A"
        product_w = reading.volts * reading.amps
        # some meters send the amount of a power only, and a current with its sign
        off_w = min(abs(product_w - reading.watts), abs(abs(product_w) - reading.watts))
        if not off_w <= AGREEMENT * abs(reading.watts) + COUNTS * self.resolution_w(reading):
            return f"{reading.watts:g} W, but {reading.volts:g} V x {reading.amps:g} A = {product_w:g} W"
        return None


class Frame(Protocol):
    """A decoded frame of any protocol that has one reading."""

    @property
    def reading(self) -> Reading: ...


F = TypeVar("F", bound=Frame)


class FrameDecoder(ABC, Generic[F]):
    """Finds frames of a fixed length in a stream of bytes. Where none begins it drops one byte and looks again.

    Attributes:
        frame_bytes: length of a frame.
        head_bytes: so many bytes tell whether a frame can begin there.
        bad: how often a frame was broken: runs of bytes that belong to none.
    """

    frame_bytes: int
    head_bytes: int

    def __init__(self) -> None:
        self.bad = 0
        self._buffer = bytearray()
        self._lost = self._begun = False

    @abstractmethod
    def _begins(self, head: bytes) -> bool:
        """Whether a frame can begin with these bytes."""

    @abstractmethod
    def _decode(self, frame: bytes) -> F:
        """Read one whole frame.

        Raises:
            WireError: it is none.
        """

    def feed(self, data: bytes) -> list[F]:
        """The frames that these bytes complete, in order."""
        buffer = self._buffer
        buffer += data
        frames: list[F] = []
        while len(buffer) >= self.head_bytes:
            self._begun = self._begun or self._begins(bytes(buffer[: self.head_bytes]))
            if self._begun and len(buffer) < self.frame_bytes:
                break
            begun, self._begun = self._begun, False
            try:
                if not begun:
                    raise WireError("no frame begins here")
                frames.append(self._decode(bytes(buffer[: self.frame_bytes])))
            except WireError:
                del buffer[0]
                self.bad += not self._lost
                self._lost = True
                continue
            self._lost = False
            del buffer[: self.frame_bytes]
        return frames

    def reset(self) -> None:
        """Forget a frame begun, e.g. because the connection is a new one."""
        self._buffer.clear()
        self._lost = self._begun = False
