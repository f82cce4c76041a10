"""Reading: what every meter says in one moment, and the check that it is no nonsense."""

from __future__ import annotations

from dataclasses import dataclass

JOULES_PER_MWH = 3.6

AGREEMENT = 0.02
"""Volts times amperes may differ from the meter's own watts by this share ..."""

COUNTS = 2
"""... and by so many counts of the coarsest of the three, since each is rounded on its own."""


class WireError(Exception):
    """Bytes that are no frame of the protocol. Each protocol has one subclass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One moment, as the meter tells it.

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
    """What a meter can measure: one count of each quantity, and the ends of its ranges.

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
