"""Plugins: sources that other packages bring, by an entry point in the group ``jouletune.sources``.

The entry point's name is the name of the source; it points to a module, or an object, with
``probe(argument, params, device) -> Probe``, like the modules in `hardware.sources`. A plug-in is code of unknown
quality: its errors become the reason shown in ``jouletune sources``, and never end a run.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from hardware.source import (
    CounterSource,
    EstimateSource,
    Found,
    NoPermission,
    NotFound,
    NullSource,
    PowerSource,
    Probe,
    Source,
    SourceInfo,
)

GROUP = "jouletune.sources"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""A colon begins the argument of a name and a question mark its parameters, so neither can be part of it."""

KINDS: dict[str, type] = {
    "counter": CounterSource,
    "power": PowerSource,
    "estimate": EstimateSource,
    "none": NullSource,
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point.

    Attributes:
        name: of the source, or, when that name is refused, the name with its package in brackets.
        package: the distribution that brings it.
        entry: not loaded yet: loading runs the package's code.
        problem: why it is not used; "" if it is.
    """

    name: str
    package: str
    entry: metadata.EntryPoint
    problem: str = ""

    def probe(self, argument: str, params: dict[str, str], device: str) -> Probe:
        """Load it, call its probe and check the result. Exceptions of the probe are passed on."""
        if self.problem:
            return NotFound(self.problem)
        try:
            module: Any = self.entry.load()
        except (Exception, SystemExit) as error:
            return NotFound(f"{self.package} does not load: {type(error).__name__}: {error}")
        if not callable(getattr(module, "probe", None)):
            return NotFound(f"{self.package}: {self.entry.value} has no function probe(argument, params, device)")
        probe = module.probe(argument, params, device)
        wrong = _fault(probe, self.name)
        return NotFound(f"{self.package}: {wrong}") if wrong else probe


def discover(taken: Container[str]) -> tuple[Plugin, ...]:
    """Every entry point of the group, in the order of their names. Imports none of them; never raises.

    Args:
        taken: the names of the built-in sources, which no package can replace.
    """
    try:
        entries = list(metadata.entry_points(group=GROUP))
    except Exception:  # a broken folder of some package must not stop the sources that need none
        return ()
    by_name: dict[str, list[metadata.EntryPoint]] = defaultdict(list)
    for entry in entries:
        # a package that is found twice, e.g. by an editable install, is one package
        if all((entry.value, _package(entry)) != (other.value, _package(other)) for other in by_name[entry.name]):
            by_name[entry.name].append(entry)
    found = []
    for name, rivals in sorted(by_name.items()):
        packages = ", ".join(sorted(_package(entry) for entry in rivals))
        problem = ""
        if name in taken or name == "auto":
            problem = f"{packages} brings a source of this name, but a built-in one cannot be replaced: rename it"
        elif not NAME.fullmatch(name):
            problem = f"{packages} brings a source of this name, but a name consists of letters, digits and . _ -"
        elif len(rivals) > 1:
            problem = f"several packages bring a source of this name ({packages}): uninstall all but one"
        shown = f"{name} ({packages})" if name in taken or name == "auto" else name
        found.append(Plugin(shown, packages, rivals[0], problem))
    return tuple(found)


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


def _fault(answer: object, name: str) -> str:
    """Why the result of a probe cannot be used; "" if it can."""
    if isinstance(answer, NotFound | NoPermission):
        return ""
    if not isinstance(answer, Found):
        return f"its probe returned {type(answer).__name__}, not Found, NotFound or NoPermission"
    if not isinstance(answer.source, Source) or not isinstance(answer.source.info, SourceInfo):
        return "what it found is no hardware.source.Source with a SourceInfo"
    info = answer.source.info
    if info.kind not in KINDS or not isinstance(answer.source, KINDS[info.kind]):
        # the kind decides how samples become joules: watts taken for joules would be a wrong figure, not an error
        return f"its kind is {info.kind!r}, but its source is no {info.kind} source"
    if re.split("[:?]", info.name)[0] != name:
        # a run is taken up again by this name, and results carry it
        return f"its source calls itself {info.name!r}; the name must begin with {name!r}"
    return ""
