"""The energy of a span of work: find a source, sample it, and compute joules with their uncertainty and grade.

source (`hardware.sources`) -> `choose` -> `Sampler` -> idle baseline and windows -> `EnergyResult` with its grade
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware.device.changes import Cooldown, cool_down
    from hardware.errors import HardwareError, RefusedError, SourceError, SourceUnavailableError, UnknownSourceError
    from hardware.measure.grade import FATAL, FLAGS, window_needed_s
    from hardware.measure.idle import IdleBaseline
    from hardware.measure.result import EnergyResult
    from hardware.measure.sampler import Sampler
    from hardware.measure.window import Window
    from hardware.registry import Choice, choose, open_source, probe_all

__all__ = [
    "FATAL",
    "FLAGS",
    "Choice",
    "Cooldown",
    "EnergyResult",
    "HardwareError",
    "IdleBaseline",
    "RefusedError",
    "Sampler",
    "SourceError",
    "SourceUnavailableError",
    "UnknownSourceError",
    "Window",
    "choose",
    "cool_down",
    "open_source",
    "probe_all",
    "window_needed_s",
]

_HOMES = ("errors", "device.changes", "measure.grade", "measure.idle", "measure.result", "measure.sampler", "registry")
"""Modules of the names above, imported when one of these is first taken: most commands measure nothing."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            found = getattr(importlib.import_module(f"hardware.{home}"), name, None)
            if found is not None:
                globals()[name] = found
                return found
    try:
        return importlib.import_module(f"hardware.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module 'hardware' has no attribute {name!r}") from None
