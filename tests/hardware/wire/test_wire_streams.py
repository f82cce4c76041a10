"""Whatever arrives, in whatever pieces: no decoder raises or hangs, and pieces make no difference.

Each decoder gets `INPUTS` streams of good frames with bytes spoilt, lost, doubled and garbage between them.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hardware.wire import csv_lines, fnirsi, lpm01a, ppk2, tc66, um
from hardware.wire.reading import WireError

CAPTURES = Path(__file__).resolve().parents[1] / "captures"


def capture(name: str) -> bytes:
    lines = (CAPTURES / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def ppk2_stream(count: int, *, start: int = 0) -> bytes:
    """Synthetic samples whose converter shows their own number."""
    numbers = range(start, start + count)
    return b"".join((i | 2 << 14 | (i % 64) << 18 | 0xA5 << 24).to_bytes(4, "little") for i in numbers)


UM24C, UM25C, UM34C = capture("um24c"), capture("um25c-synthetic"), capture("um34c-synthetic")
TC66C = capture("tc66c")
FNIRSI = capture("fnirsi-synthetic")
PPK2_TEXT = (CAPTURES / "ppk2-calibration-synthetic.txt").read_bytes()
INPUTS = 10_000


@dataclass(frozen=True)
class Kind:
    """One protocol: its decoder, whole good frames, its decoder of one frame, and the error of that."""

    make: Callable[[], Any]
    frames: tuple[bytes, ...]
    decode: Callable[[bytes], object]
    error: type[WireError]
    state: Callable[[Any], object]


def bad(decoder: Any) -> object:
    return decoder.bad


CSV_HEADER = b"t_us,bus_mV,current_uA,power_uW,seq,crc\r\n"
CSV_COLUMNS = csv_lines.decode_header(CSV_HEADER.decode().strip())

KINDS = {
    "um": Kind(um.UmDecoder, (UM24C, UM25C, UM34C), um.decode, um.UmError, bad),
    "tc66": Kind(tc66.Tc66Decoder, (TC66C,), tc66.decode, tc66.Tc66Error, bad),
    "csv": Kind(
        csv_lines.CsvDecoder,
        (
            CSV_HEADER,
            b"1000234,5101.25,843100,4300000,17,1709\n",
            b"bus_V,current_A\n",
            b"5,1\n",
            b"5,-1.5\n",
            b"# x\n",
        ),
        lambda frame: csv_lines.decode_row(frame.decode("latin-1"), CSV_COLUMNS),
        csv_lines.CsvError,
        lambda decoder: (decoder.bad, decoder.lost, decoder.restarts),
    ),
    "lpm01a-text": Kind(
        lpm01a.TextDecoder,
        (b"6409-07\r\n", b"0012+00\r\n", b"TimeStamp: 1s 250ms, buff 3%\r\n", b"end\r\n"),
        lambda frame: lpm01a.decode_line(frame.decode("latin-1")),
        lpm01a.Lpm01aError,
        bad,
    ),
    "lpm01a-binary": Kind(
        lpm01a.BinaryDecoder,
        (bytes.fromhex("528e"), bytes.fromhex("f0f300000bb805ffff"), b"\xf0\xf1too much\xff\xff", b"\xf0\xf4\xff\xff"),
        lpm01a.decode_sample,
        lpm01a.Lpm01aError,
        bad,
    ),
    "ppk2": Kind(
        ppk2.Ppk2Decoder,
        (ppk2_stream(16), ppk2_stream(16, start=16), ppk2_stream(9, start=60)),
        ppk2.decode,
        ppk2.Ppk2Error,
        lambda decoder: (decoder.bad, decoder.lost, decoder.index),
    ),
}


def stream(kind: Kind, dice: random.Random) -> bytes:
    """Good frames, spoilt ones, parts of some, and garbage."""
    pieces: list[bytes] = []
    for _ in range(dice.randrange(6)):
        frame = bytearray(dice.choice(kind.frames))
        match dice.randrange(6):
            case 0:
                frame[dice.randrange(len(frame))] ^= dice.randrange(1, 256)
            case 1:
                del frame[dice.randrange(len(frame)) :]
            case 2:
                del frame[: dice.randrange(len(frame))]
            case 3:
                frame[:] = dice.randbytes(dice.randrange(25))
        pieces.append(bytes(frame))
    return b"".join(pieces)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[left:right] for left, right in pairwise(edges)]


def outcome(kind: Kind, pieces: list[bytes]) -> tuple[list[object], object]:
    """All that came out of a decoder, and its counts."""
    decoder = kind.make()
    out: list[object] = []
    for piece in pieces:
        got = decoder.feed(piece)
        if isinstance(got, ppk2.Samples):
            out += zip(got.index.tolist(), got.adc.tolist(), got.range.tolist(), got.logic.tolist(), strict=True)
        else:
            out += got
    return out, kind.state(decoder)


# one draw of 8 bytes, which seed a cheaper source of chance: drawing each byte from hypothesis takes minutes
SEED = st.binary(min_size=8, max_size=8)
BOTH = [
    *((name, INPUTS // 8) for name in KINDS),
    *(pytest.param(name, INPUTS, marks=pytest.mark.long) for name in KINDS),
]
SOME_OR_ALL = pytest.mark.parametrize("inputs", [INPUTS // 8, pytest.param(INPUTS, marks=pytest.mark.long)])
fuzz = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.mark.parametrize(("name", "inputs"), BOTH)
def test_no_stream_in_any_pieces_makes_a_decoder_raise_and_pieces_make_no_difference(name: str, inputs: int) -> None:
    kind = KINDS[name]

    @settings(fuzz, max_examples=inputs)
    @given(SEED)
    def check(seed: bytes) -> None:
        dice = random.Random(seed)
        data = stream(kind, dice)
        cuts = [dice.randrange(10_000) for _ in range(dice.randrange(6))]
        assert outcome(kind, chunks(data, cuts)) == outcome(kind, [data])
        # and one frame of any bytes decodes, or raises the protocol's own error
        frame = bytearray(dice.choice(kind.frames))
        for _ in range(dice.randrange(4)):
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        data = dice.randbytes(dice.randrange(250)) if dice.randrange(4) == 0 else bytes(frame)
        with contextlib.suppress(kind.error):
            kind.decode(data)

    check()


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.lists(st.binary(max_size=40), max_size=8))
def test_bytes_that_hypothesis_likes_do_no_harm_either(name: str, pieces: list[bytes]) -> None:
    kind = KINDS[name]
    assert outcome(kind, pieces) == outcome(kind, [b"".join(pieces)])


@SOME_OR_ALL
def test_no_report_makes_the_fnirsi_decoder_raise(inputs: int) -> None:
    def report(dice: random.Random) -> bytes:
        match dice.randrange(4):
            case 0:
                return dice.randbytes(dice.randrange(70))
            case 1:
                return b"\xaa\x04" + dice.randbytes(62)
            case 2:
                spoilt = bytearray(FNIRSI)
                spoilt[dice.randrange(64)] ^= dice.randrange(256)
                return bytes(spoilt)
        return FNIRSI

    @settings(fuzz, max_examples=inputs)
    @given(SEED)
    def check(seed: bytes) -> None:
        dice = random.Random(seed)
        fed = [report(dice) for _ in range(dice.randrange(6))]
        decoder = fnirsi.FnirsiDecoder()
        out = [reading for each in fed for reading in decoder.feed(each)]
        assert decoder.count % 4 == 0
        assert len(out) <= decoder.count
        for each in fed:
            with contextlib.suppress(fnirsi.FnirsiError):
                fnirsi.decode(each)

    check()


@SOME_OR_ALL
def test_no_text_makes_the_ppk2_calibration_raise_anything_else(inputs: int) -> None:
    lines = PPK2_TEXT.splitlines(keepends=True)

    @settings(fuzz, max_examples=inputs)
    @given(SEED)
    def check(seed: bytes) -> None:
        dice = random.Random(seed)
        text = b"".join(
            dice.choice(lines) if dice.randrange(3) else dice.randbytes(dice.randrange(20))
            for _ in range(dice.randrange(12))
        )
        try:
            calibration = ppk2.decode_calibration(text + b"END" * dice.randrange(2))
        except ppk2.Ppk2Error:
            return
        assert all(value > 0 for value in calibration.constants["R"])

    check()


# -- finding the next frame -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["um", "tc66"])
@pytest.mark.parametrize("junk", [b"\x00", b"\x09\x09\x63", b"\xff" * 50, UM24C[:70], TC66C[:100]])
def test_a_good_frame_is_found_behind_junk(name: str, junk: bytes) -> None:
    kind = KINDS[name]
    frame = kind.frames[0]
    decoder = kind.make()
    # a torn frame swallows the next one's beginning for a moment; nothing whole is lost
    got = decoder.feed(junk + frame + junk + frame + frame)
    assert got == [kind.decode(frame)] * 3
    assert decoder.bad == 2


def test_frames_that_come_twice_are_both_read() -> None:
    assert len(um.UmDecoder().feed(UM24C * 2)) == 2


def test_a_reset_forgets_the_frame_begun() -> None:
    for name in ("um", "tc66"):
        decoder = KINDS[name].make()
        decoder.feed(KINDS[name].frames[0][:80])
        decoder.reset()
        assert len(decoder.feed(KINDS[name].frames[0])) == 1
        assert decoder.bad == 0
