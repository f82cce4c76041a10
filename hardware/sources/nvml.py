"""nvml: the total-energy counter of an NVIDIA GPU (Volta or newer), reached through zeus.

The counter holds millijoules since the driver was loaded and covers the whole card, memory included. It moves about
every 0.1 s (cards differ between 0.01 s and 0.1 s); MIG slices share it. zeus resolves ``CUDA_VISIBLE_DEVICES``, so the
index is the one torch uses: ``cuda:1`` is the second visible card. On Grace-Hopper the figure is the whole module's.

Written against the documented interfaces of NVML and zeus 0.16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hardware.errors import SourceError
from hardware.quiet import silenced
from hardware.source import CounterSource, Found, NotFound, Probe, Sample, SourceInfo
from hardware.sources.parameters import numbers

MJ = 1e-3
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

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(
            name=self._name,
            kind="counter",
            scope="gpu",
            covers=(f"gpu-{self._index}",),
            excludes=EXCLUDES,
            resolution=MJ,
            period_s=0.1,
            gain_u=GAIN_U,
            device={"model": self._model, "index": self._index},
        )

    def open(self) -> None:
        self._last_mj = None
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
        return now_s, count_mj * MJ


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
