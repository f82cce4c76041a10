"""Observation: all that was seen of one window, before anything is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware.device.machine import Snapshot
from hardware.source import Health, OwnCounter, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that was seen of a window. Times are this host's monotonic clock, in this order, s.

    Attributes:
        quiet_from_s: the device has been left alone since then.
        opened_s: the work was allowed to start.
        t0_s, t1_s: the work itself, as the worker reports it.
        closed_s: the end of the work was heard of.
        quiet_until_s: the device was left alone until then.
        executions: how often the work was done between t0_s and t1_s.
        samples: of a counter or meter, over the quiet times too.
        health: how the source fared from quiet_from_s to quiet_until_s.
        counts: of the meter's own energy counter, where it has one, over the quiet times too.
        estimate_j: of an estimate, for [opened_s, closed_s].
        env_before, env_after: state of the device before the quiet time and right after the work.
        error: why the source died, None while it lives.
    """

    quiet_from_s: float
    opened_s: float
    t0_s: float
    t1_s: float
    closed_s: float
    quiet_until_s: float
    executions: int
    samples: Sequence[Sample] = ()
    health: Health | None = None
    counts: Sequence[OwnCounter] = ()
    estimate_j: float | None = None
    env_before: Snapshot | None = None
    env_after: Snapshot | None = None
    error: str | None = None


class UnusableError(Exception):
    """The window has no figure: the flag that says so, and why. Caught in `evaluate`."""

    def __init__(self, flag: str, why: str) -> None:
        super().__init__(why)
        self.flag = flag
