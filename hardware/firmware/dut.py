"""Dut: talk to a board that speaks the protocol of MLPerf Tiny, plain firmware or this project's own.

What goes wrong on the line is a `DutError`: an error that the board reports, silence, a restart in the middle, an
answer that does not belong to the command. Every wait has an end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hardware.meters.link import Link
from hardware.wire.dut import (
    MAX_COMMAND,
    PIECE,
    PIECE_PASSED,
    READY,
    DutError,
    Line,
    Lines,
    buffer,
    encode,
    lap_s,
    lap_us,
    own_text,
    results,
)

MAX_LINES = 20_000
"""Of one reply."""

SILENCE_S = 5.0
"""Longest wait for the next line of a command that computes nothing."""

QUIET_S = 0.05
"""A port that has sent nothing for so long before the first command has nothing left to say."""

USB_S = 0.016
"""A USB serial converter may keep received bytes so long: the default latency timer of FTDI's chips."""


class Clock(Protocol):
    """What is needed of the module `time`."""

    def monotonic(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Timed:
    """What a board did N times, between two moments.

    Attributes:
        count: how often.
        t0_s, t1_s: start and end on this host's clock; equal where both lines arrived at once.
        edge_u_s: standard uncertainty of each.
        lap_s: time from one to the other by the board's own timer; None where it prints no laps.
        results: outputs of the last inference; empty for training.
        notes: other lines of the reply.
    """

    count: int
    t0_s: float
    t1_s: float
    edge_u_s: float
    lap_s: float | None
    results: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


class Dut:
    """A board on an open link. It is closed by whoever opened the link.

    Args:
        baud: bits a second of the line, which a byte takes ten of; None: bytes take no time.
        passed: whether the interface board stands in between.
        clock: the host's.
    """

    def __init__(self, link: Link, *, baud: int | None = None, passed: bool = False, clock: Clock = time) -> None:
        self._link = link
        self._baud = baud
        self._passed = passed
        self._clock = clock
        self._lines = Lines()
        self.piece = PIECE_PASSED if passed else PIECE
        self.longest = MAX_COMMAND

    def connect(self, wait_s: float = SILENCE_S) -> str:
        """Let a board that restarts when its port is opened do so, and ask for its name.

        Raises:
            DutError: nothing on the port answers as a DUT does.
        """
        error: DutError | None = None
        end_s = self._clock.monotonic() + wait_s
        while error is None or self._clock.monotonic() < end_s:
            self._drain()
            try:
                return self.name(min(1.0, wait_s))
            except DutError as failed:  # a command that began before this program, or the board's first lines
                error = failed
        raise error

    def name(self, silence_s: float = SILENCE_S) -> str:
        """Name of the board's maker.

        Raises:
            DutError: it does not say.
        """
        return self._bracketed("name", "m-name-dut-", silence_s)

    def profile(self) -> tuple[str, str]:
        """Profile and model that the firmware was built for.

        Raises:
            DutError: it does not say.
        """
        reply = self.command("profile")
        return _after(reply, "m-profile-"), _after(reply, "m-model-")

    def load(self, data: bytes) -> None:
        """Put bytes into the input buffer, and read them back.

        Raises:
            DutError: the board takes no so many, or holds others now.
        """
        expecting = self.command(f"db load {len(data)}")
        if f"m-[Expecting {len(data)} bytes]" not in expecting:
            raise DutError(f"db load {len(data)}: {' '.join(expecting)[:100] or 'no answer'}")
        for start in range(0, len(data), self.piece):
            part = data[start : start + self.piece]
            reply = self.command(f"db {part.hex()}")
            last = start + self.piece >= len(data)
            if (["m-load-done"] if last else []) != reply:
                raise DutError(f"db: {' '.join(reply)[:100] or 'no m-load-done after the last byte'}")
        held = self.print("db print")
        if held[: len(data)] != data:
            wrong = next((i for i, (a, b) in enumerate(zip(data, held, strict=False)) if a != b), len(held))
            raise DutError(f"db print: byte {wrong} of {len(data)} is not the one that was sent")

    def print(self, command: str) -> bytes:
        """The bytes that a command prints, such as ``db print``.

        Raises:
            DutError: it prints something else.
        """
        reply = self.command(command)
        parts = [buffer(line) for line in reply]
        if None in parts:
            raise DutError(f"{command}: expected bytes, got {reply[parts.index(None)][:60]!r}")
        return b"".join(part for part in parts if part is not None)

    def results(self) -> list[float]:
        """Outputs of the last inference.

        Raises:
            DutError: there are none.
        """
        found = [numbers for line in self.command("results") if (numbers := results(line)) is not None]
        if len(found) != 1:
            raise DutError(f"results: {len(found)} lists")
        return found[0]

    def infer(self, count: int, warm_up: int, *, silence_s: float) -> Timed:
        """Infer `warm_up` times unseen, then `count` times.

        Args:
            silence_s: longest wait for a line, so for all of the `count`.

        Raises:
            DutError: the board failed, or did another number of them.
        """
        return self._repeated("infer", count, warm_up, silence_s)

    def train(self, count: int, warm_up: int, *, silence_s: float) -> Timed:
        """Train `count` epochs after `warm_up` that leave nothing behind; arguments as of `infer`."""
        return self._repeated("train", count, warm_up, silence_s)

    def can(self, command: str) -> bool:
        """Whether the firmware knows a command, asked for without doing anything."""
        try:
            self.command(command)
        except DutError as error:
            if "Unknown command" in str(error):
                return False
            if "e-[" in str(error):
                return True
            raise
        return True

    def command(self, command: str, silence_s: float = SILENCE_S) -> list[str]:
        """Send a command; returns the lines of its reply, without the one that ends it.

        Args:
            silence_s: longest wait for each line.

        Raises:
            DutError: the board reports an error, falls silent, or restarts.
        """
        return [line.text for line in self._ask(command, silence_s)]

    def _ask(self, command: str, silence_s: float) -> list[Line]:
        message = encode(command, passed=self._passed, longest=self.longest)
        try:
            while self._link.read(wait=False):  # what came late, of a command before
                pass
            self._lines.clear()
            self._link.write(message)
            return list(self._reply(command, silence_s))
        except OSError as error:
            raise DutError(f"the port is gone: {error}") from None

    def _reply(self, command: str, silence_s: float) -> Iterable[Line]:
        said, waiting, word = 0, list[Line](), command.partition(" ")[0]
        deadline_s = self._clock.monotonic() + silence_s
        while True:
            while not waiting:
                data = self._link.read()
                now_s = self._clock.monotonic()
                if data:
                    waiting = self._lines.feed(data, now_s)
                if not waiting and now_s > deadline_s:
                    raise DutError(f"{word}: silent for {silence_s:g} s")
            line = waiting.pop(0)
            deadline_s = max(deadline_s, line.t_s + silence_s)
            said += 1
            if said > MAX_LINES:
                raise DutError(f"{word}: over {MAX_LINES} lines")
            text = own_text(line.text, command, passed=self._passed)
            if text is None:
                continue
            if text == READY:
                return
            if text.startswith("e-["):
                self._settle(waiting)
                raise DutError(f"{command[:40]}: {text[:200]}")
            if text.startswith(("m-init-done", "m-timestamp-mode-")):
                raise DutError(f"{word}: the board restarted")
            if text:
                yield Line(text, line.t_s)

    def _settle(self, waiting: Sequence[Line]) -> None:
        """Read the end of a reply whose error is known, as far as it comes at once."""
        if not any(line.text.endswith(READY) for line in waiting):
            with contextlib.suppress(OSError):
                self._link.read()

    def _drain(self) -> None:
        try:
            end_s = self._clock.monotonic() + SILENCE_S
            while self._link.read() and self._clock.monotonic() < end_s:
                pass
        except OSError as error:
            raise DutError(f"the port is gone: {error}") from None
        self._lines.clear()

    def _bracketed(self, command: str, prefix: str, silence_s: float) -> str:
        return _after(self.command(command, silence_s), prefix)

    def _repeated(self, word: str, count: int, warm_up: int, silence_s: float) -> Timed:
        lines = self._ask(f"{word} {count} {warm_up}", silence_s)
        marks = {f"m-{word}-start-": None, f"m-{word}-done": None, "m-warmup-start-": None}
        laps: list[tuple[int, Line]] = []
        notes, found = list[str](), list[list[float]]()
        at: dict[str, Line] = {}
        for line in lines:
            lap = lap_us(line.text)
            numbers = results(line.text)
            mark = next((one for one in marks if line.text.startswith(one)), None)
            if lap is not None and f"m-{word}-start-" in at and f"m-{word}-done" not in at:
                laps.append((lap, line))
            elif numbers is not None:
                found.append(numbers)
            elif mark is not None:
                if mark in at:
                    raise DutError(f"{word}: {line.text[:40]!r} came twice")
                at[mark] = line
            else:
                notes.append(line.text)
        if warm_up and at.get("m-warmup-start-", Line("", 0.0)).text != f"m-warmup-start-{warm_up}":
            raise DutError(f"{word}: expected m-warmup-start-{warm_up}")
        start, done = at.get(f"m-{word}-start-"), at.get(f"m-{word}-done")
        if start is None or done is None:
            raise DutError(f"{word}: the reply lacks its {'start' if start is None else 'end'}")
        if start.text != f"m-{word}-start-{count}":
            raise DutError(f"{word}: asked for {count}, got {start.text[:40]!r}")
        if len(laps) not in (0, 2):
            raise DutError(f"{word}: {len(laps)} laps; expected two, or none in energy mode")
        if word == "infer" and len(found) != 1:
            raise DutError(f"infer: {len(found)} lists of results")
        first, second = (laps[0][1], laps[1][1]) if laps else (start, done)
        sent_s = [10 * (len(line.text) + 2) / self._baud if self._baud else 0.0 for line in (first, second)]
        # the work begins when the first line has been sent, and the second one is sent when it has ended
        t0_s, t1_s = first.t_s, max(first.t_s, second.t_s - sent_s[1])
        took_s = lap_s(laps[0][0], laps[1][0]) if laps else None
        # a line may wait in a buffer of the board, and its bytes in the converter
        u_s = (max(sent_s) / 2 + USB_S) / 3**0.5 if self._baud else 0.001
        return Timed(count, t0_s, t1_s, u_s, took_s, tuple(found[0]) if found else (), tuple(notes))


def _after(reply: Sequence[str], prefix: str) -> str:
    """What one line of a reply has in brackets behind a prefix.

    Raises:
        DutError: no line has.
    """
    for line in reply:
        if line.startswith(f"{prefix}[") and line.endswith("]"):
            return line[len(prefix) + 1 : -1][:100]
    raise DutError(f"expected {prefix}[...], got {' '.join(reply)[:60] or 'nothing'!r}")


Opener = Callable[[], Link]
"""Opens a board's port anew."""
