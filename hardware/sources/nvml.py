"""nvml: the total-energy counter of an NVIDIA GPU (Volta or newer), reached through zeus.

The counter holds millijoules since the driver was loaded and covers the whole card, memory included. It moves about
every 0.1 s (cards differ between 0.01 s and 0.1 s); MIG slices share it. zeus resolves ``CUDA_VISIBLE_DEVICES``, so the
index is the one torch uses: ``cuda:1`` is the second visible card. On Grace-Hopper the figure is the whole module's.

At each reading of the counter the card's instantaneous power is read too, and integrated: the second path to the same
joules, against which each window is checked (`hardware.measure.checks.cross_check`). The two have been seen to differ
by a factor of 1.7 over an idle span, and on A100 and H100 the power is only sensed a quarter of the time.

Written against the documented interfaces of NVML and zeus 0.16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hardware.errors import SourceError
from hardware.measure.energy import gap_limit_s
from hardware.source import CounterSource, Found, NotFound, OwnCounter, Probe, Sample, SourceInfo
from hardware.sources.parameters import numbers
from hardware.sources.quiet import silenced

MJ = 1e-3
MW = 1e-3
PERIOD_S = 0.1
GAIN_U = 0.05
EXCLUDES = ("cpu", "memory", "board", "power supply")


class NvmlSource(CounterSource):
    """One card. ``gpus`` is zeus's collection of the visible ones, or anything with the same two methods."""

    def __init__(
        self, gpus: Any, index: int, *, name: str = "nvml", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gpus = gpus
        self._index = index
        self._name = name
        self._clock = clock
        self._model = str(gpus.get_name(index))
        self._last_mj: int | None = None
        self._watts: Sample | None = None
        self._integrated: OwnCounter | None = None
        self._shows_power = True

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(
            name=self._name,
            kind="counter",
            scope="gpu",
            covers=(f"gpu-{self._index}",),
            excludes=EXCLUDES,
            resolution=MJ,
            period_s=PERIOD_S,
            gain_u=GAIN_U,
            device={"model": self._model, "index": self._index},
        )

    def open(self) -> None:
        self._last_mj = self._watts = self._integrated = None
        self._shows_power = True
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        try:
            count_mj = int(self._gpus.get_total_energy_consumption(self._index))
        except Exception as error:  # zeus has a class for each of NVML's errors, all just Exceptions
            raise SourceError(f"{self._name}: the card does not answer any more: {error}") from error
        if self._last_mj is not None and count_mj < self._last_mj:
            raise SourceError(f"{self._name}: the counter went backwards; was the driver reloaded?")
        self._last_mj = count_mj
        if self._shows_power:
            self._integrate()
        return now_s, count_mj * MJ

    def own_counter(self) -> OwnCounter | None:
        return self._integrated

    def _integrate(self) -> None:
        """Read the power and add its trapezoid. A card that does not show any is not asked again."""
        now_s = self._clock()
        try:
            watts = int(self._gpus.get_instant_power_usage(self._index)) * MW
        except Exception:  # whatever is wrong with it: the counter is the source, and says so itself if it dies
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


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the card that trains (the first one, if none does) has an energy counter."""
    numbers("nvml", params, {})
    cards = nvidia_cards(device)
    if isinstance(cards, NotFound):
        return cards
    gpus, index = cards
    if not gpus.supports_get_total_energy_consumption(index):
        return NotFound(f"{gpus.get_name(index)} has no energy counter (cards before Volta have none)")
    source = NvmlSource(gpus, index)
    return Found(source, f"{source.info.device['model']} has an energy counter")


def nvidia_cards(device: str) -> tuple[Any, int] | NotFound:
    """zeus's collection of the visible cards and the index of the one that a torch device means."""
    with silenced():  # zeus imports AMD's library, which prints when its driver is absent
        from zeus.device.gpu import get_gpus, nvml_is_available
    if not nvml_is_available():
        return NotFound("no NVIDIA driver answers")
    gpus = get_gpus()
    return pick(gpus, device)


def pick(gpus: Any, device: str) -> tuple[Any, int] | NotFound:
    """The card that a torch device means, e.g. ``cuda:1``; for another device the first one."""
    kind, _, number = device.partition(":")
    index = int(number) if kind == "cuda" and number else 0
    if index >= len(gpus.gpus):
        return NotFound(f"there is no card {index}; {len(gpus.gpus)} visible")
    return gpus, index
