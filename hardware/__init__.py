"""The energy of a span of work: find a source, sample it, and say in joules what the work cost and how surely.

source (`hardware.sources`) -> `choose` -> `Sampler` -> idle baseline and windows -> `EnergyResult` with its grade
"""

from hardware.environment import Cooldown, cool_down
from hardware.errors import HardwareError, SourceError, SourceUnavailableError, UnknownSourceError
from hardware.grade import FATAL, FLAGS, window_needed_s
from hardware.idle import IdleBaseline
from hardware.registry import Choice, choose, open_source, probe_all
from hardware.result import EnergyResult
from hardware.sampler import Sampler
from hardware.window import Window

__all__ = [
    "FATAL",
    "FLAGS",
    "Choice",
    "Cooldown",
    "EnergyResult",
    "HardwareError",
    "IdleBaseline",
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
