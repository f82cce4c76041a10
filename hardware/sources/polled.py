"""Polled: a power that is asked for once a period, by a request over the network or a program of the system."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from hardware.errors import SourceError
from hardware.source import Health, PowerSource, Sample, SourceInfo

FIRST_TRIES = 3


class PolledSource(PowerSource):
    """One meter.

    Args:
        info: what it measures, without its identity.
        ask: the power now, W.
        identify: model, serial number and firmware, as far as it tells them. Asked for at the start and after each
            pause.

    Both raise OSError or ValueError where it does not answer, or not so. Then there is no sample: a gap, which the
    evaluation judges.
    """

    def __init__(
        self,
        info: SourceInfo,
        ask: Callable[[], float],
        identify: Callable[[], Mapping[str, Any]] = dict,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._info = info
        self._ask = ask
        self._identify = identify
        self._clock = clock
        self._health = Health(connected=False)

    @property
    def health(self) -> Health:
        return self._health

    def open(self) -> None:
        self._health = Health(connected=False)
        for _ in range(FIRST_TRIES):
            if self.poll():
                return
        raise SourceError(f"{self._info.name} does not answer: {self._health.problem}")

    def poll(self) -> list[Sample]:
        asked_s = self._clock()
        try:
            if not self._health.connected:
                self._check_identity()
            power_w = self._ask()
            if not math.isfinite(power_w):
                raise ValueError(f"it reads {power_w}")
        except (OSError, ValueError) as error:
            lost = int(self._health.connected)
            self._health = dataclasses.replace(
                self._health,
                connected=False,
                disconnects=self._health.disconnects + lost,
                lost=self._health.lost + 1,
                problem=f"{type(error).__name__}: {error}",
            )
            return []
        self._health = dataclasses.replace(self._health, connected=True)
        return [((asked_s + self._clock()) / 2, power_w)]

    def _check_identity(self) -> None:
        """Store what the meter says it is, and compare it with the first time.

        Raises:
            SourceError: it is another one; its scale may be another, and the results name the first.
        """
        found = dict(self._identify())
        known = self._info.device
        if not known:
            self._info = dataclasses.replace(self._info, device=found)
            return
        changed = [f"{name} {known[name]}, now {value}" for name, value in found.items() if known.get(name) != value]
        if changed:
            raise SourceError(f"another meter answers: {', '.join(changed)}; put the first one back, or run again")
