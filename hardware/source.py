"""Source: a counter, meter or model that yields energy, the facts it states, and the outcomes of a search for it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Kind = Literal["counter", "power", "estimate", "none"]
"""counter: monotone joules. power: timestamped watts. estimate: a model, no sensor. none: measures nothing."""

Scope = Literal["board", "soc", "cpu", "gpu", "rail", "model"]
GainBasis = Literal["assumed", "datasheet", "calibrated"]

Sample = tuple[float, float]
"""(time.monotonic() in seconds, watts of a power source or cumulative joules of a counter)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What a source measures, with period and uncertainty. It goes into the manifest of every run.

    Attributes:
        name: the name to choose it by again, e.g. ``rapl`` or ``replay:trace.csv``.
        kind: counter, power, estimate or none.
        scope: how much of the device is measured. ``board`` is everything that the battery or plug supplies.
        covers: the parts that are counted, e.g. ``("package-0", "dram-0")``.
        excludes: parts that draw power and are known not to be counted.
        resolution: one count, J for a counter and W for a power source; None if it has none.
        period_s: effective period: the longer of its update period and the time between two requests.
        latency_s: age of a value when it arrives.
        averages: part of the period that a reading of power is the mean of: 1 for all of it, 0 for a moment. None where
            that is not known; then it counts as a moment.
        wrap_j: energy at which a hardware counter starts again at 0. What ``read`` returns is unwrapped.
        gain_u: relative standard uncertainty (k = 1) of the scale.
        offset_u: standard uncertainty (k = 1) of the zero, W.
        zero_w: power that the zero of an unchecked meter may be off, W; 0 where it was calibrated or cannot be off.
        gain_basis: the basis of these three.
        clock: clock of the timestamps: ``host`` or ``device``.
        device: model, serial number and firmware, as far as the meter sends them.
        params: what else the figures depend on, e.g. the constants of a model.
    """

    name: str
    kind: Kind
    scope: Scope
    covers: tuple[str, ...]
    excludes: tuple[str, ...] = ()
    resolution: float | None = None
    period_s: float
    latency_s: float = 0.0
    averages: float | None = None
    wrap_j: float | None = None
    gain_u: float
    offset_u: float = 0.0
    zero_w: float = 0.0
    gain_basis: GainBasis = "assumed"
    clock: str = "host"
    device: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Connection and losses of a source, counted from `Source.open` on; `since` gives the counts of a span.

    Attributes:
        connected: it delivers samples at present. A meter that was unplugged tries to connect again for ever.
        disconnects: how often the connection was lost. What was drawn meanwhile is in no sample and no counter.
        lost: samples known to be missing: gaps in its numbering, requests without answer.
        bad_frames: what arrived broken, and was dropped.
        implausible: readings that cannot be true, e.g. volts x amperes far from the watts, and were dropped.
        problem: the latest fault in words.
    """

    connected: bool = True
    disconnects: int = 0
    lost: int = 0
    bad_frames: int = 0
    implausible: int = 0
    problem: str | None = None

    def since(self, earlier: Health) -> Health:
        """This state, with the counts since an earlier one."""
        counts = ("disconnects", "lost", "bad_frames", "implausible")
        return dataclasses.replace(self, **{name: getattr(self, name) - getattr(earlier, name) for name in counts})


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCounter:
    """A second path to the same joules: a meter's own counter beside its watts, or watts beside a counter.

    A meter's counter is immune to lost polls. Watts beside a counter are integrated by the source, from its opening on.

    Attributes:
        t_s: when it was read, ``time.monotonic``.
        joules: since the source was opened, never decreasing.
        resolution_j: one count; of integrated watts, what passes in one period of theirs.
        restarts: how often it was set back. A difference across a restart has no meaning.
    """

    t_s: float
    joules: float
    resolution_j: float
    restarts: int = 0


class Clock(Protocol):
    """The functions of the module `time` that a measurement uses; tests pass a clock of their own."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


class EnergyCount:
    """Follows a meter's own energy counter from the moment the source is opened.

    Attributes:
        counter: what it has risen by; None until it was read once.
    """

    def __init__(self) -> None:
        self.counter: OwnCounter | None = None
        self._last_j = 0.0

    def follow(self, energy_j: float | None, t_s: float, count_j: float) -> None:
        """Take the reading energy_j of the counter at t_s; one of its counts is count_j. None is no reading.

        A counter that falls was cleared, by hand on the meter or by its owner's program: it goes on from there.
        """
        if energy_j is None:
            return
        step_j, self._last_j = energy_j - self._last_j, energy_j
        if self.counter is None:
            self.counter = OwnCounter(t_s=t_s, joules=0.0, resolution_j=count_j)
            return
        self.counter = dataclasses.replace(
            self.counter,
            t_s=t_s,
            joules=self.counter.joules + max(0.0, step_j),
            restarts=self.counter.restarts + (step_j < 0),
        )


class Source:
    """Base of all sources. Made cheaply by a probe; ``open`` takes hold of the device.

    Attributes:
        self_timed: a thread of its own takes the samples and stamps them, so that `SampledSource.poll` merely fetches
            them and may be called as seldom as the caller likes.
    """

    self_timed: bool = False
    _info: SourceInfo

    @property
    def info(self) -> SourceInfo:
        """What this source measures, complete once it is open. A subclass sets ``_info`` or overrides this."""
        return self._info

    def open(self) -> None:
        """Take hold of the device.

        Raises:
            SourceError: it does not answer any more.
        """

    def close(self) -> None:
        """Let go of the device. Safe to call twice, and before ``open``."""

    @property
    def health(self) -> Health:
        """State of the connection, and losses since `open`; the defaults for a source that cannot lose samples."""
        return Health()

    def record_raw(self, path: Path) -> bool:
        """From now on write each byte from and to the device, with its time, to a file of `hardware.meters.link`.

        Returns:
            False, and no file, for a source that sees no bytes.

        Raises:
            OSError: the file cannot be written.
        """
        return False

    def own_counter(self) -> OwnCounter | None:
        """The latest reading of the second path to its joules; None if it has none, or none was read yet."""
        return None

    def own_counts(self) -> list[OwnCounter]:
        """The readings of the second path since the last call, oldest first; the latest one, if only that is kept."""
        count = self.own_counter()
        return [] if count is None else [count]

    def users(self) -> Collection[int]:
        """Ids of the processes that use what this source measures, as far as its driver says; () if it does not."""
        return ()

    def mark(self, t_mono_s: float, *, working: bool) -> None:
        """Take note that the work begins or has ended. Only the simulation needs to know."""


class SampledSource(Source, ABC):
    """A source with samples: a counter or a meter. `SourceInfo.kind` states whether they are J or W."""

    @abstractmethod
    def poll(self) -> list[Sample]:
        """The samples since the last call, oldest first: (monotonic time in s, watts or cumulative joules).

        A meter that is unplugged for a while has none meanwhile, which leaves a gap; it need not be an error.

        Raises:
            SourceError: the device vanished for good, or sent nonsense.
        """


class CounterSource(SampledSource):
    """A monotone energy counter. Energy is the difference of two readings, so lost polls lose nothing."""

    @abstractmethod
    def read(self) -> Sample:
        """(monotonic time in s, joules since some fixed moment), unwrapped and never decreasing.

        Raises:
            SourceError: the counter vanished, or went backwards by more than a wrap explains.
        """

    def poll(self) -> list[Sample]:
        return [self.read()]


class PowerSource(SampledSource):
    """Timestamped watts, to be integrated."""


class EstimateSource(Source, ABC):
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
    """Measures nothing, for runs that only need accuracies: every energy is None."""

    _info = SourceInfo(name="none", kind="none", scope="model", covers=(), period_s=0.0, gain_u=0.0)


@dataclass(frozen=True, slots=True)
class Found:
    """The source is here and can be used; ``why`` is the ground for it, in a few words."""

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
