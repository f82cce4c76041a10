"""The tree under /sys/class/hwmon: chips, the channels of each that give power or energy, and sums of channels.

The kernel's "hwmon sysfs interface" fixes names and units: ``in*_input`` mV, ``curr*_input`` mA, ``power*_input`` and
``power*_average`` uW, ``energy*_input`` uJ, ``*_label`` text, ``update_interval`` ms. The number of a folder changes at
every boot; a chip is known by its ``name`` and by the device that its folder links to (``1-0040`` is address 0x40 on
I2C bus 1).
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.device.machine import text
from hardware.errors import SourceError
from hardware.source import CounterSource, Health, PowerSource, Sample, SourceInfo

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
    """One channel of a chip.

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
        """The present value, W or J.

        Raises:
            OSError: not readable; a meter that was unplugged, too.
            ValueError: not a number.
        """
        return math.prod(integer(path) for path in self.files) * self.scale

    @property
    def shown(self) -> str:
        """The name that a user sees and gives."""
        return self.label or str(self.number)


@dataclass(frozen=True, slots=True)
class Chip:
    """One hwmon folder."""

    path: Path
    name: str
    device: str

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Its channels, by number. The best file of each: a counter, else a power, else voltage and current."""
        return _channels(self)

    @property
    def period_s(self) -> float | None:
        """Its update period, if the driver states one."""
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


Locate = Callable[[], Sequence[Channel]]
"""Finds the channels, each time anew: a meter that is plugged in again has a new folder. [] while it is unplugged."""

SEARCH_S = 1.0
"""Time between two searches for a meter that is unplugged."""

DIRECTION_W = 0.05
"""Below this the sign of a power is noise."""

GLITCH, GLITCH_READINGS, GLITCH_AMONG = 5.0, 3, 50
"""Up to 3 readings in a row of more than 5 times the largest of the last 50 are no power, if what follows is none."""

LEAST_W = 0.5
"""A glitch is measured against this at least: a rail that rests at 0 W may begin to work."""

MAX_POWER_W = 5000.0
"""No rail of a computer carries more; a counter that seems to was reset or misread."""


class RailPower(PowerSource):
    """The sum of some channels' power, read at each poll.

    A meter that is unplugged gives no samples until it is back: the gap makes that repeat X, and the run goes on. A
    reading that rises far above the others and falls back at once is dropped and counted as implausible; until that is
    decided it is held back, with its time.

    Args:
        either_way: the meter can be put into the line either way round, so either sign may mean that the device draws
            power. The first clear reading after it was found decides; after that noise around zero keeps its sign, or
            its mean would not be zero.
    """

    def __init__(
        self,
        info: SourceInfo,
        locate: Locate,
        *,
        either_way: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._info = info
        self._locate = locate
        self._either_way = either_way
        self._clock = clock
        self._channels: Sequence[Channel] = ()
        self._sign = 1 if not either_way else 0
        self._search_at_s = 0.0
        self._disconnects = self._implausible = 0
        self._problem: str | None = None
        self._recent_w: deque[float] = deque(maxlen=GLITCH_AMONG)
        self._doubtful: list[Sample] = []

    @property
    def health(self) -> Health:
        return Health(
            connected=bool(self._channels),
            disconnects=self._disconnects,
            implausible=self._implausible,
            problem=self._problem,
        )

    def open(self) -> None:
        self._search_at_s = self._clock()
        self._disconnects, self._implausible, self._problem = 0, 0, None
        self._recent_w.clear()
        self._doubtful = []
        if not self.poll():
            raise SourceError(f"{self._info.name} cannot be read any more")

    def close(self) -> None:
        self._channels = ()

    def poll(self) -> list[Sample]:
        if not self._channels:
            if self._clock() < self._search_at_s:
                return []
            self._search_at_s = self._clock() + SEARCH_S
            self._channels = self._locate()
            self._sign = 0 if self._either_way else 1
            if not self._channels:
                return []
        before_s = self._clock()
        try:
            power_w = sum(channel.value() for channel in self._channels)
        except (OSError, ValueError) as error:
            self._channels = ()
            self._disconnects += 1
            self._problem = str(error)
            return []
        # the files are read one after the other; on a USB meter each takes a transaction of its own
        at_s = (before_s + self._clock()) / 2
        if self._sign == 0:
            if abs(power_w) < DIRECTION_W:
                return self._plausible((at_s, abs(power_w)))
            self._sign = -1 if power_w < 0 else 1
        return self._plausible((at_s, self._sign * power_w))

    def _plausible(self, sample: Sample) -> list[Sample]:
        """What can be passed on once this reading is known, oldest first."""
        waiting, self._doubtful = [*self._doubtful, sample], []
        limit_w = GLITCH * max(LEAST_W, *self._recent_w) if self._recent_w else math.inf
        if abs(sample[1]) > limit_w and len(waiting) <= GLITCH_READINGS:
            self._doubtful = waiting
            return []
        if abs(sample[1]) <= limit_w and len(waiting) > 1:
            self._implausible += len(waiting) - 1
            self._problem = (
                f"a reading cannot be true: {waiting[0][1]:g} W, between others below {limit_w / GLITCH:g} W"
            )
            waiting = [sample]
        self._recent_w.extend(power_w for _, power_w in waiting)
        return waiting


class RailCounter(CounterSource):
    """The sum of some channels' energy counters."""

    def __init__(self, info: SourceInfo, locate: Locate, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._info = info
        self._locate = locate
        self._clock = clock
        self._channels: Sequence[Channel] = ()
        self._last_j: list[float] = []
        self._last_s = 0.0

    def open(self) -> None:
        self._channels = self._locate()
        self._last_j = []
        if not self._channels:
            raise SourceError(f"{self._info.name} is not here any more")
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        try:
            counts_j = [channel.value() for channel in self._channels]
        except (OSError, ValueError) as error:
            raise SourceError(f"{self._info.name} is not readable any more: {error}") from error
        if any(now_j < last_j for now_j, last_j in zip(counts_j, self._last_j, strict=False)):
            # drivers differ in where they wrap and none documents it; a guess would be a wrong joule
            raise SourceError(f"{self._info.name} went backwards; was it reset?")
        limit_j = MAX_POWER_W * max(now_s - self._last_s, 0.01)
        if self._last_j and sum(counts_j) - sum(self._last_j) > limit_j:
            raise SourceError(f"{self._info.name} jumped by {sum(counts_j) - sum(self._last_j):.0f} J; was it reset?")
        self._last_s = now_s
        self._last_j = counts_j
        return now_s, sum(counts_j)
