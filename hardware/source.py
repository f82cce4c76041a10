"""Source: something that yields energy, what it says about itself, and how a search for it can end."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["counter", "power", "estimate", "none"]
"""counter: monotone joules. power: timestamped watts. estimate: a model, no sensor. none: measures nothing."""

Scope = Literal["board", "soc", "cpu", "gpu", "rail", "model"]
GainBasis = Literal["assumed", "datasheet", "calibrated"]

Sample = tuple[float, float]
"""(time.monotonic() in seconds, watts of a power source or cumulative joules of a counter)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What a source measures and how well. It goes into the manifest of every run.

    Attributes:
        name: the name that asks for it again, e.g. ``rapl`` or ``replay:trace.csv``.
        kind: counter, power, estimate or none.
        scope: how much of the device is inside. ``board`` is all that the battery or plug pays for.
        covers: the parts that are counted, e.g. ``("package-0", "dram-0")``.
        excludes: parts that draw power and are known not to be counted.
        resolution: one count, J for a counter and W for a power source; None if it has none.
        period_s: effective period: the slower of how often it updates and how often it is asked.
        latency_s: how late a value is.
        wrap_j: energy at which a hardware counter starts again at 0. What ``read`` returns is unwrapped.
        gain_u: relative standard uncertainty (k = 1) of the scale.
        offset_u: standard uncertainty (k = 1) of the zero, W.
        gain_basis: where these two come from.
        clock: whose clock the timestamps are: ``host`` or ``device``.
        device: model, serial number, firmware; whatever the meter says.
        params: what else decides the figures, e.g. the constants of a model.
    """

    name: str
    kind: Kind
    scope: Scope
    covers: tuple[str, ...]
    excludes: tuple[str, ...] = ()
    resolution: float | None = None
    period_s: float
    latency_s: float = 0.0
    wrap_j: float | None = None
    gain_u: float
    offset_u: float = 0.0
    gain_basis: GainBasis = "assumed"
    clock: str = "host"
    device: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


class Source(ABC):
    """Base of all sources. Made cheaply by a probe; ``open`` takes hold of the device."""

    @property
    @abstractmethod
    def info(self) -> SourceInfo:
        """What this source measures. Complete once the source is open."""

    def open(self) -> None:  # noqa: B027 - most sources hold nothing open
        """Take hold of the device.

        Raises:
            SourceError: it does not answer any more.
        """

    def close(self) -> None:  # noqa: B027
        """Let go of the device. Safe to call twice, and before ``open``."""

    def mark(self, t_mono_s: float, *, working: bool) -> None:  # noqa: B027
        """Hear that the work begins or has ended. Only the simulation needs to know."""


class CounterSource(Source):
    """A monotone energy counter. Energy is the difference of two readings, so lost polls lose nothing."""

    @abstractmethod
    def read(self) -> Sample:
        """(monotonic time in s, joules since some fixed moment), unwrapped and never decreasing.

        Raises:
            SourceError: the counter vanished, or went backwards by more than a wrap explains.
        """


class PowerSource(Source):
    """Timestamped watts, to be integrated."""

    @abstractmethod
    def poll(self) -> list[Sample]:
        """The samples since the last call, oldest first: (monotonic time in s, watts).

        Raises:
            SourceError: the meter vanished or sent nonsense.
        """


class EstimateSource(Source):
    """A model that gives joules for a span, with nothing measured."""

    @abstractmethod
    def begin(self) -> None:
        """Start a span. One at a time.

        Raises:
            SourceError: the model could not be started.
        """

    @abstractmethod
    def end(self) -> float:
        """End the span and return its joules.

        Raises:
            SourceError: the model gave nothing.
        """


class NullSource(Source):
    """Measures nothing, for those who only want accuracies: every energy is None."""

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(name="none", kind="none", scope="model", covers=(), period_s=0.0, gain_u=0.0)


@dataclass(frozen=True, slots=True)
class Found:
    """The source is here and can be used; ``why`` says on what ground, in a few words."""

    source: Source
    why: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """The source is not here, or cannot be used as it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoPermission:
    """The source is here, but this user may not read it."""

    how_to_fix: str


Probe = Found | NotFound | NoPermission
