"""Folders like the kernel's under /sys, their files rewritten from a waveform."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from hardware.instruments.frontend import FrontEnd

UJ = 1e-6
RAPL_UNIT_J = 2.0**-14
"""The register behind the file counts in these on most processors."""


class Tree(Protocol):
    """Made-up files that follow a clock."""

    def update(self, now_s: float) -> None:
        """Rewrite the files for the time now_s."""


class RaplTree:
    """``ROOT/intel-rapl:0`` with the counter of one package, which wraps at ``range_j``.

    The front end's ``refresh_s`` should be the millisecond of the real register.
    """

    def __init__(
        self, root: Path, front: FrontEnd, *, range_j: float = 262_143.328850, start_j: float = 1000.0
    ) -> None:
        self._front = front
        self._range_uj = round(range_j / UJ)
        self._start_j = start_j
        zone = root / "intel-rapl:0"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "name").write_text("package-0\n")
        (zone / "max_energy_range_uj").write_text(f"{self._range_uj}\n")
        self._file = zone / "energy_uj"
        self.update(front.on_s)

    def update(self, now_s: float) -> None:
        counts = int((self._start_j + self._front.read(now_s).energy_j) / RAPL_UNIT_J)
        put(self._file, f"{int(counts * RAPL_UNIT_J / UJ) % (self._range_uj + 1)}\n")


class HwmonTree:
    """``ROOT/hwmon0`` of a sensor with one channel: ``in1_input`` mV, ``curr1_input`` mA, ``power1_input`` uW."""

    def __init__(self, root: Path, front: FrontEnd, *, name: str = "ina226", with_power: bool = True) -> None:
        self._front = front
        self._with_power = with_power
        self._folder = root / "hwmon0"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "name").write_text(f"{name}\n")
        (self._folder / "in1_label").write_text("VDD_IN\n")
        (self._folder / "update_interval").write_text(f"{round(front.refresh_s * 1000)}\n")
        self.update(front.on_s)

    def update(self, now_s: float) -> None:
        reading = self._front.read(now_s)
        put(self._folder / "in1_input", f"{round(reading.voltage_v * 1e3)}\n")
        put(self._folder / "curr1_input", f"{round(reading.current_a * 1e3)}\n")
        if self._with_power:
            put(self._folder / "power1_input", f"{round(reading.power_w * 1e6)}\n")


def put(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old text or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(text)
    partial.replace(path)


@contextlib.contextmanager
def kept_up(tree: Tree, *, every_s: float = 0.005, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Update from a thread while the block runs."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every_s):
            tree.update(clock())

    thread = threading.Thread(target=run, name="sysfs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=2.0)
