"""Asking meter: one that speaks only when asked, a few times a second, and answers each request with one frame.

Asked every `ASK_S`, twice for each refresh of the meter's own, so that one lost reply leaves no gap. On every
connection the first reply is thrown away: it may be seconds old. So is one after a request that got no answer at all,
since it may be the answer to the request before. A reply that breaks off is asked for again at once.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from hardware.meters.link import Link
from hardware.meters.meter import Clock, Meter
from hardware.wire.reading import Reading, Scale

ASK_S = 0.25
REFRESH_S = 0.5
"""The UM meters and the TC66 make a new value about twice a second, as rd-usb's notes have it; assumed."""

LATENCY_S = 0.5
"""A value may be one refresh old when it is sent, and then it travels; assumed."""

FIRST_REPLY_S = 8.0
REPLY_S = 1.0
BREAK_S = 0.25
"""Longest pause within a reply."""


class Frame(Protocol):
    """What the decoders of such meters return."""

    @property
    def reading(self) -> Reading: ...


class Decoder(Protocol):
    """What the decoders of such meters have in common."""

    bad: int

    def feed(self, data: bytes) -> Sequence[Frame]: ...

    def reset(self) -> None: ...


class AskingMeter(Meter):
    """Base of the meters that are asked."""

    def __init__(
        self,
        name: str,
        dial: Callable[[], Link],
        scale: Scale,
        decoder: Decoder,
        request: bytes,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(name, dial, scale, clock=clock)
        self._decoder = decoder
        self._request = request
        self._unanswered = 0
        self._patience_s = FIRST_REPLY_S
        self._stale = True
        self._next_s = 0.0

    @abstractmethod
    def _inspect(self, frame: Frame) -> None:
        """Look at a frame before its reading is used.

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
            self._unanswered += 1
            self._stale = self._stale or not began
            self._next_s = arrived_s
            return
        self._patience_s = REPLY_S
        self._inspect(frames[0])
        if not self._stale:
            self._give(frames[0].reading, arrived_s)
        self._stale = False
        self._next_s = max(self._next_s + ASK_S, arrived_s)

    def _await(self, link: Link, asked_s: float) -> tuple[Sequence[Frame], bool]:
        """The frames of one reply, and whether anything came at all."""
        heard_s: float | None = None
        while not self._stop.is_set():
            data = link.read()
            now_s = self._clock()
            if data:
                heard_s = now_s
                frames = self._decoder.feed(data)
                if frames:
                    return frames, True
            elif heard_s is not None and now_s - heard_s > BREAK_S:
                break
            if now_s - asked_s > self._patience_s:
                break
        return (), heard_s is not None

    def _lost(self) -> int:
        return self._unanswered

    def _bad(self) -> int:
        return self._decoder.bad
