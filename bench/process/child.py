"""What every child process does first and last: its own process group, quiet output, no life after its parent."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from bench.errors import JouletuneError, RequestError
from bench.process.messages import Failed


def run(connection: Connection, log: str, body: Callable[[], None]) -> None:
    """Run a child's work; what goes wrong in it is told to the parent, with the traceback in the log.

    Args:
        log: file that takes whatever libraries print, on either stream.
    """
    _settle(log)
    try:
        body()
    except Exception as error:
        if not isinstance(error, JouletuneError):
            traceback.print_exc()
        text = str(error) if isinstance(error, JouletuneError) else f"{type(error).__name__}: {error}"
        connection.send(Failed(" ".join(text.split())[:500], isinstance(error, RequestError)))


def expect(connection: Connection, message: str) -> None:
    """Sleep until the parent says this.

    Raises:
        JouletuneError: it says something else.
    """
    got = connection.recv()
    if got != message:
        raise JouletuneError(f"expected {message!r} from the runner, got {got!r}")


def _settle(log: str) -> None:
    os.setsid()  # a process group of one's own: a timeout kills all of it, Ctrl-C reaches the parent alone
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    """Sleep until the parent is gone, then end this process group: an orphan would spend joules for nobody."""
    wait([sentinel])
    os.killpg(0, 9)
