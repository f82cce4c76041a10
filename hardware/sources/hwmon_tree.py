"""The tree under /sys/class/hwmon: chips, and the channels of each that give power or energy.

The kernel's "hwmon sysfs interface" fixes names and units: ``in*_input`` mV, ``curr*_input`` mA, ``power*_input`` and
``power*_average`` uW, ``energy*_input`` uJ, ``*_label`` text, ``update_interval`` ms. The number of a folder changes at
every boot; a chip is known by its ``name`` and by the device that its folder links to (``1-0040`` is address 0x40 on
I2C bus 1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HWMON = Path("/sys/class/hwmon")

MICRO = 1e-6
"""uW to W, uJ to J, and mV x mA to W."""

LIMIT = 2**63
"""No file of the kernel holds a larger number."""

FILE = re.compile(r"(energy|power|curr|in)([0-9]{1,3})_(input|average)")

PAIRED_VOLTAGE = {"powerz": {1: 0}}
"""Where a current's voltage has another number: this driver counts voltages from 0 (VBUS) and currents from 1."""

RAIL_NUMBERS = {"ina3221": range(1, 4)}
"""Higher numbers of this driver are shunt voltages and sums: voltage x current of those is no power."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One place where a chip measures.

    Attributes:
        number: the driver's.
        label: the driver's, or "".
        counts: True if the value is joules since some moment, False if it is watts.
        files: one file, or a voltage and a current that are multiplied.
        scale: from the (product of the) files to W or J.
    """

    number: int
    label: str
    counts: bool
    files: tuple[Path, ...]
    scale: float = MICRO

    def value(self) -> float:
        """W or J as it stands.

        Raises:
            OSError: not readable; a meter that was unplugged, too.
            ValueError: not a number.
        """
        return math.prod(integer(path) for path in self.files) * self.scale

    @property
    def shown(self) -> str:
        """How a user sees and names it."""
        return self.label or str(self.number)


@dataclass(frozen=True, slots=True)
class Chip:
    """One hwmon folder."""

    path: Path
    name: str
    device: str

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Where it measures, by number. The best file of each: a counter, else a power, else voltage and current."""
        return _channels(self)

    @property
    def period_s(self) -> float | None:
        """How often it updates, if the driver says so."""
        # an averaging power meter has an interval of its own, ms as well
        for file in ("power1_average_interval", "update_interval"):
            try:
                period_s = integer(self.path / file) * 1e-3
            except (OSError, ValueError):
                continue
            if period_s > 0:
                return period_s
        return None


def chips(root: Path = HWMON) -> list[Chip]:
    """All chips that have a name, in the order of their folders' numbers. Never raises."""
    found = []
    try:
        folders = sorted(root.iterdir(), key=lambda path: (len(path.name), path.name))
    except OSError:
        return []
    for folder in folders:
        name = text(folder / "name")
        if name:
            link = folder / "device"
            found.append(Chip(folder, name, link.resolve().name if link.exists() else folder.name))
    return found


def lsb_w(channels: Sequence[Channel]) -> float | None:
    """One count of power, W: the current's mA times the voltage as it is now, in quadrature over the channels.

    None where a channel gives power itself: what its count is worth depends on the chip and its shunt.
    """
    try:
        squares = [(integer(channel.files[0]) * 1e-6) ** 2 for channel in channels if len(channel.files) == 2]
    except (OSError, ValueError):
        return None
    return math.sqrt(sum(squares)) if squares and len(squares) == len(channels) else None


def integer(path: Path) -> int:
    """The number in a file.

    Raises:
        OSError: not readable.
        ValueError: anything but one integer of 64 bits.
    """
    value = int(path.read_text())  # UnicodeDecodeError is a ValueError
    if not -LIMIT <= value < LIMIT:
        raise ValueError(f"{path.name} holds a number of more than 64 bits")
    return value


def text(path: Path) -> str:
    """The text in a file; "" where there is none to read."""
    try:
        return path.read_text(errors="replace").strip().strip("\x00").strip()
    except OSError:
        return ""


def _channels(chip: Chip) -> tuple[Channel, ...]:
    try:
        names = sorted(path.name for path in chip.path.iterdir())
    except OSError:
        return ()
    # sorted: "average" comes before "input", which is wanted where a driver has both
    there = {(m[1], int(m[2])): name for name in names if (m := FILE.fullmatch(name))}
    found = []
    for number in sorted({number for _, number in there}):
        if number not in RAIL_NUMBERS.get(chip.name, (number,)):
            continue
        voltage = PAIRED_VOLTAGE.get(chip.name, {}).get(number, number)
        files: tuple[str, ...]
        if ("energy", number) in there:
            files = (there["energy", number],)
        elif ("power", number) in there:
            files = (there["power", number],)
        elif ("in", voltage) in there and ("curr", number) in there:
            files = (there["in", voltage], there["curr", number])
        else:
            continue
        stems = (files[0].partition("_")[0], f"curr{number}", f"in{voltage}", f"in{number}")
        label = next(filter(None, (text(chip.path / f"{stem}_label") for stem in stems)), "")
        paths = tuple(chip.path / file for file in files)
        found.append(Channel(number, label, files[0].startswith("energy"), paths))
    return tuple(found)
