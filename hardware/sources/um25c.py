"""um25c: RDTech's UM25C, see `hardware.sources.um`."""

from __future__ import annotations

from hardware.source import Probe
from hardware.sources.um import probe_model


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """See `probe_model`."""
    return probe_model("um25c", argument, params)
