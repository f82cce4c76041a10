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


class NvmlSource(CounterSource):
    """One card. ``gpus`` is zeus's collection of the visible ones, or anything with the same two methods."""

    def __init__(self, gpus: Any, index: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gpus = gpus
        self._index = index
        self._clock = clock
        self._name = str(gpus.get_name(index))
        self._last_mj: int | None = None

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(
            name="nvml",
            kind="counter",
            scope="gpu",
            covers=(f"gpu-{self._index}",),
            excludes=("cpu", "memory", "board", "power supply"),
            resolution=MJ,
            period_s=0.1,
            gain_u=0.05,
            device={"model": self._name, "index": self._index},
        )

    def open(self) -> None:
        self._last_mj = None
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        try:
            count_mj = int(self._gpus.get_total_energy_consumption(self._index))
        except Exception as error:  # zeus has a class for each of NVML's errors, all just Exceptions
            raise SourceError(f"nvml: the card does not answer any more: {error}") from error
        if self._last_mj is not None and count_mj < self._last_mj:
            raise SourceError("nvml: the counter went backwards; was the driver reloaded?")
        self._last_mj = count_mj
        return now_s, count_mj * MJ


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the card that trains (the first one, if none does) has an energy counter."""
    numbers("nvml", params, {})
    with silenced():  # zeus imports AMD's library, which prints when its driver is absent
        from zeus.device.gpu import get_gpus, nvml_is_available
    if not nvml_is_available():
        return NotFound("no NVIDIA driver answers")
    gpus = get_gpus()
    kind, _, number = device.partition(":")
    index = int(number) if kind == "cuda" and number else 0
    if index >= len(gpus.gpus):
        return NotFound(f"there is no card {index}; {len(gpus.gpus)} visible")
    if not gpus.supports_get_total_energy_consumption(index):
        return NotFound(f"{gpus.get_name(index)} has no energy counter (cards before Volta have none)")
    source = NvmlSource(gpus, index)
    return Found(source, f"{source.info.device['model']} has an energy counter")
