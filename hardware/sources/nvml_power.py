"""nvml-power: the power that an NVIDIA GPU shows, sampled. The energy counter (`nvml`) is the better source.

``nvml-power`` takes the instantaneous power, ``nvml-power:average`` the one averaged over a second (on most cards since
Ampere). Meant for cards without a counter. Where there is one it is read too, as the meter's own: a window in which the
two differ by more than 5 % has no figure. They have been seen to differ by a factor of 1.7 over an idle span. On A100
and H100 the sensor looks only a quarter of the time (measured by Yang, Adamek and Armour, "Part-time power
measurements", 2023), so the energy of short repeating loads can be far off, which no averaging mends; ``gain_u`` does
not cover that.

Written against the documented interfaces of NVML and zeus 0.16; not tried on a card.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hardware.errors import SourceError, UnknownSourceError
from hardware.source import EnergyCount, Found, NotFound, OwnCounter, PowerSource, Probe, Sample, SourceInfo
from hardware.sources.nvml import EXCLUDES, GAIN_U, MJ, MW, PERIOD_S, nvidia_cards
from hardware.sources.parameters import numbers

PERIODS_S = {"instant": 0.1, "average": 1.0}


class NvmlPowerSource(PowerSource):
    """One field of one card. ``gpus`` is zeus's collection of the visible ones, or anything with the same methods."""

    def __init__(
        self,
        gpus: Any,
        index: int,
        *,
        name: str = "nvml-power",
        field: str = "instant",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = gpus
        self._energy = EnergyCount()
        self._counts = True
        self._ask = getattr(gpus, f"get_{field}_power_usage")
        self._index = index
        self._name = name
        self._field = field
        self._clock = clock
        self._model = str(gpus.get_name(index))

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(
            name=self._name,
            kind="power",
            scope="gpu",
            covers=(f"gpu-{self._index}",),
            excludes=EXCLUDES,
            resolution=MW,
            period_s=PERIODS_S[self._field],
            # a mean of the second before comes half a second late
            latency_s=PERIODS_S[self._field] / 2 if self._field == "average" else 0.0,
            gain_u=GAIN_U,
            device={"model": self._model, "index": self._index},
            params={"field": self._field},
        )

    def open(self) -> None:
        self._energy = EnergyCount()
        self._counts = True
        self.poll()

    def poll(self) -> list[Sample]:
        now_s = self._clock()
        try:
            power_w = int(self._ask(self._index)) * MW
        except Exception as error:  # zeus has a class for each of NVML's errors, all just Exceptions
            raise SourceError(f"{self._name}: the card does not answer any more: {error}") from error
        if self._counts:
            self._count(now_s, power_w)
        return [(now_s, power_w)]

    def own_counter(self) -> OwnCounter | None:
        return self._energy.counter if self._counts else None

    def _count(self, now_s: float, power_w: float) -> None:
        """Read the card's energy counter beside its power. A card without one is not asked again."""
        try:
            count_j = int(self._gpus.get_total_energy_consumption(self._index)) * MJ
        except Exception:  # zeus has a class for each of NVML's errors, all just Exceptions
            self._counts = False
            return
        # it moves once a period, so it is up to that much behind
        self._energy.follow(count_j, now_s, max(MJ, power_w * PERIOD_S))


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the card that trains (the first one, if none does) shows its power.

    Raises:
        UnknownSourceError: an argument other than ``instant`` and ``average``.
    """
    numbers("nvml-power", params, {})
    if argument not in ("", *PERIODS_S):
        raise UnknownSourceError.unknown("field of 'nvml-power'", argument, PERIODS_S)
    cards = nvidia_cards(device)
    if isinstance(cards, NotFound):
        return cards
    gpus, index = cards
    name = "nvml-power" + (f":{argument}" if argument else "")
    source = NvmlPowerSource(gpus, index, name=name, field=argument or "instant")
    try:
        [(_, power_w)] = source.poll()
    except SourceError as error:
        return NotFound(f"{source.info.device['model']} does not show its {argument or 'instant'} power: {error}")
    return Found(source, f"{source.info.device['model']} shows {power_w:.1f} W")
