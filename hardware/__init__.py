"""The energy of a span of work: find a source, sample it, and compute joules with their uncertainty and grade.

source (`hardware.sources`) -> `choose` -> `Sampler` -> idle baseline and windows -> `EnergyResult` with its grade
"""

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
