"""Rails: one or more channels of the kernel's sensors, added up, as a power source or as a counter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hardware.errors import SourceError
from hardware.source import CounterSource, Health, PowerSource, Sample, SourceInfo
from hardware.sources.hwmon_tree import Channel

Locate = Callable[[], Sequence[Channel]]
"""Finds the channels, again if need be: a meter that is plugged in again has a new folder. [] while it is away."""

SEARCH_S = 1.0
"""How often a meter that is away is looked for."""

DIRECTION_W = 0.05
"""Below this a current is noise around zero and does not tell which way it flows."""


class RailPower(PowerSource):
    """The sum of some channels' power, read when asked.

    A meter that is unplugged gives no samples until it is back: the gap makes that repeat X, and the run goes on.

    Args:
        either_way: the meter can be put into the line either way round, so either sign may mean that the device draws
            power. The first clear reading after it was found decides; after that noise around zero keeps its sign, or
            its mean would not be zero.
    """

    def __init__(
        self,
        info: SourceInfo,
        locate: Locate,
        *,
        either_way: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._info = info
        self._locate = locate
        self._either_way = either_way
        self._clock = clock
        self._channels: Sequence[Channel] = ()
        self._sign = 1 if not either_way else 0
        self._search_at_s = 0.0
        self._disconnects = 0
        self._problem: str | None = None

    @property
    def info(self) -> SourceInfo:
        return self._info

    @property
    def health(self) -> Health:
        return Health(connected=bool(self._channels), disconnects=self._disconnects, problem=self._problem)

    def open(self) -> None:
        self._search_at_s = self._clock()
        self._disconnects, self._problem = 0, None
        if not self.poll():
            raise SourceError(f"{self._info.name} cannot be read any more")

    def close(self) -> None:
        self._channels = ()

    def poll(self) -> list[Sample]:
        if not self._channels:
            if self._clock() < self._search_at_s:
                return []
            self._search_at_s = self._clock() + SEARCH_S
            self._channels = self._locate()
            self._sign = 0 if self._either_way else 1
            if not self._channels:
                return []
        before_s = self._clock()
        try:
            power_w = sum(channel.value() for channel in self._channels)
        except (OSError, ValueError) as error:
            self._channels = ()
            self._disconnects += 1
            self._problem = str(error)
            return []
        # the files are read one after the other; on a USB meter each takes a transaction of its own
        at_s = (before_s + self._clock()) / 2
        if self._sign == 0:
            if abs(power_w) < DIRECTION_W:
                return [(at_s, abs(power_w))]
            self._sign = -1 if power_w < 0 else 1
        return [(at_s, self._sign * power_w)]


class RailCounter(CounterSource):
    """The sum of some channels' energy counters."""

    def __init__(self, info: SourceInfo, locate: Locate, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._info = info
        self._locate = locate
        self._clock = clock
        self._channels: Sequence[Channel] = ()
        self._last_j: list[float] = []

    @property
    def info(self) -> SourceInfo:
        return self._info

    def open(self) -> None:
        self._channels = self._locate()
        self._last_j = []
        if not self._channels:
            raise SourceError(f"{self._info.name} is not here any more")
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        try:
            counts_j = [channel.value() for channel in self._channels]
        except (OSError, ValueError) as error:
            raise SourceError(f"{self._info.name} is not readable any more: {error}") from error
        if any(now_j < last_j for now_j, last_j in zip(counts_j, self._last_j, strict=False)):
            # drivers differ in where they wrap and none says so; a guess would be a wrong joule
            raise SourceError(f"{self._info.name} went backwards; was it reset?")
        self._last_j = counts_j
        return now_s, sum(counts_j)
