"""zeus-soc: the energy counters of Apple silicon, through zeus (0.16) and its extra ``zeus-apple-silicon``.

Added up are processor, memory, graphics and neural engine, whatever of them the chip reports; cores and clusters are
parts of ``cpu_total`` and are left out. zeus also knows NVIDIA Jetson, where it adds up powers of its own in a second
process; our source `jetson` reads the same files and counts what it missed, so this one is for Apple only.

Untried: no such machine was at hand; only the shape of zeus's interface is tested.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from hardware.errors import SourceError
from hardware.source import CounterSource, Found, NotFound, Probe, Sample, SourceInfo
from hardware.sources.quiet import silenced

MJ = 1e-3
PARTS = {
    "cpu_total_mj": "cpu",
    "dram_mj": "memory",
    "gpu_mj": "gpu",
    "gpu_sram_mj": "gpu memory",
    "ane_mj": "neural engine",
}
PERIOD_S = 0.1
"""Assumed: Apple documents no period."""

GAIN_U = 0.1
"""Assumed: Apple calls these figures estimates and gives no accuracy."""


class ZeusSocSource(CounterSource):
    """The parts of one chip. ``soc`` is what zeus's ``get_soc`` gives, or anything with the same method."""

    def __init__(self, soc: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._soc = soc
        self._clock = clock
        self._fields = tuple(field for field in PARTS if getattr(self._measure(), field, None) is not None)
        self._last_j: float | None = None
        self._info = SourceInfo(
            name="zeus-soc",
            kind="counter",
            scope="soc",
            covers=tuple(PARTS[field] for field in self._fields),
            excludes=("screen", "storage", "board", "power supply"),
            resolution=MJ,
            period_s=PERIOD_S,
            gain_u=GAIN_U,
            device={"model": platform.processor() or None},
        )

    def open(self) -> None:
        self._last_j = None
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        measured = self._measure()
        try:
            total_j = sum(float(getattr(measured, field)) for field in self._fields) * MJ
        except (AttributeError, TypeError, ValueError) as error:
            raise SourceError(f"zeus-soc: a part is not counted any more: {error}") from error
        if self._last_j is not None and total_j < self._last_j:
            raise SourceError("zeus-soc: the counter went backwards")
        self._last_j = total_j
        return now_s, total_j

    def _measure(self) -> Any:
        try:
            return self._soc.get_total_energy_consumption()
        except Exception as error:  # a native library's
            raise SourceError(f"zeus-soc: the chip does not answer: {error}") from error


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found on Apple silicon with the extra installed."""
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return NotFound("not Apple silicon")
    with silenced():
        from zeus.device.soc import apple, get_soc
    if not apple.zeus_apple_available:
        return NotFound("zeus needs its extra for Apple silicon: pip install zeus-apple-silicon")
    source = ZeusSocSource(get_soc())
    if not source.info.covers:
        return NotFound("this chip reports none of its parts")
    return Found(source, f"zeus counts {', '.join(source.info.covers)} (untried)")
