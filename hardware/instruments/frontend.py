"""Front end: converts a waveform into the readings of a meter, before they are encoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Power(Protocol):
    """A truth to be measured, e.g. a `hardware.instruments.waveform.Waveform`."""

    def power_w(self, t_s: float) -> float: ...

    def energy_j(self, start_s: float, end_s: float) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The figures of a meter at one moment, not yet rounded to the counts of its protocol.

    Attributes:
        voltage_v, current_a, power_w: of the last refresh.
        energy_j: the meter's own counter, since it was switched on.
        age_s: since it was switched on, by the meter's own clock.
    """

    voltage_v: float
    current_a: float
    power_w: float
    energy_j: float
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """The analogue half of a meter: refreshes every ``refresh_s`` and holds what it has in between.

    Attributes:
        waveform: the truth, on the host's clock.
        on_s: when the meter was switched on, on the host's clock.
        gain: reading over truth; 1 is perfect.
        offset_w: reading at no power.
        refresh_s: between two refreshes, by the host's clock.
        averaging: a refresh shows the mean since the one before; otherwise the power at its moment.
        delay_s: how old a refresh is when it is first shown.
        supply_v: at no load.
        source_ohm: of supply and cable; the voltage sags with the current.
        drift: the meter's clock gains this many seconds per second.
    """

    waveform: Power
    on_s: float = 0.0
    gain: float = 1.0
    offset_w: float = 0.0
    refresh_s: float = 0.5
    averaging: bool = True
    delay_s: float = 0.0
    supply_v: float = 5.1
    source_ohm: float = 0.05
    drift: float = 0.0

    def read(self, now_s: float) -> Reading:
        """The reading at now_s."""
        tick = max(0, math.floor((now_s - self.delay_s - self.on_s) / self.refresh_s + 1e-9))
        shown_s = self.on_s + tick * self.refresh_s
        if self.averaging and tick > 0:
            true_w = self.waveform.energy_j(shown_s - self.refresh_s, shown_s) / self.refresh_s
        else:
            true_w = self.waveform.power_w(shown_s)
        seen_j = self.waveform.energy_j(self.on_s, shown_s)
        power_w = self.gain * true_w + self.offset_w
        # P = V I with V = V0 - R I, solved for I
        sag = max(0.0, self.supply_v**2 - 4 * self.source_ohm * power_w)
        voltage_v = (self.supply_v + math.sqrt(sag)) / 2
        return Reading(
            voltage_v=voltage_v,
            current_a=power_w / voltage_v,
            power_w=power_w,
            energy_j=self.gain * seen_j + self.offset_w * (shown_s - self.on_s),
            age_s=(now_s - self.on_s) * (1 + self.drift),
        )
