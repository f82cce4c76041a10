"""Set up a child process, with a process group and its output in the log, and end it, with a message of an error."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import sys
import traceback

from bench.errors import JouletuneError, RequestError
from bench.process.messages import Failed, Message, encode

MAX_LOG_BYTES = 10_000_000
"""Of worker.log: what is older is cut off."""


class Parent:
    """The parent at the other end of a connection."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rb")
        self.job = pickle.load(self._lines)

    def send(self, message: Message) -> None:
        self._socket.sendall(encode(message))

    def wait_for(self, word: str) -> None:
        """Sleep until the parent sends this word.

        Raises:
            JouletuneError: it sends another one.
        """
        got = self._lines.readline().decode().strip()
        if got != word:
            raise JouletuneError(f"expected {word!r} from the runner, got {got!r}")


def run(target: str, connection: int, log: int) -> None:
    """Run a child's work in the forked process and end it.

    Args:
        target: `module:function`, called with a Parent.
        connection: descriptor of the socket to the parent.
        log: descriptor that takes whatever libraries print, on either stream.
    """
    os.setsid()  # a process group of its own: a timeout kills all of it, Ctrl-C reaches the parent alone
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    parent = Parent(connection)
    module, _, function = target.partition(":")
    try:
        getattr(importlib.import_module(module), function)(parent)
        status = 0
    except BaseException as error:  # also SystemExit from a model's own code
        if not isinstance(error, JouletuneError):
            traceback.print_exc()
        text = str(error) if isinstance(error, JouletuneError) else f"{type(error).__name__}: {error}"
        parent.send(Failed(" ".join(text.split())[:500], isinstance(error, RequestError)))
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)  # at once: threads that a model's code left running would go on
