"""A program ``vcgencmd`` that answers like the one of a Raspberry Pi 5."""

from __future__ import annotations

import shlex
from pathlib import Path

from hardware.instruments.frontend import FrontEnd
from hardware.instruments.sysfs import put

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
