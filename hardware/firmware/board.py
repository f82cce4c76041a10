"""JouletuneDut: the host's side of this project's own firmware, which trains; see docs/microcontroller.md."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hardware.firmware.dut import Dut, Timed
from hardware.firmware.head import Head
from hardware.firmware.net import Bytes
from hardware.wire.dut import DutError

Mode = Literal["logits", "head", "part", "stage", "both"]
Setting = Literal["rate", "decay", "threshold", "exits"]
ABOUT = "m-about-"
MAX_NUMBER = 2**40
COMPUTE_S = 120.0
"""Longest wait for features of one image, or for all confidences."""


@dataclass(frozen=True, slots=True)
class About:
    """What a firmware says of itself.

    Attributes:
        board, net, weights: name of the board; SHA-256 of the net's arrays, and of the weights it was made from.
        height, width, channels: of the image.
        classes, features, part_features: of the heads; `part_features` is 0 where the net has one part.
        slots: examples that it stores; 0: it does not train.
        piece: bytes of one `db` command.
        macs, part_macs: multiply-accumulates of one image, and of its first part.
        flash, sram: bytes, by the account of whoever built it.
        tick_ns: of its timer.
        instruction_ps: of an emulated board; 0 of others.
    """

    board: str
    net: str
    weights: str
    height: int
    width: int
    channels: int
    classes: int
    features: int
    part_features: int
    slots: int
    piece: int
    macs: int
    part_macs: int
    flash: int
    sram: int
    tick_ns: int
    instruction_ps: int

    @classmethod
    def of(cls, reply: list[str]) -> About:
        """Read the reply to `about`.

        Raises:
            DutError: a line is missing or wrong.
        """
        said: dict[str, str] = {}
        for line in reply:
            name, _, value = line.removeprefix(ABOUT).partition("-")
            if line.startswith(ABOUT):
                said[name] = value
        fields: dict[str, str | int] = {}
        for name, kind in cls.__annotations__.items():
            value = said.get(name, "")
            if kind == "int" and not (value.isascii() and value.isdecimal() and len(value) < 13):
                raise DutError(f"about: {name} is {value[:20]!r}, expected a number")
            fields[name] = int(value) if kind == "int" else value[:100]
        about = cls(**fields)  # type: ignore[arg-type]  # each of its type, by the lines above
        if not (0 < about.size <= MAX_NUMBER and about.classes and about.features and about.piece):
            raise DutError("about: a net without an input, or without classes")
        return about

    @property
    def size(self) -> int:
        """Bytes of an image."""
        return self.height * self.width * self.channels

    def instructions(self, ticks: int, count: int) -> int | None:
        """Instructions of one of `count` repetitions that took so many ticks; None where that is not known."""
        return round(ticks * self.tick_ns * 1000 / self.instruction_ps / count) if self.instruction_ps else None


class JouletuneDut(Dut):
    """A board with this project's firmware, or with plain one, of which `about` is None after `connect`."""

    about: About | None = None

    def connect(self, wait_s: float = 5.0) -> str:
        """As of `Dut`, and ask what the firmware can.

        Raises:
            DutError: nothing answers as a DUT does.
        """
        name = super().connect(wait_s)
        try:
            self.about = About.of(self.command("about"))
        except DutError as error:
            if "Unknown command" not in str(error):
                raise
            return name
        if not self._passed:
            self.piece, self.longest = self.about.piece, 2 * self.about.piece + 4
        return name

    def mode(self, mode: Mode) -> None:
        """Choose what answers, or is trained: the net's own logits, the full head, the part's, both by stages."""
        if f"m-mode-{mode}" not in self.command(f"mode {mode}"):
            raise DutError(f"mode {mode}: not taken")

    def output(self, part: bool = False) -> Bytes:
        """Quantised output of the last inference, or the features of its first part."""
        return np.frombuffer(self.print("output part" if part else "output"), np.int8)

    def clear(self) -> None:
        """Forget the stored examples and the heads."""
        self._expect("feature clear", "m-features-0")
        self.command("head clear")

    def add(self, label: int, count: int) -> None:
        """Store the features of the loaded image.

        Args:
            count: examples that there are then.

        Raises:
            DutError: there is no place, or their number is another.
        """
        self._expect(f"feature add {label}", f"m-features-{count}", COMPUTE_S)

    def stored(self, place: int) -> Bytes:
        """Features of an example: those of the whole net, then those of the part."""
        return np.frombuffer(self.print(f"feature print {place}"), np.int8)

    def set(self, settings: Mapping[Setting, float], seed: int = 1) -> None:
        """Set what training and stage decision use; numbers go over in single precision, exactly.

        Args:
            settings: `exits` makes a share of inferences leave early, spread evenly, whatever the image; below 0 the
                confidence decides again.
        """
        for name, value in settings.items():
            self._expect(f"set {name} {_bits(value)}", "m-set")
        self._expect(f"set seed {seed}", "m-set")

    def threshold(self, share: float) -> float:
        """Take the threshold from the stored examples, so that the part answers a share of them; returns it."""
        reply = self.command(f"threshold {_bits(share)}", COMPUTE_S)
        digits = next((line.removeprefix("m-threshold-") for line in reply if line.startswith("m-threshold-")), "")
        try:
            return float(struct.unpack(">f", bytes.fromhex(digits))[0])
        except (ValueError, struct.error):
            raise DutError(f"threshold: {' '.join(reply)[:60]!r}") from None

    def head(self, part: bool = False) -> Head:
        """Weights of a trained head.

        Raises:
            DutError: they are not as many as they have to be, or not finite.
        """
        assert self.about is not None
        features = self.about.part_features if part else self.about.features
        data = self.print("head print part" if part else "head print")
        classes = self.about.classes
        if len(data) != 4 * classes * (features + 1):
            raise DutError(f"head print: {len(data)} bytes")
        numbers: npt.NDArray[np.float32] = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(numbers).all():
            raise DutError("head print: weights that are not finite; the rate is too high")
        return Head(numbers[: classes * features].reshape(classes, features), numbers[classes * features :])

    def _expect(self, command: str, answer: str, silence_s: float = 5.0) -> None:
        reply = self.command(command, silence_s)
        if answer not in reply:
            raise DutError(f"{command}: expected {answer}, got {' '.join(reply)[:60] or 'nothing'}")


def note(timed: Timed, name: str) -> int | None:
    """The number of a line `m-NAME-123` of a reply, None where it has none."""
    for line in timed.notes:
        value = line.removeprefix(f"m-{name}-")
        if value != line and value.isdecimal() and len(value) < 19:
            return int(value)
    return None


def _bits(value: float) -> str:
    return struct.pack(">f", value).hex()
