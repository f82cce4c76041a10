"""hwmon: any sensor that the Linux kernel shows as a hwmon chip.

``hwmon`` alone finds a POWER-Z KM003C or KM002C (kernel driver ``powerz``), the one such chip that is a meter for a
whole device. What any other chip measures depends on its wiring, so the user has to name it:

    hwmon:ina226                 the only ina226 with one channel
    hwmon:ina226@1-0041          the one at address 0x41 of I2C bus 1
    hwmon:ina3221/VDD_5V         one channel, by its label or number
    hwmon:ina3221/1+3            two, added up
    hwmon:ina226?board=1         it sits in the supply line: all that the board draws passes it

A KM003C reads to 1 mV and 1 mA through the driver, voltage and current in two USB transactions. Its PC port belongs on
another host where that is possible, or the meter's own consumption is part of the figure. Its current is signed.

Written against the kernel's documents of hwmon, powerz, ina2xx and ina3221; tried on made-up trees, not on a meter.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hardware.source import Found, NoPermission, NotFound, Probe, SourceInfo
from hardware.sources.hwmon_tree import HWMON, Channel, Chip, RailCounter, RailPower, chips, lsb_w
from hardware.sources.parameters import numbers

METER = "powerz"
MIN_METER_W = 0.3
"""No computer that runs this draws less; a meter that shows less is not in this machine's supply."""

PERIOD_S = 0.1
"""Assumed where the driver does not say how often it updates."""

METER_GAIN_U = 0.01
INA_GAIN_U = 0.02
OTHER_GAIN_U = 0.05

HOW_TO_FIX = (
    "it may not be read. To allow it until the next boot: sudo chmod a+r {files}. For good: put "
    'SUBSYSTEM=="hwmon", ACTION=="add", ATTR{{name}}=="{name}", RUN+="/bin/sh -c \'chmod a+r {globs}\'" '
    "into /etc/udev/rules.d/70-hwmon.rules"
)


class NotTakenError(Exception):
    """An argument names no channels, and why. Caught in `probe` and while a meter is searched for."""


def probe(argument: str, params: dict[str, str], device: str, *, root: Path = HWMON) -> Probe:
    """Found when the channels that the argument names can be read.

    Args:
        argument: ``NAME[@DEVICE][/CHANNEL[+CHANNEL...]]``, or "" for a meter that needs no name.
        params: ``board=1`` if everything that the device draws passes the sensor.
    """
    board = numbers("hwmon", params, {"board": 0.0})["board"] > 0
    try:
        chip, channels = _take(argument, root)
        value = sum(channel.value() for channel in channels)
    except NotTakenError as error:
        return NotFound(str(error))
    except PermissionError:
        files = [path for channel in channels for path in channel.files]
        globs = " ".join(f"/sys%p/{path.name}" for path in files)
        return NoPermission(HOW_TO_FIX.format(files=" ".join(map(str, files)), name=chip.name, globs=globs))
    except (OSError, ValueError) as error:
        return NotFound(f"{chip.name} cannot be read: {error}")
    if not argument and abs(value) < MIN_METER_W:
        return NotFound(
            f"a POWER-Z meter shows {value:.2f} W, so it is not in the supply of this machine; "
            f"if it is, ask for hwmon:{METER}"
        )
    name = "hwmon" + (f":{argument}" if argument else "") + ("?board=1" if board else "")
    info = _info(name, chip, channels, board=board or chip.name == METER)

    def locate() -> tuple[Channel, ...]:
        try:
            return _take(argument, root)[1]
        except NotTakenError:
            return ()

    shown = ", ".join(channel.shown for channel in channels)
    if info.kind == "counter":
        return Found(RailCounter(info, locate), f"{chip.name} ({chip.device}) has an energy counter at {shown}")
    note = "; what passes through it is taken to be this machine" if chip.name == METER else ""
    return Found(
        RailPower(info, locate, either_way=chip.name == METER),
        f"{chip.name} ({chip.device}) shows {abs(value):.2f} W at {shown}{note}",
    )


def _take(argument: str, root: Path) -> tuple[Chip, tuple[Channel, ...]]:
    """The chip and the channels that an argument names.

    Raises:
        NotTakenError: none, or more than one; the message lists what there is.
    """
    all_chips = chips(root)
    if not argument:
        if not any(chip.name == METER for chip in all_chips):
            raise NotTakenError(_nothing_to_take(all_chips))
        argument = METER
    address, _, wanted = argument.partition("/")
    chip = _chip(address, all_chips)
    channels = chip.channels
    if not channels:
        raise NotTakenError(f"{chip.name} shows neither power nor energy, nor voltage and current of one channel")
    if not wanted and len(channels) == 1:
        return chip, channels
    listed = ", ".join(f"{channel.number}" + f" ({channel.label})" * bool(channel.label) for channel in channels)
    if not wanted:
        # some may be parts of others: adding them all up could count a part twice
        raise NotTakenError(f"{chip.name} has the channels {listed}; name one, hwmon:{address}/{channels[0].number}")
    picked: list[Channel] = []
    for part in [wanted] if any(wanted == channel.label for channel in channels) else wanted.split("+"):
        match = [channel for channel in channels if part in (str(channel.number), channel.label)]
        if len(match) != 1 or match[0] in picked:
            raise NotTakenError(f"{chip.name} has no one channel {part!r}; it has {listed}")
        picked += match
    if len({channel.counts for channel in picked}) > 1:
        raise NotTakenError(f"of the channels {wanted} some are counters and some are not; they cannot be added")
    return chip, tuple(picked)


def _chip(address: str, all_chips: list[Chip]) -> Chip:
    name, _, device = address.partition("@")
    named = [chip for chip in all_chips if chip.name == name]
    if not named:
        names = ", ".join(sorted({chip.name for chip in all_chips if chip.channels}))
        raise NotTakenError(
            f"no chip is called {name!r}; " + (f"with power: {names}" if names else "none here measures power")
        )
    fitting = [chip for chip in named if device in ("", chip.device)]
    if len(fitting) != 1:
        addresses = ", ".join(f"hwmon:{name}@{chip.device}" for chip in named)
        raise NotTakenError(f"{len(named)} chips are called {name!r}; ask for one of {addresses}")
    return fitting[0]


def _info(name: str, chip: Chip, channels: tuple[Channel, ...], *, board: bool) -> SourceInfo:
    meter, ina = chip.name == METER, chip.name.startswith("ina")
    lsb = lsb_w(channels)
    info = SourceInfo(
        name=name,
        kind="power",
        scope="board" if board else "rail",
        covers=("all behind the meter",) if meter else tuple(channel.shown for channel in channels),
        excludes=("power supply",) if board else ("all that this rail does not feed",),
        resolution=lsb,
        # a chip with an interval of 1 ms is still read over a slow bus
        period_s=max(chip.period_s or PERIOD_S, 0.02),
        gain_u=METER_GAIN_U if meter else INA_GAIN_U if ina else OTHER_GAIN_U,
        # nothing is known of the zero but that it is no better than one count
        offset_u=lsb or 0.0,
        device={"chip": chip.name, "device": chip.device},
        params={"files": [path.name for channel in channels for path in channel.files], "board": board},
    )
    if channels[0].counts:
        return replace(info, kind="counter", resolution=1e-6, offset_u=0.0)
    return info


def _nothing_to_take(all_chips: list[Chip]) -> str:
    able = [f"hwmon:{chip.name}" for chip in all_chips if chip.channels]
    if not able:
        return "no POWER-Z meter, and no other chip of this kernel measures power"
    return f"no POWER-Z meter; what these measure depends on their wiring, name one: {', '.join(dict.fromkeys(able))}"
