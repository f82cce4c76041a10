"""Errors of the energy sampler. Each message is one line: what is wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HardwareError(Exception):
    """Anything that the hardware package raises on purpose."""


class RefusedError(HardwareError):
    """The request cannot be served here and has to change. Nothing was measured or written."""


class UnknownSourceError(RefusedError):
    """The name of the source, or one of its parameters, does not exist."""

    @classmethod
    def unknown(cls, what: str, given: str, valid: Iterable[str]) -> UnknownSourceError:
        """One line with the nearest valid name, or with all of them when none is near."""
        names = list(valid)
        close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"
        return cls(f"unknown {what} {given!r}; {hint}")


class SourceUnavailableError(RefusedError):
    """The source exists, but cannot be used here; the message has the reason and the remedy."""


class SourceError(HardwareError):
    """A source died or sent nonsense while measuring. What it measured then has grade X."""
