"""The errors a user can meet. Each is one sentence: what, where, expected, nearest valid."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

from bench.text import shown

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C or SIGTERM stopped."""


class JouletuneError(Exception):
    """Anything that ends a command with one clear line instead of a traceback."""

    exit_status = 1

    def __str__(self) -> str:
        # what a file or a path holds is repeated to its user, and may hold newlines or a terminal's control codes
        return shown(super().__str__())


class RequestError(JouletuneError):
    """The request itself was wrong: a suite, a name, an option, missing data. Nothing was written."""

    exit_status = 2


class RunFolderBusyError(RequestError):
    """Another process is running in the same run folder."""


class CellFailedError(JouletuneError):
    """One cell could not be executed; the run goes on and the record says why."""


_AS_WRITTEN = {"None": "null", "True": "true", "False": "false"}
"""Python's words and what a suite's author writes for them."""


def show(value: object, limit: int = 60) -> str:
    """What was given, as an error repeats it: quoted, and cut off where it is long."""
    text = _AS_WRITTEN.get(repr(value)) or repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


MAX_NAMES = 2000
MAX_NAME = 64
"""Of the valid names and their characters, what is looked at for a hint."""


def nearest(given: str, valid: Iterable[str], *, limit: int = 8) -> str:
    """A hint for an unknown name: the closest valid one, or the list when nothing is close."""
    names = [str(name) for name in itertools.islice(valid, MAX_NAMES)]
    short = [name for name in names if len(name) <= MAX_NAME]  # comparing long ones takes the square of their length
    close = difflib.get_close_matches(str(given)[:MAX_NAME], short, n=1, cutoff=0.55)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(name[:MAX_NAME] for name in names[:limit]) + (", ..." if len(names) > limit else "")
    return f"choose from {shown}"
