"""Clocks: places what another machine timed on the clock of this one, where the meter is read.

Before and after the work both sides exchange their time a few times. An exchange that was sent at s, read as y on the
other clock and received at r says that the other clock was ahead by y - r to y - s: the answer was read some time in
between (Cristian 1989, "Probabilistic clock synchronization"). The offset of a group lies within all of these spans.
From the group before the work to the one after it the offset is a straight line, which takes any steady drift away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_DRIFT = 600e-6
"""Largest drift of two clocks that is no jump: a kernel slews one by 500 ppm at most, and a crystal is off by 50."""

SLACK_S = 1e-3
"""A jump is at least as large. Smaller ones move an edge of the work by less than any meter resolves."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange of times.

    Attributes:
        sent_s, received_s: on this clock.
        there_s: on the other one, read in between.
    """

    sent_s: float
    there_s: float
    received_s: float


@dataclass(frozen=True, slots=True)
class Offset:
    """By how much the other clock is ahead.

    Attributes:
        at_s: when, on the other clock.
        ahead_s: the middle of what is possible.
        bound_s: half of the span of what is possible; below 0 where the exchanges contradict each other.
    """

    at_s: float
    ahead_s: float
    bound_s: float

    @classmethod
    def of(cls, exchanges: Sequence[Exchange]) -> Offset:
        """The offset of a group of exchanges in quick succession.

        Raises:
            ValueError: there is none.
        """
        if not exchanges:
            raise ValueError("no exchange of times")
        least_s = max(one.there_s - one.received_s for one in exchanges)
        most_s = min(one.there_s - one.sent_s for one in exchanges)
        at_s = exchanges[len(exchanges) // 2].there_s
        return cls(at_s, (least_s + most_s) / 2, (most_s - least_s) / 2)


@dataclass(frozen=True, slots=True)
class ClockMap:
    """Times of another clock on this one, from the offsets on both sides of some work.

    Attributes:
        before, after: the offsets.
        go_s: on this clock, when the work was allowed to start.
        done_s: on this clock, when its end was heard of.
    """

    before: Offset
    after: Offset
    go_s: float
    done_s: float

    @property
    def drift(self) -> float:
        """Seconds that the other clock gains in one of its own."""
        between_s = self.after.at_s - self.before.at_s
        return (self.after.ahead_s - self.before.ahead_s) / between_s if between_s > 0 else math.inf

    def here(self, there_s: float) -> float:
        """A moment of the other clock on this one, within the time in which the work can have been."""
        ahead_s = self.before.ahead_s + self.drift * (there_s - self.before.at_s)
        return min(max(there_s - ahead_s, self.go_s), self.done_s)

    def jumped(self, t0_s: float, t1_s: float) -> bool:
        """Whether the other clock did not run steadily from before the work to after it.

        Args:
            t0_s, t1_s: start and end of the work on the other clock.
        """
        bound_s = self.bound_s + SLACK_S
        between_s = self.after.at_s - self.before.at_s
        moved_s = abs(self.after.ahead_s - self.before.ahead_s)
        steady = (
            min(self.before.bound_s, self.after.bound_s) >= -SLACK_S
            and self.before.at_s <= t0_s <= t1_s <= self.after.at_s
            and moved_s <= MAX_DRIFT * between_s + self.before.bound_s + self.after.bound_s + SLACK_S
        )
        if not steady:
            return True
        # the work came after it was asked for, and ended before that was heard
        first_s = t0_s - self.before.ahead_s - self.drift * (t0_s - self.before.at_s)
        last_s = t1_s - self.after.ahead_s - self.drift * (t1_s - self.after.at_s)
        return first_s < self.go_s - bound_s or last_s > self.done_s + bound_s

    @property
    def bound_s(self) -> float:
        """Longest time by which a moment that is placed here may be off."""
        return max(self.before.bound_s, self.after.bound_s, 0.0)

    def place(self, t0_s: float, t1_s: float) -> Placed:
        """Place the work on this clock.

        Where the other clock jumped, the work takes all of the time in which it can have been. How far its ends may
        be off is what the offsets beside them leave, or, where these contradict that, all of it.
        """
        if not self.jumped(t0_s, t1_s):
            return Placed(self.here(t0_s), self.here(t1_s), self.bound_s / math.sqrt(3), False)
        # a jump in the middle leaves each end to the offset that was found beside it
        first_s, last_s = t0_s - self.before.ahead_s, t1_s - self.after.ahead_s
        if self.go_s - SLACK_S <= first_s <= last_s <= self.done_s + SLACK_S:
            spare_s = max(first_s - self.go_s, self.done_s - last_s)
        else:
            spare_s = self.done_s - self.go_s
        bound_s = max(spare_s, self.bound_s)
        return Placed(self.go_s, self.done_s, bound_s / math.sqrt(3), True)


@dataclass(frozen=True, slots=True)
class Placed:
    """Work of another machine on this clock.

    Attributes:
        t0_s, t1_s: its start and end.
        u_s: standard uncertainty of each.
        jumped: the other clock did not run steadily meanwhile, so nothing between the ends is known.
    """

    t0_s: float
    t1_s: float
    u_s: float
    jumped: bool
