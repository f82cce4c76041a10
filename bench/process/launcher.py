"""Start child processes in milliseconds from a server that has torch imported, and kill them with all they started."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import bench
from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.process.child import MAX_LOG_BYTES
from bench.process.messages import MAX_BYTES, Failed, Message, Progress, decode
from bench.store.durable import open_append

if TYPE_CHECKING:
    from bench.process.child import Parent

JOIN_S = 10.0
"""Longest wait for a process that was killed or closed its connection; the server's own sweep takes 5 s at most."""

Kind = TypeVar("Kind", bound=Message)


class CellTimeoutError(CellFailedError):
    """The child was not done in time and was killed."""


class Launcher:
    """Start children from one server per process, which ends with this process, also when that is killed."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def start(self, target: Callable[[Parent], None], job: object) -> Child:
        """Run `target(parent)` in a fresh process, with the job as `parent.job`.

        Raises:
            JouletuneError: the server did not come up.
            CellFailedError: no process can be started.
        """
        started_s = time.monotonic()
        ours, theirs = socket.socketpair()
        name = f"{target.__module__}:{target.__qualname__}"
        with self._open_log() as log, theirs:
            server = _Server.running(log.fileno())
            try:
                pid = server.run(name, theirs.fileno(), log.fileno())
            except CellFailedError:
                if server.alive:
                    raise
                server = _Server.running(log.fileno())  # it was killed since its last child
                pid = server.run(name, theirs.fileno(), log.fileno())
        child = Child(server, pid, ours, started_s)
        child.send_bytes(pickle.dumps(job))
        return child

    def _open_log(self) -> BinaryIO:
        try:
            return open_append(self._log, root=self._log.parent, keep=MAX_LOG_BYTES)
        except OSError as error:
            raise RequestError(
                f"{self._log}: cannot write ({error.strerror}); remove it or choose another --out"
            ) from None


class Child:
    """One child process, seen from its parent.

    Attributes:
        pid: of the process, which is also that of its group.
        started_s: CLOCK_MONOTONIC when its start began.
    """

    def __init__(self, server: _Server, pid: int, connection: socket.socket, started_s: float) -> None:
        self._server = server
        self._connection = connection
        self._lines = _Lines(connection)
        self.pid = pid
        self.started_s = started_s

    def send(self, word: str) -> None:
        self.send_bytes(f"{word}\n".encode())

    def send_bytes(self, content: bytes) -> None:
        """Send bytes to the child.

        Raises:
            CellFailedError: it is dead.
        """
        try:
            self._connection.sendall(content)
        except OSError:
            raise self._death() from None

    def receive(
        self,
        kind: type[Kind],
        *,
        deadline_s: float | None = None,
        on_other: Callable[[Message], None] = lambda _: None,
    ) -> Kind:
        """Sleep until the child sends a message of this kind.

        Args:
            deadline_s: CLOCK_MONOTONIC to give up at. Progress from the child that names a limit moves it.
            on_other: called with each message before that.

        Raises:
            RequestError: the child found the request to be wrong.
            CellTimeoutError: the deadline passed; the child is dead by then.
            CellFailedError: the child failed, died, or sent what is no message; it is dead by then.
        """
        late = "not done in time; its process group was killed"
        while True:
            try:
                line = self._lines.next(deadline_s)
                message = decode(line)
            except TimeoutError:
                self.kill()
                raise CellTimeoutError(late) from None
            except EOFError:
                raise self._death() from None
            except CellFailedError:
                self.kill()
                raise
            if isinstance(message, kind):
                return message
            if isinstance(message, Failed):
                self.close()
                raise (RequestError if message.request else CellFailedError)(message.error)
            if isinstance(message, Progress) and message.limit_s is not None:
                deadline_s = time.monotonic() + message.limit_s
                late = f"{message.what}: nothing for {message.limit_s:g} s; its process group was killed"
            on_other(message)

    def close(self) -> None:
        """Let the child end by itself; kill it if it does not."""
        if self._server.exit_code(self.pid, JOIN_S) is None:
            self.kill()
        self._connection.close()

    def signal(self, number: int) -> None:
        """Send a signal to the child and all that it started, e.g. SIGSTOP."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or has no group of its own yet
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End the child and all that it started, at once."""
        self._server.kill(self.pid)
        self._connection.close()

    def _death(self) -> CellFailedError:
        code = self._server.exit_code(self.pid, JOIN_S)
        if code is None:
            self.kill()
            return CellFailedError("the process closed its connection, and was killed")
        self._connection.close()
        return CellFailedError(f"the process {_ending(code)}")


class _Server:
    """The fork server with its guard (`bench.process.server`), seen from their parent."""

    _one: _Server | None = None

    def __init__(self, log: int) -> None:
        self._control, theirs = socket.socketpair()
        self._lines = _Lines(self._control)
        self._codes: dict[int, int] = {}
        path = [entry for entry in sys.path if entry and Path(entry) != _current_folder()]
        # the folder of this package stays, also where it is the current one; torch.py, random.py and the like that lie
        # in any other current folder are not imported
        path.append(str(Path(bench.__file__).resolve().parents[1]))
        with theirs:
            number = theirs.fileno()
            code = f"import sys; sys.path[:] = {path!r}; from bench.process.server import main; main({number})"
            flags = ["-I", *(["-B"] if sys.dont_write_bytecode else [])]
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-c", code],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[number], start_new_session=True,
            )  # fmt: skip
        atexit.register(self.close)

    @classmethod
    def running(cls, log: int) -> _Server:
        """The server of this process, started or started again where there is none.

        Raises:
            JouletuneError: it did not come up.
        """
        if cls._one is None or not cls._one.alive:
            cls._one = server = cls(log)
            try:
                first = server._next(None)
                if first != "ready":
                    raise JouletuneError(f"the process that starts the cells did not come up: {first}; see worker.log")
            except BaseException:
                server.close()
                raise
        return cls._one

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, target: str, connection: int, log: int) -> int:
        """Fork a child that calls `module:function`. Returns its process id.

        Raises:
            CellFailedError: it cannot be forked.
        """
        with contextlib.suppress(OSError):  # the server is dead, which the next read reports
            socket.send_fds(self._control, [f"run {target}\n".encode()], [connection, log])
        answer = self._next(None)
        if not answer.startswith("started "):
            raise CellFailedError(f"no process for this repeat: {answer}")
        return int(answer.split()[1])

    def exit_code(self, pid: int, timeout_s: float) -> int | None:
        """Wait for the end of a child and of all that it started. Returns its exit code, None where the time passed."""
        deadline_s = time.monotonic() + timeout_s
        with contextlib.suppress(TimeoutError):
            while pid not in self._codes:
                if not self._next(deadline_s, until="ended").startswith("ended "):
                    return -signal.SIGKILL  # its children die with the server
        return self._codes.get(pid)

    def kill(self, pid: int) -> None:
        """Kill a child and all that it started, and wait for that; where the server does not answer, the server too."""
        if pid not in self._codes:
            with contextlib.suppress(OSError):
                self._control.sendall(f"kill {pid}\n".encode())
            if self.exit_code(pid, JOIN_S) is None:
                self._stop()

    def close(self) -> None:
        """End the server and all of its children."""
        atexit.unregister(self.close)
        self._control.close()
        try:
            self._process.wait(JOIN_S)
        except subprocess.TimeoutExpired:
            self._stop()

    def _stop(self) -> None:
        """Let the guard kill the server and all that it started."""
        self._process.terminate()
        try:
            self._process.wait(JOIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _next(self, deadline_s: float | None, until: str = "") -> str:
        """The next line from the server that is not the end of a child; how the server ended, where it has."""
        while True:
            try:
                line = self._lines.next(deadline_s).decode()
            except EOFError:
                return f"the process that forks {_ending(self._process.wait(JOIN_S))}"
            if not line.startswith("ended "):
                return line
            _, pid, code = line.split()
            self._codes[int(pid)] = int(code)
            if until == "ended":
                return line


class _Lines:
    """Lines from a socket, bounded in length and in time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def next(self, deadline_s: float | None) -> bytes:
        """The next line without its end.

        Args:
            deadline_s: CLOCK_MONOTONIC to give up at.

        Raises:
            TimeoutError: the deadline passed.
            EOFError: the other end is closed.
            CellFailedError: it is longer than MAX_BYTES.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_BYTES:
                raise CellFailedError(f"the process sent over {MAX_BYTES:,} bytes that are no message")
            timeout_ms = None if deadline_s is None else max(0.0, deadline_s - time.monotonic()) * 1000
            if not self._poll.poll(timeout_ms):
                raise TimeoutError
            try:
                part = self._connection.recv(65536)
            except OSError:
                part = b""
            if not part:
                raise EOFError
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _ending(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit status {code} and sent nothing"


def _current_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # deleted
        return None
