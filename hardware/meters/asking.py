"""Asking meter: one that sends one frame in answer to each request.

A request is sent every `ASK_S`, twice for each refresh of the meter, so that one lost reply leaves no gap. On every
connection the first reply is thrown away: it may be seconds old. So is one after a request that got no answer at all,
since it may be the answer to the request before. After a reply that breaks off the request is sent again at once.
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from hardware.meters.link import Link
from hardware.meters.meter import Clock, Meter
from hardware.wire.reading import Frame, FrameDecoder, Scale

ASK_S = 0.25
JITTER = (0.95, 1.05)
"""Of that time: requests in step with the meter would see its refreshes at one and the same age."""

REFRESH_S = 0.5
"""The UM meters and the TC66 make a new value about twice a second, as rd-usb's notes have it; assumed."""

GAIN_U = 0.01
"""The accuracy of the UM meters and the TC66 is assumed to be 1 %: no certificate was at hand."""

LATENCY_S = 0.5
"""A value may be one refresh old when it is sent, and then it travels; assumed."""

FIRST_REPLY_S = 8.0
REPLY_S = 1.0
BREAK_S = 0.25
"""Longest pause within a reply."""


class AskingMeter(Meter):
    """Base of the meters that answer requests."""

    def __init__(
        self,
        name: str,
        dial: Callable[[], Link],
        scale: Scale,
        decoder: FrameDecoder[Any],
        request: bytes,
        *,
        clock: Clock = time.monotonic,
        **facts: Any,
    ) -> None:
        super().__init__(
            name, dial, scale, clock=clock, period_s=REFRESH_S, latency_s=LATENCY_S, gain_u=GAIN_U, **facts
        )
        self._decoder = decoder
        self._request = request
        self._patience_s = FIRST_REPLY_S
        self._stale = True
        self._next_s = 0.0
        self._jitter = random.Random(0)  # that requests fall evenly into the meter's period is enough

    @abstractmethod
    def _inspect(self, frame: Any) -> None:
        """Check a frame before its reading is used.

        Raises:
            SourceError: it is from another meter than was named.
        """

    def _begin(self, link: Link) -> None:
        self._patience_s = FIRST_REPLY_S
        self._stale = True
        self._next_s = self._clock()

    def _end(self, link: Link) -> None:
        self._drain(link, wait=False)

    def _step(self, link: Link) -> None:
        self._pause(self._next_s - self._clock())
        self._drain(link, wait=False)  # a reply that came late or twice
        self._decoder.reset()
        asked_s = self._clock()
        link.write(self._request)
        frames, began = self._await(link, asked_s)
        arrived_s = self._clock()
        if not frames:
            self._missing += 1
            self._stale = self._stale or not began
            self._next_s = arrived_s
            return
        self._patience_s = REPLY_S
        self._inspect(frames[0])
        if not self._stale:
            self._give(frames[0].reading, arrived_s)
        self._stale = False
        self._next_s = max(self._next_s + ASK_S * self._jitter.uniform(*JITTER), arrived_s)

    def _await(self, link: Link, asked_s: float) -> tuple[Sequence[Frame], bool]:
        """The frames of one reply, and whether anything came at all."""
        received_s: float | None = None
        while not self._stop.is_set():
            data = link.read()
            now_s = self._clock()
            if data:
                received_s = now_s
                frames = self._decoder.feed(data)
                if frames:
                    return frames, True
            elif received_s is not None and now_s - received_s > BREAK_S:
                break
            if now_s - asked_s > self._patience_s:
                break
        return (), received_s is not None

    def _bad(self) -> int:
        return self._decoder.bad
