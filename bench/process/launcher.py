"""Child processes: started in milliseconds from a server that has torch imported, and really killed when it is time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import CellFailedError, RequestError
from bench.process.messages import Failed

PRELOAD = [
    "bench.cli",
    "bench.process.prepare",
    "bench.process.worker",
    "bench.models.blocks",
    "bench.cost",
    "bench.data.domain",
    "bench.data.splits",
    "bench.training.tuner",
    "bench.methods.fixed",
    "bench.models.build",
    "bench.models.block_noise",
    "bench.models.source",
    "bench.training.loop",
    "torch._dynamo",  # making the first optimizer imports it, which takes a second
]
"""Imported once by the server, used by no-one there: a fork does not carry over the threads that use would start."""

JOIN_S = 5.0
Message = TypeVar("Message")


class CellTimeoutError(CellFailedError):
    """The child was not done in time and was killed."""


class Launcher:
    """Starts children. The server is started with the first and ends with this process, however that ends."""

    def __init__(self, log: Path) -> None:
        self._context = multiprocessing.get_context("forkserver")
        # a child runs the main module of this process again, to find its names: under pytest's console script that
        # imports pytest, which had better be there already
        self._context.set_forkserver_preload([*PRELOAD, *(["pytest"] if "pytest" in sys.modules else [])])
        self._log = log

    def start(self, target: Callable[..., None], job: object) -> Child:
        """Run `target(connection, job, log)` in a fresh process."""
        started_s = time.monotonic()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(theirs, job, str(self._log.resolve())))
        with _output_to(self._log):
            forkserver.ensure_running()  # only the first time: its imports grumble on the streams it inherits
        process.start()
        theirs.close()
        return Child(process, ours, started_s)


class Child:
    """One child process, seen from its parent.

    Attributes:
        started_s: CLOCK_MONOTONIC when its start began.
    """

    def __init__(self, process: Any, connection: Connection, started_s: float) -> None:
        self._process = process
        self._connection = connection
        self.started_s = started_s

    def send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._death() from None

    def receive(
        self,
        kind: type[Message],
        *,
        deadline_s: float | None = None,
        on_other: Callable[[object], None] = lambda _: None,
    ) -> Message:
        """Sleep until the child says something of this kind.

        Args:
            deadline_s: CLOCK_MONOTONIC to give up at.
            on_other: is told what the child says before that.

        Raises:
            RequestError: the child found the request to be wrong.
            CellTimeoutError: the deadline passed; the child is dead by then.
            CellFailedError: the child failed or died.
        """
        while True:
            timeout = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not wait([self._connection], timeout):
                self.kill()
                raise CellTimeoutError("not done in time; its process group was killed")
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                raise self._death() from None
            if isinstance(message, kind):
                return message
            if isinstance(message, Failed):
                self.close()
                raise (RequestError if message.request else CellFailedError)(message.error)
            on_other(message)

    def close(self) -> None:
        """Let the child end by itself; kill it if it does not."""
        self._process.join(JOIN_S)
        if self._process.is_alive():
            self.kill()
        self._connection.close()

    def kill(self) -> None:
        """End the child and all that it started, at once."""
        pid = self._process.pid
        if pid is not None and self._process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # before the child has made its own group this names none, and only the child is there to be killed
                os.killpg(pid, signal.SIGKILL)
            self._process.kill()
        self._process.join(JOIN_S)
        self._connection.close()

    def _death(self) -> CellFailedError:
        self._process.join(JOIN_S)
        code = self._process.exitcode
        self._connection.close()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return CellFailedError(f"the process was killed by {name}{hint}")
        return CellFailedError(f"the process ended with exit status {code} and said nothing")


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send this process's own streams to a file for a moment, so that a process started meanwhile inherits that."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        yield
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(descriptor)
