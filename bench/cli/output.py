"""The standard streams of a command: text they cannot show is replaced, and a stream that fails ends no command."""

from __future__ import annotations

import errno
import io
import os
import sys

from bench.errors import RequestError
from bench.text import REPLACE, echo


class Stream(io.TextIOWrapper):
    """A standard stream that drops what cannot be written, so that a long run outlives the reader of its output.

    Attributes:
        failure: why the first write failed; None while all went well.
    """

    failure: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        self.flush()  # the buffer belongs to the stream that this one stands for

    def _give_up(self, error: OSError) -> None:
        self.failure = self.failure or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())  # what is buffered goes there, too
        os.close(null)


def install() -> None:
    """Make stdout and stderr streams of this kind.

    A standard descriptor that is closed is opened on /dev/null first: else the next file that is opened, such as a
    run's records, would take its number, and receive what libraries print.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open to the end, as the stream it replaces
    sys.stdout = _stream(sys.stdout, 1)
    sys.stderr = _stream(sys.stderr, 2)


def _stream(old: object, descriptor: int) -> Stream:
    if not isinstance(old, io.TextIOWrapper):  # closed
        return Stream(open(descriptor, "wb", closefd=False), encoding="utf-8", errors=REPLACE)
    line_buffering, write_through = old.line_buffering, old.write_through
    return Stream(old.buffer, old.encoding, REPLACE, line_buffering=line_buffering, write_through=write_through)


def lost() -> bool:
    """Tell whether stdout takes nothing any more: its reader has gone, or its disk is full."""
    return getattr(sys.stdout, "failure", None) is not None


def finish(status: int) -> int:
    """Write out what is buffered, and return the exit status of a command that ends with `status`.

    Output that was lost makes 0 a 2, with a line on stderr, except where a reader such as `head` just stopped reading.
    """
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is None or failure.errno == errno.EPIPE:
        return status
    echo(f"error: standard output could not be written: {failure.strerror}; the rest of it is missing", err=True)
    return status or RequestError.exit_status
