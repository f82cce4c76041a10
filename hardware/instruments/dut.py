"""dut: a board that speaks the protocol of MLPerf Tiny, in Python, with a known time and power, and faults.

It answers as the reference firmware does, to the spelling of its errors. What it infers is made up: the sum of the
input's bytes decides the class. Its power follows what it does, so a meter can be simulated on its supply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hardware.instruments.faults import Faults
from hardware.instruments.instrument import FrontEnd, Instrument
from hardware.instruments.virtual import Truth

BOOT_S = 0.1
MAX_BUFFER = 27648
COMMAND = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What the board is.

    Attributes:
        infer_s, train_s: time of one inference, and of one epoch.
        idle_w, infer_w, train_w: its power.
        classes: of its net.
        trains: whether its firmware knows `train`.
        energy_mode: it prints no laps.
        drift: its timer gains so many seconds a second.
        trailing_comma, echo: as some boards do.
    """

    infer_s: float = 0.02
    train_s: float = 0.05
    idle_w: float = 0.05
    infer_w: float = 0.30
    train_w: float = 0.25
    classes: int = 10
    trains: bool = True
    energy_mode: bool = False
    drift: float = 0.0
    trailing_comma: bool = False
    echo: bool = False


class Dut(Instrument):
    """The board, on a serial line.

    Attributes:
        truth: its power over time; what it does later is not in it yet.
    """

    def __init__(self, board: Board | None = None, faults: Faults | None = None, *, on_s: float = 0.0) -> None:
        self.board = board or Board()
        self.truth = Truth([(on_s, self.board.idle_w)])
        super().__init__(FrontEnd(waveform=self.truth, on_s=on_s), faults)
        self._command = b""
        self._buffer = bytes(0)
        self._expected = 0
        self._held = b""
        self._at_s = on_s
        self._reset_done = False
        self._boots = 0
        self._boot(on_s)

    def feed(self, now_s: float, data: bytes) -> None:
        """Take bytes from the host; what they ask for begins when the board is free."""
        self._at_s = max(self._at_s, now_s)
        if self._reset_due():
            self._boot(self._at_s)
            return
        for byte in data:
            if byte != ord("%"):
                # the reference keeps no more, and loses the rest
                self._command += bytes([byte]) if len(self._command) < COMMAND else b""
                continue
            command, self._command = self._command.decode("latin-1"), b""
            if self.board.echo:
                self.put(self._at_s, 0.0, f"{command}%".encode("latin-1"))
            boots = self._boots
            self._do(command.split())
            if self._boots != boots:
                return
            self._say("m-ready")

    def _do(self, words: list[str]) -> None:
        commands: dict[str, Callable[[list[str]], None]] = {
            "name": lambda _: self._say("m-name-dut-[simulated]"),
            "profile": lambda _: self._say("m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[ic01]"),
            "timestamp": lambda _: self._lap(),
            "results": lambda _: self._results(),
            "db": self._db,
            "infer": lambda more: self._repeat("infer", more, self.board.infer_s, self.board.infer_w),
        }
        if self.board.trains:
            commands["train"] = lambda more: self._repeat("train", more, self.board.train_s, self.board.train_w)
        if words[:1] and words[0] in commands:
            commands[words[0]](words[1:])
        else:
            self._say(f"e-[Unknown command: {words[0] if words else ''}]")

    def _db(self, words: list[str]) -> None:
        if words[:1] == ["load"] and len(words) == 2 and words[1].isdecimal():
            count = int(words[1])
            if not 0 < count <= MAX_BUFFER:
                # as the reference prints it: no prefix, and no CR
                self.put(self._at_s, 0.0, b"Supplied buffer size %d exceeds maximum of %d\n" % (count, MAX_BUFFER))
                return
            self._expected, self._held = count, b""
            self._say(f"m-[Expecting {count} bytes]")
        elif words == ["print"]:
            for start in range(0, len(self._buffer), 8):
                self._say("m-buffer-" + self._buffer[start : start + 8].hex("-"))
        elif len(words) == 1 and len(words[0]) % 2:
            self._say("e-[Insufficent number of hex digits]")
        elif len(words) == 1:
            self._take(words[0])
        else:
            self._say("e-[Unknown command: db]")

    def _take(self, digits: str) -> None:
        try:
            self._held += bytes.fromhex(digits)
        except ValueError:
            self._say(f"e-[Invalid hex digit '{digits[:2]}']")
            return
        if self._expected and len(self._held) >= self._expected:
            self._buffer, self._expected = self._held, 0
            self._say("m-load-done")

    def _repeat(self, word: str, words: list[str], each_s: float, power_w: float) -> None:
        numbers = [int(one) for one in words if one.isdecimal()]
        count, warm_up = (*numbers, 0, 10)[:2] if len(numbers) < 2 else numbers[:2]
        if count < 1:
            self._say(f"e-[{'Inference' if word == 'infer' else 'Training'} iterations must be >0]")
            return
        shown = count + 1 if self.faults.now("count", self._age_s) is not None else count
        self._say(f"m-warmup-start-{warm_up}")
        self._work(warm_up * each_s, power_w)
        self._say("m-warmup-done", f"m-{word}-start-{shown}")
        self._lap()
        if not self._work(count * each_s, power_w):
            return
        self._lap()
        self._say(f"m-{word}-done")
        if word == "infer":
            self._results()

    def _work(self, seconds: float, power_w: float) -> bool:
        """Draw power for a time. Returns whether it ended as it should: a reset in between ends it."""
        start_s = self._at_s
        reset = self.faults.first("reset")
        ends_s = start_s + seconds
        if reset is not None and not self._reset_done and self.front.on_s + reset.at_s < ends_s:
            ends_s = max(start_s, self.front.on_s + reset.at_s)
        self.truth.extend([(start_s, power_w), (ends_s, self.board.idle_w)])
        self._at_s = ends_s
        if self._reset_due():
            self._boot(ends_s)
            return False
        return True

    def _reset_due(self) -> bool:
        reset = self.faults.first("reset")
        return reset is not None and not self._reset_done and self._age_s >= reset.at_s

    def _boot(self, now_s: float) -> None:
        self._reset_done = self._reset_done or self._reset_due()
        self._boots += 1
        self._command, self._buffer, self._expected, self._held = b"", b"", 0, b""
        self._at_s = now_s + BOOT_S
        self._say("m-timestamp-mode-" + ("energy" if self.board.energy_mode else "performance"))
        self._lap()
        self._say("m-init-done", "m-ready")

    def _lap(self) -> None:
        if not self.board.energy_mode:
            self._say(f"m-lap-us-{int(self._age_s * (1 + self.board.drift) * 1e6) % 2**32}")

    def _results(self) -> None:
        answer = sum(self._buffer) % self.board.classes
        values = ",".join("1.000" if one == answer else "0.000" for one in range(self.board.classes))
        self._say(f"m-results-[{values}{',' if self.board.trailing_comma else ''}]")

    @property
    def _age_s(self) -> float:
        return self._at_s - self.front.on_s

    def _say(self, *lines: str) -> None:
        for line in lines:
            self.put(self._at_s, 0.0, f"{line}\r\n".encode("latin-1"))
