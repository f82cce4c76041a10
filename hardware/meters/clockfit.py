"""Clock fit: the time on this host's clock of samples that carry only the meter's own time or a number.

The delay of a sample on its way varies, but is never negative. So the line

    host time = offset + rate x device time

is fitted below all points (device time, time of arrival) and as close to them as possible: the lower envelope. A delay
only raises a point above the line. The shortest delay itself, some milliseconds over USB or serial, stays unknown.

The line is an edge of the lower convex hull of the points, the one below their middle: of all lines below the points it
has the smallest sum of distances. Over less than `MIN_SPAN_S` the rate is not fitted: it is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

MIN_SPAN_S = 10.0
BIN_S = 1.0
BINS = 120
"""Of each second of device time the least delayed point is kept, for two minutes: clocks drift with temperature."""

MAX_RATE_OFF = 0.02
"""A ceramic resonator is off by 0.5 %, a nominal sample rate perhaps by 1 %. A line steeper than this is no clock."""

RECENT_BINS = 3
"""After so many seconds without one prompt arrival samples were lost, or the meter's clock jumped."""

MAX_STALL_S = 0.5
"""So far the two clocks may differ over these seconds: a host that slept reads many of them at once, all late."""

Point = tuple[float, float]


class ClockFit:
    """Maps a meter's clock to ``time.monotonic``. One for each connection: a restarted clock needs a new fit.

    Attributes:
        rate: host seconds per second of the meter.
        offset_s: host time when the meter's clock shows 0.
    """

    def __init__(self) -> None:
        self.rate = 1.0
        self.offset_s = 0.0
        self._points: list[Point] = []
        self._bin: int | None = None
        self._rate_known = False

    def add(self, device_s: float, host_s: float) -> None:
        """Add a sample that the meter stamped device_s and that arrived at host_s. In the order of arrival."""
        point = (device_s, host_s)
        number = int(device_s // BIN_S)
        if not self._points:
            self.offset_s = host_s - device_s
        if number != self._bin:
            self._bin = number
            self._points = [*self._points[1 - BINS :], point]
            self._fit()
        elif self._delay_s(point) < self._delay_s(self._points[-1]):
            self._points[-1] = point
        # between two fits the line is lowered at once: no sample arrives before it was sent
        self.offset_s += min(0.0, self._delay_s(point))

    def host_s(self, device_s: float) -> float:
        """The host time of a moment of the meter's clock."""
        return self.offset_s + self.rate * device_s

    @property
    def lag_s(self) -> float:
        """The shortest delay of the last seconds. Near 0 unless the meter's clock jumped back or samples were lost."""
        if not self._rate_known:
            return 0.0
        recent = self._points[-RECENT_BINS:]
        stall_s = (recent[-1][1] - recent[0][1]) - (recent[-1][0] - recent[0][0])
        if abs(stall_s) > MAX_STALL_S:
            return 0.0
        return min(self._delay_s(point) for point in recent)

    def shift(self, seconds: float) -> None:
        """Move the device times of the last seconds by so much, to count lost samples in."""
        recent = [(device_s + seconds, host_s) for device_s, host_s in self._points[-RECENT_BINS:]]
        self._points = [*self._points[:-RECENT_BINS], *recent]
        self._bin = None if not recent else int(recent[-1][0] // BIN_S)

    def _delay_s(self, point: Point) -> float:
        return point[1] - self.host_s(point[0])

    def _fit(self) -> None:
        points = self._points
        self.rate, self._rate_known = 1.0, False
        if points[-1][0] - points[0][0] >= MIN_SPAN_S:
            (x0, y0), (x1, y1) = _edge_below_middle(points)
            rate = (y1 - y0) / (x1 - x0)
            self._rate_known = abs(rate - 1) <= MAX_RATE_OFF
            self.rate = rate if self._rate_known else 1.0
        self.offset_s = min(host_s - self.rate * device_s for device_s, host_s in points)


class SampleClock:
    """Times for samples that come at a fixed rate and carry no time of their own.

    Attributes:
        lost: samples that must be missing, since the count fell behind the clock and stayed there.
    """

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.lost = 0
        self._fit = ClockFit()

    def arrived(self, index: int, host_s: float) -> int:
        """Add the arrival at host_s of samples up to number index.

        Returns:
            How many samples were lost before it, to be added to the numbers from now on. Noticed some seconds late.
        """
        self._fit.add((index + 1) * self.period_s, host_s)
        lost = round(self._fit.lag_s / self.period_s)
        if self._fit.lag_s < max(0.02, 1.5 * self.period_s):
            return 0
        self._fit.shift(lost * self.period_s)
        self.lost += lost
        return lost

    def host_s(self, index: float) -> float:
        """The host time of the middle of sample number index."""
        return self._fit.host_s((index + 0.5) * self.period_s)


def _edge_below_middle(points: Sequence[Point]) -> tuple[Point, Point]:
    """The edge of the lower hull below the mean of the first coordinates. Two points of different ones at least."""
    hull: list[Point] = []
    for point in sorted(points):
        while len(hull) >= 2 and _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        if hull and hull[-1][0] == point[0]:
            continue
        hull.append(point)
    middle = sum(x for x, _ in points) / len(points)
    for left, right in pairwise(hull):
        if right[0] >= middle:
            return left, right
    return hull[-2], hull[-1]


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
