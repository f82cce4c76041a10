"""Text for people: a duration, a series in one line."""

from __future__ import annotations

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """75 -> `1 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


BARS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float | None]) -> str:
    """One block per value, from the lowest to the highest; a blank for None."""
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    low, span = min(known), max(known) - min(known)
    # noise of a tenth of a percent is no event: it must not fill the height
    span = max(span, 1e-3 * abs(low), 1e-9)
    return "".join(" " if value is None else BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)
