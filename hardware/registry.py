"""Registry: the names of the sources, the search for one that works here, and the choice among them."""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from hardware.errors import HardwareError, SourceUnavailableError, UnknownSourceError
from hardware.source import Found, NoPermission, NotFound, Probe, Source

PROBE_LIMIT_S = 20.0
"""A driver that hangs must not hang us. The slowest honest probe, codecarbon's import, takes about a second."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a source lives. Its module has ``probe(argument, params, device) -> Probe``.

    Attributes:
        module: imported only when the source is probed.
        auto_for: the training devices whose work the source sees; ``auto`` considers it for no other.
            An NVML counter would be exact about training on the CPU, and about the wrong chip.
    """

    module: str
    auto_for: frozenset[str] = frozenset()


ANY_DEVICE = frozenset({"*"})

SOURCES: dict[str, Entry] = {
    "rapl": Entry("hardware.sources.rapl", frozenset({"cpu"})),
    "nvml": Entry("hardware.sources.nvml", frozenset({"cuda"})),
    "codecarbon": Entry("hardware.sources.codecarbon", ANY_DEVICE),
    "simulated": Entry("hardware.sources.simulated"),
    "replay": Entry("hardware.sources.replay"),
    "none": Entry("hardware.sources.none"),
}
"""In the order in which ``auto`` tries them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The primary source of a run.

    Attributes:
        source: not yet opened.
        why: one sentence for the user.
        probes: every source that was looked at, with what was found, in order.
    """

    source: Source
    why: str
    probes: tuple[tuple[str, Probe], ...]


def choose(name: str = "auto", *, device: str = "cpu") -> Choice:
    """Find the source to measure a run with.

    Args:
        name: ``auto``, or one of `SOURCES`; ``replay:FILE`` and ``simulated?power_w=5`` carry arguments.
        device: the torch device that trains, e.g. ``cpu`` or ``cuda:1``. It decides what ``auto``
            considers: a source that does not see the device is not a lesser choice but a wrong one.

    Raises:
        UnknownSourceError: no such name or parameter.
        SourceUnavailableError: the source is not usable here; nothing else is ever taken instead of it.
    """
    if name != "auto":
        base, probe = probe_one(name, device=device)
        if isinstance(probe, Found):
            why = f"{base}: {probe.why}"
            if SOURCES[base].auto_for and not _sees(SOURCES[base], device):
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
            return Choice(probe.source, why + _passed_over(probes), tuple(probes))
    reasons = "; ".join(f"{candidate}: {_explain(probe)}" for candidate, probe in probes)
    raise SourceUnavailableError(
        f"nothing here can measure energy ({reasons}). Ask for the source 'none' to measure accuracy only"
    )


def probe_all(*, device: str = "cpu") -> tuple[tuple[str, Probe], ...]:
    """What each source says here, in the order of `SOURCES`. Never raises and never hangs."""
    return tuple(probe_one(name, device=device) for name in SOURCES)


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
        UnknownSourceError: no such name or parameter. Whatever else goes wrong is part of the answer.
    """
    base, argument, params = _parse(name)
    outcome: list[Probe | HardwareError] = []

    def ask() -> None:
        # the one place where anything may be caught: a probe runs other people's drivers
        try:
            module: Any = importlib.import_module(SOURCES[base].module)
            outcome.append(module.probe(argument, params, device))
        except HardwareError as error:
            outcome.append(error)
        except Exception as error:
            outcome.append(NotFound(f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=ask, name=f"probe-{base}", daemon=True)
    thread.start()
    thread.join(PROBE_LIMIT_S)
    if not outcome:
        return base, NotFound(f"it did not answer within {PROBE_LIMIT_S:.0f} s")
    if isinstance(outcome[0], UnknownSourceError):
        raise outcome[0]
    if isinstance(outcome[0], HardwareError):
        return base, NotFound(str(outcome[0]))
    return base, outcome[0]


def _parse(name: str) -> tuple[str, str, dict[str, str]]:
    """Split ``base:argument`` or ``base?key=value&...``. A file's name may hold any character."""
    if name.startswith("replay:"):
        return "replay", name.removeprefix("replay:"), {}
    base, _, query = name.partition("?")
    if base not in SOURCES:
        raise UnknownSourceError.unknown("energy source", base, ("auto", *SOURCES))
    return base, "", dict(parse_qsl(query, keep_blank_values=True))


def _sees(entry: Entry, device: str) -> bool:
    return bool(entry.auto_for & {"*", device.partition(":")[0]})


def _explain(probe: Probe) -> str:
    return probe.how_to_fix if isinstance(probe, NoPermission) else getattr(probe, "reason", "")


def _passed_over(probes: list[tuple[str, Probe]]) -> str:
    """A counter that exists but may not be read is worth a word: mending it beats the best model."""
    barred = [f"{name} is here, but {p.how_to_fix}" for name, p in probes if isinstance(p, NoPermission)]
    return f" ({'; '.join(barred)})" if barred else ""
