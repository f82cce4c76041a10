"""The name of a source with its argument behind ``:`` and its parameters behind ``?``."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hardware.errors import UnknownSourceError


def numbers(source: str, given: Mapping[str, str], defaults: Mapping[str, float]) -> dict[str, float]:
    """The given numbers, and the defaults for the others.

    Raises:
        UnknownSourceError: a parameter that the source does not have, or one that is no finite number >= 0.
    """
    values = dict(defaults)
    for key, text in given.items():
        if key not in defaults:
            raise UnknownSourceError.unknown(f"parameter of {source!r}", key, defaults)
        try:
            values[key] = float(text)
        except ValueError:
            values[key] = math.nan
        if not (math.isfinite(values[key]) and values[key] >= 0):
            raise UnknownSourceError(f"{source!r}: {key} must be a number >= 0, not {text!r}")
    return values


def full_name(base: str, argument: str, params: Mapping[str, str]) -> str:
    """The name to choose the same source by again, e.g. ``csv:/dev/ttyUSB0?baud=9600``."""
    query = "&".join(f"{key}={value}" for key, value in params.items())
    return base + (f":{argument}" if argument else "") + (f"?{query}" if query else "")
