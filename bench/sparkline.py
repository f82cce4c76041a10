"""Sparkline: a series in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

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
