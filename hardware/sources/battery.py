"""battery: the energy taken from a battery while nothing charges it, read from /sys/class/power_supply.

``battery`` takes the counter of the charge that is left, ``energy_now`` (uWh), or ``charge_now`` (uAh) times
``voltage_now`` (uV); where there is neither, and for ``battery:power``, it takes ``power_now`` (uW), or ``current_now``
(uA) times ``voltage_now``. These names and units are the kernel's "power supply class".

It is the whole device, screen included, but coarse: a step of the counter is often 10 mWh = 36 J, and a gauge updates
every 1 to 60 s. So a window should have ten minutes (``min_window_s: 600``) with a guard of half a minute, and the
power comes from the gauge's own average. Several batteries are added up; those of mice and headsets are not taken.

Only a battery that discharges shows what the device draws: with a charger the counter rises, or stands still. Drivers
disagree on the sign of current and power while discharging, so it is ignored. Tried on made-up trees, not on a laptop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardware.device.machine import text
from hardware.errors import SourceError, UnknownSourceError
from hardware.source import CounterSource, Found, NotFound, PowerSource, Probe, Sample, Source, SourceInfo
from hardware.sources.hwmon_tree import integer

POWER_SUPPLY = Path("/sys/class/power_supply")
J_PER_UWH = 3.6e-3
GAIN_U = 0.1
STEP_J = 36.0
COUNTER_PERIOD_S = 12.0
"""Assumed. 50 of them, the least that a counter needs, are ten minutes."""

POWER_PERIOD_S = 5.0
"""Assumed: how often a gauge updates its power is not documented."""

KINDS = ("", "counter", "power")


@dataclass(frozen=True, slots=True)
class Pack:
    """One battery's folder."""

    path: Path

    @property
    def status(self) -> str:
        """``Discharging``, ``Charging``, ``Full``, ``Not charging`` or ``Unknown``; "" while it cannot be read."""
        return text(self.path / "status")

    def has(self, *files: str) -> bool:
        """Whether there are all of these files."""
        return all((self.path / file).exists() for file in files)

    def micro(self, file: str) -> int:
        """A file's number. Raises OSError or ValueError."""
        return integer(self.path / file)

    @property
    def counts(self) -> bool:
        """Whether it has a counter."""
        return self.has("energy_now") or self.has("charge_now", "voltage_now")

    @property
    def shows_power(self) -> bool:
        """Whether it shows its power."""
        return self.has("power_now") or self.has("current_now", "voltage_now")

    def power_w(self) -> float:
        """W, whichever way the driver signs it. Raises OSError or ValueError."""
        if self.has("power_now"):
            return abs(self.micro("power_now")) * 1e-6
        return abs(self.micro("current_now") * self.micro("voltage_now")) * 1e-12


class _Batteries(Source):
    """What counter and power share."""

    def __init__(self, info: SourceInfo, packs: Sequence[Pack], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._info = info
        self._packs = tuple(packs)
        self._clock = clock


class BatteryCounter(_Batteries, CounterSource):
    """Joules taken from the batteries since it was opened."""

    def open(self) -> None:
        self._last: list[tuple[int, float]] = []
        self._balance_j = self._total_j = 0.0
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        barred = _why_not(self._packs)
        if barred:
            raise SourceError(f"battery: {barred}")
        try:
            now = [self._level(pack) for pack in self._packs]
        except (OSError, ValueError) as error:
            raise SourceError(f"battery: it is not readable any more: {error}") from error
        for (level, unit_j), (last_level, last_unit_j) in zip(now, self._last, strict=False):
            # charge x the voltage of the moment; the difference of two products would take the sag for energy
            self._balance_j += (last_level - level) * (unit_j + last_unit_j) / 2
        self._last = now
        # a gauge corrects itself upwards now and then; a counter stands still meanwhile
        self._total_j = max(self._total_j, self._balance_j)
        return now_s, self._total_j

    def _level(self, pack: Pack) -> tuple[int, float]:
        """What is left, and the joules of one of its units."""
        if pack.has("energy_now"):
            return pack.micro("energy_now"), J_PER_UWH
        return pack.micro("charge_now"), J_PER_UWH * pack.micro("voltage_now") * 1e-6


class BatteryPower(_Batteries, PowerSource):
    """Power of the batteries. While one is charged there are no samples: a gap costs a repeat and not the run."""

    def open(self) -> None:
        if not self.poll():
            raise SourceError(f"battery: {_why_not(self._packs) or 'it cannot be read any more'}")

    def poll(self) -> list[Sample]:
        if _why_not(self._packs):
            return []
        try:
            return [(self._clock(), sum(pack.power_w() for pack in self._packs))]
        except (OSError, ValueError):
            return []


def probe(argument: str, params: dict[str, str], device: str, *, root: Path = POWER_SUPPLY) -> Probe:
    """Found while a battery of the device itself discharges.

    Raises:
        UnknownSourceError: an argument other than ``counter`` and ``power``.
    """
    if argument not in KINDS:
        raise UnknownSourceError.unknown("kind of 'battery'", argument, KINDS[1:])
    packs = _packs(root)
    if not packs:
        return NotFound("no battery")
    barred = _why_not(packs)
    if barred:
        return NotFound(barred)
    counts, shows_power = all(pack.counts for pack in packs), all(pack.shows_power for pack in packs)
    kind = argument or ("counter" if counts else "power")
    if not (counts if kind == "counter" else shows_power):
        return NotFound(f"{_names(packs)} shows no {'energy' if kind == 'counter' else 'power'}")
    info = SourceInfo(
        name="battery" + (f":{argument}" if argument else ""),
        kind="power",
        scope="board",
        covers=("whole device", "screen"),
        excludes=("charger",),
        period_s=POWER_PERIOD_S,
        gain_u=GAIN_U,
        device={"model": " + ".join(text(pack.path / "model_name") or pack.path.name for pack in packs)},
        params={"batteries": [pack.path.name for pack in packs]},
    )
    if kind == "power":
        return Found(BatteryPower(info, packs), f"{_names(packs)} shows its power while it discharges")
    info = replace(info, kind="counter", resolution=STEP_J, period_s=COUNTER_PERIOD_S)
    why = f"{_names(packs)} counts what is left in steps of some {STEP_J:.0f} J; windows should have ten minutes"
    return Found(BatteryCounter(info, packs), why)


def _packs(root: Path) -> list[Pack]:
    """The batteries that feed the device itself."""
    try:
        folders = sorted(root.iterdir())
    except OSError:
        return []
    return [
        Pack(folder)
        for folder in folders
        if text(folder / "type") == "Battery"
        and text(folder / "scope") != "Device"  # of a mouse or a headset
        and text(folder / "present") != "0"
    ]


def _why_not(packs: Sequence[Pack]) -> str:
    """Say why nothing can be measured now; "" if it can. Of two batteries one may rest while the other is used."""
    states = [pack.status for pack in packs]
    if "Discharging" in states and "Charging" not in states:
        return ""
    shown = ", ".join(
        f"{pack.path.name} says {state or 'nothing'!r}" for pack, state in zip(packs, states, strict=True)
    )
    return f"only a battery that discharges shows what the device draws ({shown}): pull the plug"


def _names(packs: Sequence[Pack]) -> str:
    return " + ".join(pack.path.name for pack in packs)
