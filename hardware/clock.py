"""Clock: the readings of time that a measurement needs."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """What the sampler needs of the module `time`; tests bring their own."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...
