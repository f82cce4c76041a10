"""Folders like the kernel's under /sys, and a program ``vcgencmd``, with files that are rewritten from a waveform."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from hardware.instruments.instrument import FrontEnd

UJ = 1e-6
RAPL_UNIT_J = 2.0**-14
"""The register behind the file counts in these on most processors."""

RAILS: dict[str, tuple[int, int, float, float]] = {
    "3V7_WL_SW": (0, 8, 3.80, 0.0),
    "3V3_SYS": (1, 9, 3.31, 0.04),
    "1V8_SYS": (2, 10, 1.80, 0.06),
    "DDR_VDD2": (3, 11, 1.10, 0.02),
    "DDR_VDDQ": (4, 12, 0.60, 0.0),
    "1V1_SYS": (5, 13, 1.10, 0.04),
    "0V8_SW": (6, 14, 0.80, 0.06),
    "VDD_CORE": (7, 15, 0.90, 0.76),
    "0V8_AON": (16, 19, 0.80, 0.002),
    "3V3_DAC": (17, 20, 3.30, 0.001),
    "3V3_ADC": (18, 21, 3.30, 0.001),
    "HDMI": (22, 23, 5.07, 0.016),
}
"""Index of the current, index of the voltage, V, share of the power. The names and indices are a Pi 5's."""

SCRIPT = """#!/bin/sh
cat {folder}/"$1" 2>/dev/null || {{ echo "error=1 error_msg=\\"Command not registered\\""; exit 255; }}
"""


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


class Vcgencmd:
    """``FOLDER/vcgencmd``, to be put first in ``PATH``; ``update`` changes its answers.

    Attributes:
        throttled: what ``get_throttled`` answers. Bits 0-3: undervoltage, capped, throttled, soft limit, all of
            them now; bits 16-19: the same since boot.
        temperature_c: what ``measure_temp`` answers.
    """

    def __init__(self, folder: Path, front: FrontEnd) -> None:
        self.throttled = 0
        self.temperature_c = 45.0
        self._front = front
        self._answers = folder / "answers"
        self._answers.mkdir(parents=True, exist_ok=True)
        self.path = folder / "vcgencmd"
        self.path.write_text(SCRIPT.format(folder=shlex.quote(str(self._answers))))
        self.path.chmod(0o755)
        self.update(front.on_s)

    def update(self, now_s: float) -> None:
        reading = self._front.read(now_s)
        put(self._answers / "get_throttled", f"throttled=0x{self.throttled:x}\n")
        put(self._answers / "measure_temp", f"temp={self.temperature_c:.1f}'C\n")
        amperes, volts = [], []
        for name, (current_index, volt_index, volt, share) in RAILS.items():
            ampere = reading.power_w * share / volt
            amperes.append(f" {name}_A current({current_index})={ampere:.8f}A")
            volts.append(f" {name}_V volt({volt_index})={volt:.8f}V")
        volts.append(f" EXT5V_V volt(24)={reading.voltage_v:.8f}V")
        volts.append(" BATT_V volt(25)=0.00000000V")
        put(self._answers / "pmic_read_adc", "\n".join([*amperes, *volts]) + "\n")


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
