"""nvml, nvml-power, zeus-gpu: energy counter and power of NVIDIA cards, and the counter of AMD's, through zeus.

``nvml`` is the energy counter of an NVIDIA card (Volta or newer). It holds millijoules since the driver was loaded and
covers the whole card, memory included. It moves about every 0.1 s (cards differ between 0.01 s and 0.1 s); MIG slices
share it. zeus resolves ``CUDA_VISIBLE_DEVICES``, so the index is the one torch uses: ``cuda:1`` is the second visible
card. On Grace-Hopper the figure is the whole module's.

``nvml-power`` is the instantaneous power, sampled, ``nvml-power:average`` the one averaged over a second (on most cards
since Ampere). Meant for cards without a counter.

Either reads the other figure too, as its second path to the same joules (`hardware.measure.evaluation.cross_check`).
The two have been seen to differ by a factor of 1.7 over an idle span. On A100 and H100 the power is only sensed a
quarter of the time (Yang, Adamek and Armour, "Part-time power measurements", 2023), so the energy of short repeating
loads can be far off, which no averaging mends; ``gain_u`` does not cover that.

``zeus-gpu`` is the counter of an AMD card, as far as zeus reaches it with amdsmi. When it starts, zeus compares the
counter with the power for half a second and refuses a counter that disagrees by a factor of ten, since some drivers
leave its unit out. A card of two dies counts both on the first. torch calls AMD's cards ``cuda``, too. Not tried: no
AMD GPU was at hand; only the shape of zeus's interface is tested.

Written against the documented interfaces of NVML and zeus 0.16.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from hardware.errors import SourceError, UnknownSourceError
from hardware.measure.energy import gap_limit_s
from hardware.source import (
    CounterSource,
    EnergyCount,
    Found,
    NotFound,
    OwnCounter,
    PowerSource,
    Probe,
    Sample,
    Source,
    SourceInfo,
)
from hardware.sources.quiet import silenced

MILLI = 1e-3
"""mJ to J, and mW to W."""

PERIOD_S = 0.1
PERIODS_S = {"instant": PERIOD_S, "average": 1.0}


class _Card(Source):
    """One card. ``gpus`` is zeus's collection of the visible ones, or anything with the same methods."""

    def __init__(
        self, gpus: Any, index: int, *, name: str, clock: Callable[[], float] = time.monotonic, **facts: Any
    ) -> None:
        self._gpus = gpus
        self._index = index
        self._name = name
        self._clock = clock
        self._info = SourceInfo(
            name=name,
            scope="gpu",
            covers=(f"gpu-{index}",),
            excludes=("cpu", "memory", "board", "power supply"),
            resolution=MILLI,
            gain_u=0.05,
            device={"model": str(gpus.get_name(index)), "index": index},
            **facts,
        )

    def users(self) -> Collection[int]:
        """Processes that compute on the card. Of an NVIDIA card only; in a container the driver may name none."""
        try:
            import pynvml

            running = pynvml.nvmlDeviceGetComputeRunningProcesses(self._gpus.gpus[self._index].handle)
            return {int(one.pid) for one in running}
        except Exception:  # a class for each of NVML's errors; another brand's card has no handle of NVML
            return ()

    def _energy_mj(self) -> int:
        return int(self._gpus.get_total_energy_consumption(self._index))

    def _power_w(self, field: str) -> float:
        return int(getattr(self._gpus, f"get_{field}_power_usage")(self._index)) * MILLI


class NvmlSource(_Card, CounterSource):
    """The energy counter of one card."""

    def __init__(
        self, gpus: Any, index: int, *, name: str = "nvml", clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(gpus, index, name=name, clock=clock, kind="counter", period_s=PERIOD_S)
        self._last_mj: int | None = None
        self._watts: Sample | None = None
        self._integrated: OwnCounter | None = None
        self._shows_power = True

    def open(self) -> None:
        self._last_mj = self._watts = self._integrated = None
        self._shows_power = True
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        try:
            count_mj = self._energy_mj()
        except Exception as error:  # zeus has a class for each of NVML's errors, all just Exceptions
            raise SourceError(f"{self._name}: the card does not answer any more: {error}") from error
        if self._last_mj is not None and count_mj < self._last_mj:
            raise SourceError(f"{self._name}: the counter went backwards; was the driver reloaded?")
        self._last_mj = count_mj
        if self._shows_power:
            self._integrate()
        return now_s, count_mj * MILLI

    def own_counter(self) -> OwnCounter | None:
        return self._integrated

    def _integrate(self) -> None:
        """Read the power and add its trapezoid. A card without it is not read again."""
        now_s = self._clock()
        try:
            watts = self._power_w("instant")
        except Exception:  # the counter is the source; if it fails too, read() raises
            self._shows_power, self._integrated = False, None
            return
        last_s, last_w = self._watts or (now_s, watts)
        self._watts = now_s, watts
        before = self._integrated or OwnCounter(t_s=now_s, joules=0.0, resolution_j=0.0)
        bridged = now_s - last_s <= gap_limit_s(PERIOD_S)
        self._integrated = OwnCounter(
            t_s=now_s,
            joules=before.joules + ((now_s - last_s) * (last_w + watts) / 2 if bridged else 0.0),
            resolution_j=watts * PERIOD_S,
            restarts=before.restarts + (not bridged),
        )


class NvmlPowerSource(_Card, PowerSource):
    """One field of the power of one card: ``instant`` or ``average``."""

    def __init__(
        self,
        gpus: Any,
        index: int,
        *,
        name: str = "nvml-power",
        field: str = "instant",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            gpus,
            index,
            name=name,
            clock=clock,
            kind="power",
            period_s=PERIODS_S[field],
            # a mean of the second before comes half a second late
            latency_s=PERIODS_S[field] / 2 if field == "average" else 0.0,
            params={"field": field},
        )
        self._energy = EnergyCount()
        self._counts = True
        self._field = field

    def open(self) -> None:
        self._energy = EnergyCount()
        self._counts = True
        self.poll()

    def poll(self) -> list[Sample]:
        now_s = self._clock()
        try:
            power_w = self._power_w(self._field)
        except Exception as error:  # zeus has a class for each of NVML's errors, all just Exceptions
            raise SourceError(f"{self._name}: the card does not answer any more: {error}") from error
        if self._counts:
            self._count(now_s, power_w)
        return [(now_s, power_w)]

    def own_counter(self) -> OwnCounter | None:
        return self._energy.counter if self._counts else None

    def _count(self, now_s: float, power_w: float) -> None:
        """Read the card's energy counter beside its power. A card without one is not read again."""
        try:
            count_j = self._energy_mj() * MILLI
        except Exception:  # zeus has a class for each of NVML's errors, all just Exceptions
            self._counts = False
            return
        # it moves once a period, so it is up to that much behind
        self._energy.follow(count_j, now_s, max(MILLI, power_w * PERIOD_S))


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the card that trains (the first one, if none does) has an energy counter."""
    cards = _nvidia_cards(device)
    if isinstance(cards, NotFound):
        return cards
    gpus, index = cards
    if not gpus.supports_get_total_energy_consumption(index):
        return NotFound(f"{gpus.get_name(index)} has no energy counter (cards before Volta have none)")
    return Found(NvmlSource(gpus, index), f"{gpus.get_name(index)} has an energy counter")


def probe_power(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the card that trains (the first one, if none does) shows its power.

    Raises:
        UnknownSourceError: an argument other than ``instant`` and ``average``.
    """
    if argument not in ("", *PERIODS_S):
        raise UnknownSourceError.unknown("field of 'nvml-power'", argument, PERIODS_S)
    cards = _nvidia_cards(device)
    if isinstance(cards, NotFound):
        return cards
    gpus, index = cards
    name = "nvml-power" + (f":{argument}" if argument else "")
    source = NvmlPowerSource(gpus, index, name=name, field=argument or "instant")
    try:
        [(_, power_w)] = source.poll()
    except SourceError as error:
        return NotFound(f"{gpus.get_name(index)} does not show its {argument or 'instant'} power: {error}")
    return Found(source, f"{gpus.get_name(index)} shows {power_w:.1f} W")


def probe_amd(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when amdsmi answers and zeus trusts the counter of the card that trains."""
    with silenced():  # AMD's library prints when its driver is absent
        from zeus.device.gpu import amdsmi_is_available, get_gpus, nvml_is_available

        if nvml_is_available():
            return NotFound("the cards here are NVIDIA's: use nvml")
        if not amdsmi_is_available():
            return NotFound("no AMD driver answers")
        cards = _pick(get_gpus(), device)
    if isinstance(cards, NotFound):
        return cards
    gpus, index = cards
    if not gpus.supports_get_total_energy_consumption(index):
        return NotFound(f"zeus does not trust the energy counter of {gpus.get_name(index)}")
    why = f"{gpus.get_name(index)} has an energy counter (through zeus; untried)"
    return Found(NvmlSource(gpus, index, name="zeus-gpu"), why)


def _nvidia_cards(device: str) -> tuple[Any, int] | NotFound:
    """zeus's collection of the visible cards and the index of the one that a torch device means."""
    with silenced():  # zeus imports AMD's library, which prints when its driver is absent
        from zeus.device.gpu import get_gpus, nvml_is_available
    if not nvml_is_available():
        return NotFound("no NVIDIA driver answers")
    return _pick(get_gpus(), device)


def _pick(gpus: Any, device: str) -> tuple[Any, int] | NotFound:
    """The card that a torch device means, e.g. ``cuda:1``; for another device the first one."""
    kind, _, number = device.partition(":")
    index = int(number) if kind == "cuda" and number else 0
    if index >= len(gpus.gpus):
        return NotFound(f"there is no card {index}; {len(gpus.gpus)} visible")
    return gpus, index
