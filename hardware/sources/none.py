"""none: measure no energy at all."""

from __future__ import annotations

from hardware.source import Found, NullSource, Probe
from hardware.sources.parameters import numbers


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Always found."""
    numbers("none", params, {})
    return Found(NullSource(), "energy is not measured")
