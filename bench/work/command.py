"""Command: the work of running a program, with every process that it starts, its output and signals left as they are.

A signal that reaches this process is passed on to the program, unless the terminal sent it to both. The program has
ended when all processes that it started have: what goes on after it would else be in the quiet around the next
execution. Meanwhile the main thread sleeps until a signal arrives.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import psutil

from bench.errors import RequestError, show

FORWARDED = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM}
)
ENDING = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP})
AWAITED = FORWARDED | {signal.SIGCHLD}
RESET = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores and other programs do not expect to be ignored."""

PR_SET_CHILD_SUBREAPER = 36
"""Option of prctl(2): processes whose parent has ended become ours, so that their end is known."""

TAIL_BYTES = 16_000_000
"""Of each stream, what an expression is looked for in."""

MAX_LINE = 10_000
"""Longer lines are cut before an expression sees them."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Per:
    """What one execution is counted in: a number of units, known or found in the program's output.

    Attributes:
        unit: its name, in the plural, e.g. tokens.
        count: of one execution; None where the output says it.
        pattern: expression with one group, the number; its last match counts.
    """

    unit: str
    count: float | None = None
    pattern: re.Pattern[bytes] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Make it from `tokens=1234` or `tokens=([0-9]+) tokens generated`.

        Raises:
            RequestError: neither of the two.
        """
        unit, equals, value = text.partition("=")
        if not equals or not NAME.fullmatch(unit) or not value:
            raise RequestError(f"--per {show(text)}: expected NAME=NUMBER or NAME=EXPRESSION, e.g. tokens=1234")
        count = _number(value)
        if count is not None:
            return cls(unit, count=count)
        try:
            pattern = re.compile(value.encode())
        except re.error as error:
            raise RequestError(f"--per {unit}: {show(value)} is no regular expression: {error}") from None
        if pattern.groups != 1:
            raise RequestError(
                f"--per {unit}: {show(value)} is no number above 0, and as an expression it has {pattern.groups} "
                f"groups; expected one, e.g. {unit}='([0-9]+) {unit}'"
            )
        return cls(unit, pattern=pattern)

    def found(self, streams: Sequence[bytes]) -> float | None:
        """The units of an execution that wrote this; None where its output does not say."""
        if self.pattern is None:
            return self.count
        numbers = [
            number
            for stream in streams
            for line in stream.splitlines()
            for match in self.pattern.finditer(line[:MAX_LINE])
            if (number := _number((match[1] or b"").decode("ascii", "replace").replace(",", ""))) is not None
        ]
        return numbers[-1] if numbers else None


def _number(text: str) -> float | None:
    """A number above 0, None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How an execution ended.

    Attributes:
        status: exit status; None where a signal ended it.
        signal: that ended it; None where none did.
        stopped: a signal meanwhile asked this process to end, too.
        units: what it did, in units of `Per`; None where there are none, or its output does not say.
        peak_rss_mb: largest resident memory of one of its processes, MB.
    """

    status: int | None
    signal: int | None = None
    stopped: bool = False
    units: float | None = None
    peak_rss_mb: float | None = None

    @property
    def problem(self) -> str | None:
        """Why it did not go well; None where it did."""
        if self.signal is not None:
            return f"ended by signal {self.signal} ({signal.strsignal(self.signal)})"
        return f"exit status {self.status}" if self.status else None


class Command:
    """A program with its arguments, to be executed as often as a window needs.

    Args:
        argv: the program and its arguments, as a shell would start it.
        per: what its executions are counted in.

    Raises:
        RequestError: there is no such program.
    """

    def __init__(self, argv: Sequence[str], per: Per | None = None) -> None:
        if shutil.which(argv[0]) is None:
            raise RequestError(f"{show(argv[0])}: no such command, or it cannot be executed")
        self.argv = [*argv]
        self.per = per
        self._stdin_at = _place(0)

    def execute(self) -> Ended:
        """Run the program and wait until every process that it started has ended.

        A regular file at stdin is read from its beginning each time.

        Raises:
            RequestError: it cannot be started.
        """
        _adopt_orphans()
        if self._stdin_at is not None:
            os.lseek(0, self._stdin_at, os.SEEK_SET)
        with _caught() as numbers, contextlib.ExitStack() as stack:
            pumps = [stack.enter_context(_Pump(to)) for to in (1, 2)] if self.per and self.per.pattern else []
            ours = {child.pid for child in psutil.Process().children()}
            actions = [(os.POSIX_SPAWN_DUP2, pump.end, pump.to) for pump in pumps]
            try:
                pid = os.posix_spawnp(self.argv[0], self.argv, os.environ, file_actions=actions, setsigdef=RESET)
            except (OSError, ValueError) as error:
                raise RequestError(f"{show(self.argv[0])}: cannot be started ({error})") from None
            for pump in pumps:
                pump.start()
            stopped, code, peak_kb = _wait(pid, ours, numbers)
            tails = [pump.finish() for pump in pumps]
        return Ended(
            status=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            stopped=stopped,
            units=self.per.found(tails) if self.per else None,
            peak_rss_mb=peak_kb / 1000 * 1.024,
        )


@contextlib.contextmanager
def _caught() -> Iterator[int]:
    """Catch the awaited signals, in whichever thread they arrive; what is ignored stays so, but for SIGCHLD.

    Yields:
        A descriptor to read their numbers from, a byte each.
    """
    numbers, ours = os.pipe()
    os.set_blocking(ours, False)
    wakeup = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in AWAITED
        # whoever ignores the end of children would never be told of it
        if number == signal.SIGCHLD or signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield numbers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(numbers)
        os.close(ours)


def _of_terminal(number: int) -> bool:
    """Whether a signal may be taken for one that the terminal sent to this process and to the program alike."""
    if number not in (signal.SIGINT, signal.SIGQUIT):
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _adopt_orphans() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _place(descriptor: int) -> int | None:
    """Where a regular file is read from; None for a terminal, a pipe, or where it is closed."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        return None


def _wait(pid: int, ours: set[int], numbers: int) -> tuple[bool, int, int]:
    """Pass signals on until the program and what it started have ended.

    Args:
        ours: children that belong to this process itself.
        numbers: descriptor that tells the signals.

    Returns:
        Whether a signal asked to end; exit code, negative for a signal; peak resident memory, KiB.
    """
    stopped, code, peak_kb = False, None, 0
    while True:
        for number in os.read(numbers, 64):
            if number == signal.SIGCHLD:
                continue
            stopped = stopped or number in ENDING
            if not _of_terminal(number):
                _send([pid] if code is None else _left(ours), number)
        for child in _left(ours):
            with contextlib.suppress(ChildProcessError):
                ended, status, usage = os.wait4(child, os.WNOHANG)
                peak_kb = max(peak_kb, usage.ru_maxrss if ended else 0)
                if ended == pid:
                    code = os.waitstatus_to_exitcode(status)
        if code is not None and not _left(ours):
            return stopped, code, peak_kb


def _left(ours: set[int]) -> list[int]:
    return [child.pid for child in psutil.Process().children() if child.pid not in ours]


def _send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class _Pump:
    """Passes on what a program writes, byte for byte, and keeps the end of it.

    Attributes:
        to: descriptor that it belongs to.
        end: descriptor for the program.
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self._read, self.end = os.pipe()
        self._tail = bytearray()
        self._thread = threading.Thread(target=self._pass_on, name="output", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._thread.ident:  # the program did not start
            os.close(self.end)
            os.close(self._read)

    def start(self) -> None:
        """Begin, once the program has its end."""
        os.close(self.end)
        self._thread.start()

    def finish(self) -> bytes:
        """Wait for the last byte; returns the end of what was written."""
        self._thread.join()
        return bytes(self._tail[-TAIL_BYTES:])

    def _pass_on(self) -> None:
        # where the reader has gone, closing our end tells the program so, as without us
        with os.fdopen(self._read, "rb", buffering=0) as source, contextlib.suppress(OSError):
            while data := source.read(1 << 16):
                self._tail += data
                if len(self._tail) > 2 * TAIL_BYTES:
                    del self._tail[:-TAIL_BYTES]
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self.to, rest) :]
