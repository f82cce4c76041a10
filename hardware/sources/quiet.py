"""Suppress the output of libraries that print while they are imported, and their log records."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Discard all output to stdout and stderr, from Python and from C.

    It is discarded for the whole process, other threads included: use it around an import, not around work.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved: list[tuple[int, int]] = []
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        for fd in (1, 2):
            # a daemon may run without stdout or stderr
            with contextlib.suppress(OSError):
                saved.append((fd, os.dup(fd)))
                os.dup2(sink, fd)
        # sys.stdout may be an object of its own that never touches descriptor 1
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for fd, copy in saved:
            os.dup2(copy, fd)
            os.close(copy)
        os.close(sink)


class Muted(logging.Filter):
    """Drops every record of the logger it is added to and remembers the last warning.

    A filter on the logger, because libraries replace handlers and levels at will.
    """

    def __init__(self, logger_name: str) -> None:
        super().__init__()
        self.last_warning = ""
        logger = logging.getLogger(logger_name)
        for old in [f for f in logger.filters if isinstance(f, Muted)]:
            logger.removeFilter(old)
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            text = record.getMessage().strip().splitlines() or [""]
            self.last_warning = text[0]
            if record.exc_info and record.exc_info[1] is not None:
                self.last_warning = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        return False
