"""The energy of a span of work: find a source, sample it, and say in joules what the work cost and how surely.

source (`hardware.sources`) -> `choose` -> `Sampler` -> idle baseline and windows -> `EnergyResult` with its grade
"""

from hardware.errors import HardwareError, SourceError, SourceUnavailableError, UnknownSourceError
from hardware.registry import Choice, choose, open_source, probe_all
from hardware.result import EnergyResult, IdleBaseline
from hardware.sampler import Sampler
from hardware.window import Window

__all__ = [
    "Choice",
    "EnergyResult",
    "HardwareError",
    "IdleBaseline",
    "Sampler",
    "SourceError",
    "SourceUnavailableError",
    "UnknownSourceError",
    "Window",
    "choose",
    "open_source",
    "probe_all",
]
