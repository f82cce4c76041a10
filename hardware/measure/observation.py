"""Observation: what was seen of one window, before anything is computed of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hardware.device.machine import Snapshot
from hardware.measure.phases import Span
from hardware.measure.recorder import Interruptions
from hardware.source import Health, OwnCounter, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Processor time from the opening of a window to its closing, s.

    Attributes:
        span_s: of the clock.
        machine_s: of all programs and cores, with what the host of a virtual machine took.
        cores_s: that there was: cores times time.
        own_s: of the measuring process and all that it has started.
    """

    span_s: float
    machine_s: float
    cores_s: float
    own_s: float

    def foreign_s(self, idle_share: float) -> float:
        """Of other programs, beyond what they use while the device is quiet, idle_share of all cores."""
        return max(0.0, self.machine_s - self.own_s - idle_share * self.cores_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The samples, times and states of one window. Times are this host's monotonic clock, in this order, s.

    Attributes:
        quiet_from_s: the device has been left alone since then.
        opened_s: the work was allowed to start.
        t0_s, t1_s: the work itself, as the worker reports it.
        closed_s: the end of the work was reported.
        quiet_until_s: the device was left alone until then.
        executions: how often the work was done between t0_s and t1_s.
        spans: phases of the work, one after the other from t0_s to t1_s; empty for work of one piece.
        rhythm: times after which the power of the work repeats, s: a step, an epoch; None where that is not known.
        edge_u_s: standard uncertainty of each of t0_s and t1_s, where another clock gave them.
        clock_jumped: that clock did not run steadily, see `hardware.measure.clocks`.
        samples: of a counter or meter, over the quiet times too.
        earlier: samples from before quiet_from_s, of a minute or so.
        health: losses of the source from quiet_from_s to quiet_until_s.
        counts: of the meter's own energy counter, where it has one, over the quiet times too.
        estimate_j: of an estimate, for [opened_s, closed_s].
        env_before, env_after: state of the device before the quiet time and right after the work.
        load: processor time between opened_s and closed_s, where it is known.
        other_users: ids of processes of others that used what the source measures, at opened_s or closed_s.
        interruptions: time in which this process or the machine stood still.
        error: the error that ended the source; None without one.
    """

    quiet_from_s: float
    opened_s: float
    t0_s: float
    t1_s: float
    closed_s: float
    quiet_until_s: float
    executions: int
    spans: Sequence[Span] = ()
    rhythm: Sequence[float] | None = None
    edge_u_s: float = 0.0
    clock_jumped: bool = False
    samples: Sequence[Sample] = ()
    earlier: Sequence[Sample] = ()
    health: Health | None = None
    counts: Sequence[OwnCounter] = ()
    estimate_j: float | None = None
    env_before: Snapshot | None = None
    env_after: Snapshot | None = None
    load: Load | None = None
    other_users: Collection[int] = ()
    interruptions: Interruptions = Interruptions(stopped_s=0.0, suspended_s=0.0)
    error: str | None = None


class UnusableError(Exception):
    """The window has no figure: flag and reason. Caught in `evaluate`."""

    def __init__(self, flag: str, why: str) -> None:
        super().__init__(why)
        self.flag = flag
