"""Faults of a simulated instrument, each with its time."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "late", "torn", "duplicate", "corrupt", "noise", "silent", "disconnect", "drift", "wrap", "reset", "count"
]  # fmt: skip

DOCS: dict[str, str] = {
    "late": "requests are answered at the end of the span, all at once",
    "torn": "frames are cut: half of them lose their end, the others come in two parts",
    "duplicate": "every frame is sent twice",
    "corrupt": "one to three bits of every frame are flipped; a checksum then no longer fits",
    "noise": "bytes that belong to no frame come before every frame",
    "silent": "nothing is sent",
    "disconnect": "the port is gone, and comes back under the same name",
    "drift": "the instrument's clock runs fast by AMOUNT seconds per second (0.001 if not given)",
    "wrap": "the instrument's own counter wraps at this moment",
    "reset": "a board restarts at this moment, in the middle of what it does",
    "count": "a board tells a wrong number of iterations",
}

SPEC = re.compile(r"^(?P<kind>[a-z]+)(=(?P<amount>[-+.\deE]+?))?(@(?P<at>[.\d]+))?(\+(?P<span>[.\d]+))?$")
SPLIT_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, from ``at_s`` after the instrument was switched on and for ``for_s``."""

    kind: Kind
    at_s: float = 0.0
    for_s: float = float("inf")
    amount: float | None = None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``kind[=AMOUNT][@AT][+FOR]``, times in s: ``disconnect@20+5``, ``drift=0.002``, ``wrap@30``.

        Raises:
            ValueError: not of that form, or no such kind.
        """
        match = SPEC.match(text)
        if match is None or match["kind"] not in get_args(Kind):
            raise ValueError(f"not a fault: {text!r}; write KIND[=AMOUNT][@AT][+FOR], KIND of {', '.join(DOCS)}")
        return cls(
            kind=match["kind"],  # type: ignore[arg-type]  # one of them, by the line above
            at_s=float(match["at"] or 0.0),
            for_s=float(match["span"] or "inf"),
            amount=float(match["amount"]) if match["amount"] else None,
        )

    def covers(self, age_s: float) -> bool:
        """Whether the fault acts at this age of the instrument."""
        return self.at_s <= age_s < self.at_s + self.for_s


class Faults:
    """The faults of one instrument. Ages are in s since it was switched on."""

    def __init__(self, faults: Sequence[Fault] = (), *, seed: int = 0) -> None:
        self.faults = tuple(faults)
        self._rng = random.Random(seed)

    def now(self, kind: Kind, age_s: float) -> Fault | None:
        """The fault of that kind that acts at this age, None if there is none."""
        return next((fault for fault in self.faults if fault.kind == kind and fault.covers(age_s)), None)

    def first(self, kind: Kind) -> Fault | None:
        """The first fault of that kind, None if there is none."""
        return next((fault for fault in self.faults if fault.kind == kind), None)

    def connected(self, age_s: float) -> bool:
        """Whether the port is there."""
        return self.now("disconnect", age_s) is None

    def drift_s(self, age_s: float) -> float:
        """How much the clock of the instrument has gained."""
        drifts = [fault for fault in self.faults if fault.kind == "drift"]
        return sum(
            (0.001 if fault.amount is None else fault.amount) * min(max(age_s - fault.at_s, 0.0), fault.for_s)
            for fault in drifts
        )

    def send(self, frame: bytes, age_s: float) -> list[tuple[float, bytes]]:
        """The pieces of a frame after the faults: (delay in s, bytes), in the order in which they are sent."""
        if self.now("silent", age_s) is not None:
            return []
        delay_s = 0.0
        late = self.now("late", age_s)
        if late is not None:
            delay_s = late.at_s + late.for_s - age_s
        if self.now("corrupt", age_s) is not None:
            frame = self._corrupted(frame)
        parts = [(delay_s, frame)]
        if self.now("torn", age_s) is not None:
            cut = self._rng.randrange(1, len(frame))
            parts = [(delay_s, frame[:cut])]
            if self._rng.random() < 0.5:
                parts.append((delay_s + SPLIT_S, frame[cut:]))
        if self.now("duplicate", age_s) is not None:
            parts = parts * 2
        if self.now("noise", age_s) is not None:
            parts.insert(0, (delay_s, self._rng.randbytes(self._rng.randrange(1, 40))))
        return parts

    def _corrupted(self, frame: bytes) -> bytes:
        broken = bytearray(frame)
        for _ in range(self._rng.randrange(1, 4)):
            broken[self._rng.randrange(len(broken))] ^= 1 << self._rng.randrange(8)
        return bytes(broken)
