"""The fork server: a process that has torch imported, forks a child for each request, and leaves none of them behind.

Above it stands a guard: a process that does nothing but wait. Orphans go to the nearest of the two that lives, so
when one of them is killed, the other ends whatever it leaves.

The server talks with its parent in lines over a socket. It answers `ready` or `failed REASON` once. To `run
MODULE:FUNCTION`, which comes with two descriptors (the child's end of a connection, and the log), it answers `started
PID` or `failed REASON`; to `kill PID` nothing. When a child has ended, and all that it started, it sends `ended PID
STATUS`. It ends, and every child with it, when its parent closes the socket, however the parent ended, and when the
guard ends.

What children print comes through a pipe each, so that the log stays bounded, and a full disk stops no cell.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator

import psutil

from bench.process import child
from bench.store.durable import cut_beginning

PRELOAD = (
    "bench.cli",
    "bench.process.prepare",
    "bench.process.worker",
    "bench.work.adapt",
    "bench.models.block_noise",
    "torch._dynamo",  # making the first optimizer imports it, which takes a second
)
"""Imported and not used: a fork does not carry over the threads that use would start."""

SWEEP_S = 5.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Options of prctl(2)."""


def main(descriptor: int) -> None:
    """Serve the parent at the other end of a socket; never returns."""
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent alone
    os.environ["PYTHONSAFEPATH"] = "1"  # also for the interpreters that a library starts, e.g. torch.compile
    guard = _guarded(control)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        with _killed_by_hang_up(control, guard):
            for name in PRELOAD:
                importlib.import_module(name)
    except Exception as error:
        _send(control, f"failed {type(error).__name__}: {error}")
        os._exit(1)
    gc.freeze()  # else each child collects torch's objects anew, 0.3 s, and copies their pages
    _send(control, "ready")
    _Server(control, guard).serve()


def _guarded(control: socket.socket) -> socket.socket:
    """Go on in a forked process; this one becomes its guard, which ends as it ends, or kills it at SIGTERM.

    Returns:
        A socket that becomes readable when the guard ends.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid:
        control.close()
        theirs.close()
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        _sweep(set())
        if code < 0:
            with contextlib.suppress(OSError):  # SIGKILL has no handler to take back
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code)
    ours.close()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return theirs


class _Log:
    """What a child prints, through a pipe into a bounded file."""

    def __init__(self, file: int) -> None:
        self._file = os.fdopen(file, "a+b", buffering=0)
        self.pipe, self.end = os.pipe()
        os.set_blocking(self.pipe, False)
        self.ended = False

    def copy(self) -> bool:
        """Copy what has come, at most as much as a pipe holds. Returns False where there is no more for now."""
        try:
            content = os.read(self.pipe, 65536)
        except BlockingIOError:
            return False
        self.ended = not content
        with contextlib.suppress(OSError):  # the disk is full: a cell does not need its log
            self._file.write(content)
            cut_beginning(self._file, child.MAX_LOG_BYTES)
        return bool(content)

    def drain(self) -> None:
        while self.copy():
            pass

    def close(self) -> None:
        os.close(self.pipe)
        self._file.close()


class _Server:
    def __init__(self, control: socket.socket, guard: socket.socket) -> None:
        self._control = control
        self._guard = guard
        self._children: dict[int, _Log] = {}

    def serve(self) -> None:
        wake, waker = socket.socketpair()
        for end in (wake, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            logs = {log.pipe: log for log in self._children.values() if not log.ended}
            sockets = [one.fileno() for one in (self._control, self._guard, wake)]
            readable, _, _ = select.select([*sockets, *logs], [], [])
            for pipe in logs.keys() & {*readable}:
                logs[pipe].copy()
            if wake.fileno() in readable:
                wake.recv(4096)
                self._reap()
            if self._guard.fileno() in readable:
                self._end()
            if self._control.fileno() in readable:
                self._answer(*socket.recv_fds(self._control, 4096, 2)[:2])

    def _answer(self, request: bytes, descriptors: list[int]) -> None:
        verb, _, word = request.decode().strip().partition(" ")
        if verb == "kill":
            self._kill(int(word))
        elif verb == "run":
            self._run(word, *descriptors)
        else:  # the parent is gone
            self._end()

    def _end(self) -> None:
        for pid in self._children:
            self._kill(pid)
        _sweep(set())
        os._exit(0)

    def _run(self, target: str, connection: int, file: int) -> None:
        log = _Log(file)
        try:
            pid = os.fork()
        except OSError as error:
            log.close()
            _send(self._control, f"failed cannot start a process ({error.strerror})")
        else:
            if pid == 0:
                for inherited in (self._control, self._guard):
                    inherited.close()
                for one in (log, *self._children.values()):
                    one.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                parent = os.getppid()
                _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if parent == os.getppid():
                    child.run(target, connection, log.end)
                os._exit(1)
            self._children[pid] = log
            _send(self._control, f"started {pid}")
        os.close(connection)
        os.close(log.end)

    def _kill(self, pid: int) -> None:
        if pid in self._children:  # not reaped, so the number is still its own
            for kill in (os.killpg, os.kill):  # before it has made its own group there is none
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        ended: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid in self._children:
                    ended[pid] = os.waitstatus_to_exitcode(status)
        logs = [self._children.pop(pid) for pid in ended]
        if ended:
            _sweep({*self._children})
        for log in logs:
            log.drain()
            log.close()
        for pid, code in ended.items():
            _send(self._control, f"ended {pid} {code}")


def _sweep(spared: set[int]) -> None:
    """Kill and reap what ended children left behind; orphans of any depth become children of this process."""
    until_s = time.monotonic() + SWEEP_S
    while time.monotonic() < until_s:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        orphans = [process for process in psutil.Process().children() if process.pid not in spared]
        if not orphans:
            return
        for process in orphans:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.001)


def _send(control: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):  # the parent is gone, which the next read reports
        control.sendall(f"{' '.join(line.split())}\n".encode())


@contextlib.contextmanager
def _killed_by_hang_up(*ends: socket.socket) -> Iterator[None]:
    """Let SIGIO end this process when parent or guard close their sockets: an import cannot look for that."""
    flags = [fcntl.fcntl(end, fcntl.F_GETFL) for end in ends]
    for end, before in zip(ends, flags, strict=True):
        fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(end, fcntl.F_SETFL, before | os.O_ASYNC)
    if select.select(ends, [], [], 0)[0]:  # one was closed before that
        os._exit(1)
    try:
        yield
    finally:
        for end, before in zip(ends, flags, strict=True):
            fcntl.fcntl(end, fcntl.F_SETFL, before)


def _prctl(option: int, value: int) -> None:
    """Linux only: elsewhere a child that loses its server, or an orphan, may live on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
