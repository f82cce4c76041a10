"""Registry: the names of the sources, the probe of each on this machine, and the choice of one."""

from __future__ import annotations

import dataclasses
import importlib
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from hardware import plugins
from hardware.errors import HardwareError, SourceUnavailableError, UnknownSourceError
from hardware.plugins import Plugin
from hardware.source import Found, NoPermission, NotFound, Probe, Source

PROBE_LIMIT_S = 20.0
"""Longest wait for a probe, since a driver may hang. The slowest normal one, codecarbon's import, takes a second."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The module of a source, which has ``probe(argument, params, device) -> Probe``.

    Attributes:
        module: imported only when the source is probed.
        auto_for: the training devices whose work the source sees; ``auto`` considers it for no other.
            An NVML counter would be exact about training on the CPU, and about the wrong chip.
        argument: what may stand after the colon of the name, e.g. ``FILE``; "" if nothing may.
        parameters: whether anything may stand after a question mark. The probe checks what does.
        probe: name of its function in the module.
    """

    module: str
    auto_for: frozenset[str] = frozenset()
    argument: str = ""
    probe: str = "probe"
    parameters: bool = False


ANY_DEVICE = frozenset({"*"})
CPU = frozenset({"cpu"})
CUDA = frozenset({"cuda"})

SOURCES: dict[str, Entry] = {
    # the whole board at its supply comes first, then the module of a Jetson: they see all that the work costs
    "hwmon": Entry("hardware.sources.hwmon", CPU, argument="CHIP", parameters=True),
    "jetson": Entry("hardware.sources.jetson", CPU | CUDA),
    # counters of a chip: a part of the device, but they lose nothing and are never late
    "rapl": Entry("hardware.sources.rapl", CPU),
    "nvml": Entry("hardware.sources.nvml", CUDA),
    "zeus-gpu": Entry("hardware.sources.nvml", CUDA, probe="probe_amd"),
    "zeus-soc": Entry("hardware.sources.zeus_soc", frozenset({"cpu", "mps"})),
    # samples of a part of the device
    "nvml-power": Entry("hardware.sources.nvml", CUDA, argument="FIELD", probe="probe_power"),
    "pmic": Entry("hardware.sources.pmic", CPU),
    # Not for auto: it needs windows of 10 minutes, and whether it can measure changes with a plug, so that the same
    # command would measure with another source tomorrow.
    "battery": Entry("hardware.sources.battery", argument="KIND"),
    # instruments between the supply and the board
    "um24c": Entry("hardware.sources.um", argument="PORT", probe="probe_um24c"),
    "um25c": Entry("hardware.sources.um", argument="PORT", probe="probe_um25c"),
    "um34c": Entry("hardware.sources.um", argument="PORT", probe="probe_um34c"),
    "tc66": Entry("hardware.sources.tc66", argument="PORT"),
    "fnirsi": Entry("hardware.sources.fnirsi", argument="SERIAL", parameters=True),
    "csv": Entry("hardware.sources.csv_lines", argument="PORT", parameters=True),
    "joulescope": Entry("hardware.sources.joulescope", argument="SERIAL"),
    "ppk2": Entry("hardware.sources.ppk2", argument="PORT", parameters=True),
    "lpm01a": Entry("hardware.sources.lpm01a", argument="PORT", parameters=True),
    "shelly": Entry("hardware.sources.shelly", argument="HOST", parameters=True),
    "ipmi": Entry("hardware.sources.bmc", probe="probe_ipmi"),
    "redfish": Entry("hardware.sources.bmc", argument="HOST/CHASSIS", probe="probe_redfish"),
    "codecarbon": Entry("hardware.sources.codecarbon", ANY_DEVICE),
    "simulated": Entry("hardware.sources.simulated", parameters=True),
    "replay": Entry("hardware.sources.replay", argument="FILE"),
    "none": Entry("hardware.sources.simulated", probe="probe_none"),
}
"""In the order in which ``auto`` tries them. Meters on a port are not for auto: to identify one means to write to a
device that may be something else. Nor is a plug-in: installing a package must not change what a run measures."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The primary source of a run.

    Attributes:
        source: not yet opened.
        why: one sentence for the user.
        probes: every source that was probed, with its result, in order.
    """

    source: Source
    why: str
    probes: tuple[tuple[str, Probe], ...]


def choose(name: str = "auto", *, device: str = "cpu", corrected: bool = True) -> Choice:
    """Find the source to measure a run with, corrected by its calibration profile if it has one.

    Args:
        name: ``auto``, one of `SOURCES` or a plug-in's; ``replay:FILE`` and ``simulated?power_w=5`` carry arguments.
        device: the torch device that trains, e.g. ``cpu`` or ``cuda:1``. It decides what ``auto``
            considers: a source that does not see the device is not a lesser choice but a wrong one.
        corrected: False for the bare source, e.g. to calibrate it.

    Raises:
        UnknownSourceError: no such name or parameter.
        SourceUnavailableError: the source is not usable here; nothing else is ever taken instead of it.
        ProfileError: its profile is damaged or of another meter.
    """
    choice = _choose(name, device)
    if not corrected:
        return choice
    from hardware.calibration.profile import correct  # pydantic, which a mere probe does not need

    source, note = correct(choice.source)
    return dataclasses.replace(choice, source=source, why=f"{choice.why}; {note}") if note else choice


def _choose(name: str, device: str) -> Choice:
    if name != "auto":
        base, probe = probe_one(name, device=device)
        if isinstance(probe, Found):
            why = f"{base}: {probe.why}"
            entry = SOURCES.get(base)
            if entry is not None and entry.auto_for and not _sees(entry, device):
                why += f"; it does not see work done on {device}"
            return Choice(probe.source, why, ((base, probe),))
        raise SourceUnavailableError(f"the energy source {base} cannot be used: {_explain(probe)}")
    probes: list[tuple[str, Probe]] = []
    for candidate, entry in SOURCES.items():
        if not _sees(entry, device):
            continue
        _, probe = probe_one(candidate, device=device)
        probes.append((candidate, probe))
        if isinstance(probe, Found):
            why = f"{candidate}: {probe.why}"
            if probe.source.info.kind == "estimate":
                why = f"estimate, not a measurement: no counter or meter was found for {device}; {why}"
            # mending the permission of a better source beats the best model
            barred = [f"{name} is here, but {p.how_to_fix}" for name, p in probes if isinstance(p, NoPermission)]
            why += f" ({'; '.join(barred)})" if barred else ""
            return Choice(probe.source, why, tuple(probes))
    reasons = "; ".join(f"{candidate}: {_explain(probe)}" for candidate, probe in probes)
    raise SourceUnavailableError(
        f"nothing here can measure energy ({reasons}). Ask for the source 'none' to measure accuracy only"
    )


def probe_all(*, device: str = "cpu") -> tuple[tuple[str, Probe], ...]:
    """Probe each source: `SOURCES` in their order, then the plug-ins. Never raises and never hangs."""
    found = [probe_one(name, device=device) for name in SOURCES]
    for plugin in plugins.discover(SOURCES):
        try:
            probe = _probe(plugin.name, plugin, "", {}, device)
        except UnknownSourceError as error:  # it has to be named with more than its name
            probe = NotFound(str(error))
        found.append((plugin.name, probe))
    return tuple(found)


def open_source(name: str = "auto", *, device: str = "cpu") -> Source:
    """`choose`, and open what was chosen. The caller closes it.

    Raises:
        UnknownSourceError, SourceUnavailableError: see `choose`.
        SourceError: it was found, but did not open.
    """
    source = choose(name, device=device).source
    source.open()
    return source


def probe_one(name: str, *, device: str = "cpu") -> tuple[str, Probe]:
    """The bare name of a source and what its probe found, within `PROBE_LIMIT_S`.

    Raises:
        UnknownSourceError: no such name or parameter. Any other fault is part of the result.
    """
    base, argument, params = _parse(name)
    if base in SOURCES:
        return base, _probe(base, SOURCES[base], argument, params, device)
    plugin = next(plugin for plugin in plugins.discover(SOURCES) if plugin.name == base)
    return base, _probe(base, plugin, argument, params, device)


def _probe(base: str, entry: Entry | Plugin, argument: str, params: dict[str, str], device: str) -> Probe:
    """Run a probe in a thread of its own, which is left behind if it hangs.

    Raises:
        UnknownSourceError: no such parameter.
    """
    outcome: list[Probe | HardwareError] = []

    def run() -> None:
        # the one place where anything may be caught: a probe runs other people's drivers
        try:
            if isinstance(entry, Plugin):
                outcome.append(entry.probe(argument, params, device))
            else:
                module: Any = importlib.import_module(entry.module)
                outcome.append(getattr(module, entry.probe)(argument, params, device))
        except HardwareError as error:
            outcome.append(error)
        except (Exception, SystemExit) as error:
            outcome.append(NotFound(f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, name=f"probe-{base}", daemon=True)
    thread.start()
    thread.join(PROBE_LIMIT_S)
    if not outcome:
        return NotFound(f"it did not answer within {PROBE_LIMIT_S:.0f} s")
    if isinstance(outcome[0], UnknownSourceError):
        raise outcome[0]
    if isinstance(outcome[0], HardwareError):
        return NotFound(str(outcome[0]))
    return outcome[0]


def _parse(name: str) -> tuple[str, str, dict[str, str]]:
    """Split ``base:argument?key=value&...``; both tails may be missing.

    An address may hold colons, so the base ends at the first; a trace's file name may hold any character.
    """
    before, mark, query = name.partition("?")
    base, colon, argument = before.partition(":")
    if base not in SOURCES and base not in (known := [plugin.name for plugin in plugins.discover(SOURCES)]):
        raise UnknownSourceError.unknown("energy source", base, ("auto", *SOURCES, *known))
    if base == "replay":
        return base, argument + mark + query, {}
    if colon and base in SOURCES and not SOURCES[base].argument:
        raise UnknownSourceError(f"the energy source {base!r} takes nothing after a colon, not {argument!r}")
    params = dict(parse_qsl(query, keep_blank_values=True))
    if params and base in SOURCES and not SOURCES[base].parameters:
        raise UnknownSourceError(f"the energy source {base!r} takes no parameters, not {next(iter(params))!r}")
    return base, argument, params


def is_of_this_machine(name: str) -> bool:
    """Whether a source is a part of this machine, and no meter that anything may hang on."""
    base = name.partition("?")[0].partition(":")[0]
    return base in ("battery", "ipmi") or bool(base in SOURCES and SOURCES[base].auto_for)


def _sees(entry: Entry, device: str) -> bool:
    return bool(entry.auto_for & {"*", device.partition(":")[0]})


def _explain(probe: Probe) -> str:
    return probe.how_to_fix if isinstance(probe, NoPermission) else getattr(probe, "reason", "")
