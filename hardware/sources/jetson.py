"""jetson: the INA3221 and INA238 power monitors of NVIDIA Jetson modules and boards.

JetPack 5 and later show them as hwmon chips ``ina3221`` with a label per rail (mV and mA), JetPack 4 as IIO devices
under ``/sys/bus/i2c/drivers/ina3221x`` (``rail_name_N``, ``in_powerN_input`` in mW). These rails are taken:

- ``VDD_IN`` or ``POM_5V_IN`` alone where there is one: NVIDIA calls it the total power of the module, so all the
  others are parts of it;
- ``VIN`` alone, of the INA238 on the carrier board of a Jetson AGX Thor (uW): the power of the whole board, as
  jetson_stats takes it; a driver that gives it no label is believed on a Jetson;
- else the sum of the rails, as on AGX Xavier and AGX Orin, which have no such rail. It is less than what a meter at
  the supply shows, and a rail that feeds another one would be counted twice: ``covers`` lists those that were added;
- never a rail called NC (not connected) nor the channels above 3 (shunt voltages and their sum).

The carrier board (USB, fan, disk, regulators) may lie outside, so this is not the whole board. Written against NVIDIA's
and the kernel's documents; tried on made-up trees, not on a Jetson.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

from hardware.device.machine import text
from hardware.source import Found, NoPermission, NotFound, Probe, SourceInfo
from hardware.sources.hwmon_tree import Channel, RailPower, chips, integer

TOTALS = ("VIN", "VDD_IN", "POM_5V_IN")
CHIPS = ("ina3221", "ina238")
"""The INA238 measures the input of a Jetson AGX Thor; both name their rails by label."""

BOARD = "VIN"
NOT_CONNECTED = re.compile(r"(^|[^A-Z0-9])NC[0-9]*($|[^A-Z0-9])")
MILLIWATT = 1e-3

SHUNT_LSB_UV = 40.0
"""One count of the chip's shunt voltage, from its data sheet; over the shunt it is one count of current."""

GAIN_U = 0.05
PERIOD_S = 0.1

HOW_TO_FIX = (
    "its rails may not be read. To allow it until the next boot: sudo chmod a+r {files}. For good, as root: put that "
    "line into a systemd service of type oneshot"
)


def probe(argument: str, params: dict[str, str], device: str, *, root: Path = Path("/")) -> Probe:
    """Found when the rail of the whole module, or else every rail of a Jetson, can be read."""
    rails = _rails(root)
    if not rails:
        return NotFound("no INA3221 with labelled rails, as Jetson modules have")
    chosen = [rail for total in TOTALS for rail in rails if rail.label == total][:1]
    if not chosen:
        if not _is_jetson(root):
            return NotFound("an INA3221 is here, but this is no Jetson: name it, see hwmon:ina3221")
        chosen = rails
    try:
        power_w = sum(rail.value() for rail in chosen)
    except PermissionError:
        files = " ".join(str(path) for rail in chosen for path in rail.files)
        return NoPermission(HOW_TO_FIX.format(files=files))
    except (OSError, ValueError) as error:
        return NotFound(f"a rail cannot be read: {error}")
    labels = tuple(rail.label for rail in chosen)
    info = SourceInfo(
        name="jetson",
        kind="power",
        scope="board" if labels == (BOARD,) else "soc",
        covers=labels,
        excludes=("power supply",)
        if labels == (BOARD,)
        else ("carrier board, as far as it lies outside the module", "power supply"),
        resolution=_lsb_w(chosen),
        period_s=_period_s(root),
        gain_u=GAIN_U,
        device={"model": text(root / "proc/device-tree/model") or None},
        params={"unused": [rail.label for rail in rails if rail not in chosen]},
    )

    def locate() -> list[Channel]:
        found = [rail for rail in _rails(root) if rail.label in labels]
        # the sum of what is left of them would be a smaller figure, not a gap
        return found if len(found) == len(labels) else []

    what = "the module's input" if labels[0] in TOTALS else f"the sum of {len(labels)} rails"
    return Found(RailPower(info, locate), f"{what} ({', '.join(labels)}) shows {power_w:.2f} W")


def _rails(root: Path) -> list[Channel]:
    """The connected rails with a label that can be read, or that only permission keeps from it."""
    found = [
        dataclasses.replace(channel, label=channel.label or BOARD) if chip.name == "ina238" else channel
        for chip in chips(root / "sys/class/hwmon")
        if chip.name == "ina3221" or (chip.name == "ina238" and _is_jetson(root))
        for channel in chip.channels
        if not channel.counts
    ]
    # a kernel shows the chip one way or the other
    return [rail for rail in found or _iio_rails(root) if _is_connected(rail)]


def _iio_rails(root: Path) -> list[Channel]:
    found = []
    for file in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        number = file.name.removeprefix("rail_name_")
        power = file.parent / f"in_power{number}_input"
        if number.isdecimal() and power.exists():
            found.append(Channel(int(number), text(file), False, (power,), MILLIWATT))
    return found


def _is_connected(rail: Channel) -> bool:
    if not rail.label or NOT_CONNECTED.search(rail.label.upper()):
        return False
    try:
        rail.value()
    except PermissionError:
        return True
    except (OSError, ValueError):  # a channel that is switched off answers "no data"
        return False
    return True


def _is_jetson(root: Path) -> bool:
    return "nvidia,tegra" in text(root / "proc/device-tree/compatible")


def _period_s(root: Path) -> float:
    """The slowest chip's; the driver counts all its channels and samples in."""
    periods = [chip.period_s or 0.0 for chip in chips(root / "sys/class/hwmon") if chip.name in CHIPS]
    return max([PERIOD_S, *periods])


def _lsb_w(rails: list[Channel]) -> float | None:
    """One count of power, W: the chip's count of current times the voltage, in quadrature over the rails."""
    squares = []
    for rail in rails:
        try:
            shunt_uohm = integer(rail.files[0].parent / f"shunt{rail.number}_resistor")
            squares.append((SHUNT_LSB_UV / shunt_uohm * integer(rail.files[0]) * 1e-3) ** 2)
        except (OSError, ValueError, ZeroDivisionError):
            return None
    return math.sqrt(sum(squares))
