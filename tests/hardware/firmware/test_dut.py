"""The host's side of the protocol of MLPerf Tiny against a simulated board with faults, and against hostile bytes."""

from __future__ import annotations

import random
import time

import pytest

from hardware.firmware.dut import Dut
from hardware.instruments.clock import SimulatedClock
from hardware.instruments.dut import BOOT_S, Board
from hardware.instruments.dut import Dut as SimulatedDut
from hardware.instruments.faults import Fault, Faults
from hardware.instruments.port import SimulatedLink
from hardware.wire.dut import MAX_LINE, DutError, Lines, encode, lap_s, results


def connected(board: Board | None = None, *faults: str) -> tuple[Dut, SimulatedDut, SimulatedClock]:
    clock = SimulatedClock(0.0)
    simulated = SimulatedDut(board, Faults([Fault.parse(one) for one in faults]))
    dut = Dut(SimulatedLink(simulated, clock), clock=clock)
    return dut, simulated, clock


def test_a_board_says_its_name_and_profile() -> None:
    dut, _, _ = connected()
    assert dut.connect() == "simulated"
    assert dut.profile() == ("ULPMark for tinyML Firmware V0.0.1", "ic01")
    assert dut.can("train 0 0")
    plain, _, _ = connected(Board(trains=False))
    plain.connect()
    assert not plain.can("train 0 0")


def test_what_is_loaded_is_read_back() -> None:
    dut, simulated, _ = connected()
    dut.connect()
    data = bytes(range(256)) * 3
    dut.load(data)
    assert dut.print("db print") == data
    simulated._take = lambda digits: SimulatedDut._take(simulated, digits.replace("05", "06"))  # type: ignore[method-assign]
    with pytest.raises(DutError, match="byte 5 of 768"):
        dut.load(data)


@pytest.mark.parametrize("count", [0, 27649])
def test_a_buffer_that_the_board_lacks_is_refused(count: int) -> None:
    dut, _, _ = connected()
    dut.connect()
    with pytest.raises(DutError, match="db load"):
        dut.load(bytes(count))


@pytest.mark.parametrize("board", [Board(), Board(trailing_comma=True), Board(echo=True)])
def test_an_inference_has_laps_and_results(board: Board) -> None:
    dut, _, _ = connected(board)
    dut.connect()
    dut.load(bytes([7, 6]))
    timed = dut.infer(50, 10, silence_s=5)
    assert timed.lap_s == pytest.approx(50 * board.infer_s, abs=1e-5)
    assert timed.t1_s - timed.t0_s == pytest.approx(1.0, abs=0.11)
    assert timed.results.index(1.0) == 3
    assert dut.results() == list(timed.results)
    assert dut.train(4, 1, silence_s=5).lap_s == pytest.approx(0.2, abs=1e-5)


def test_energy_mode_has_no_laps() -> None:
    dut, _, _ = connected(Board(energy_mode=True))
    dut.connect()
    dut.load(b"ab")
    timed = dut.infer(50, 10, silence_s=5)
    assert timed.lap_s is None
    assert timed.t1_s > timed.t0_s


def test_a_line_at_9600_baud_widens_the_edges() -> None:
    dut, simulated, clock = connected(Board(energy_mode=True))
    dut = Dut(SimulatedLink(simulated, clock), baud=9600, clock=clock)
    dut.connect()
    dut.load(b"ab")
    assert 0.012 < dut.infer(50, 10, silence_s=5).edge_u_s < 0.03


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("silent@2+600", "silent"),
        ("reset@3", "restarted"),
        ("corrupt@2+600", "."),
        ("noise@2+600", "."),
        ("torn@2+600", "."),
        ("count@1.4+600", "asked for"),
        ("duplicate@2+600", "twice"),
        ("disconnect@3+1", "gone"),
    ],
)
def test_a_fault_in_the_middle_ends_with_an_error_and_in_time(fault: str, says: str) -> None:
    dut, simulated, clock = connected(Board(infer_s=0.1), fault)
    dut.connect()
    dut.load(b"ab")
    clock.sleep_until(1.5)
    before_s = clock.monotonic()
    with pytest.raises(DutError, match=says):
        dut.infer(20, 0, silence_s=3)
    assert clock.monotonic() - before_s < 2 + 2 * 3 + BOOT_S
    if fault.startswith(("reset", "disconnect")):  # the next one works
        clock.sleep(2)
        again = Dut(SimulatedLink(simulated, clock), clock=clock)
        again.connect()
        again.load(b"ab")
        assert again.infer(20, 0, silence_s=3).lap_s == pytest.approx(2.0, abs=1e-5)


def test_a_board_that_never_answers_ends_the_wait() -> None:
    dut, _, clock = connected(None, "silent@0+1000")
    with pytest.raises(DutError, match="silent"):
        dut.connect(4)
    assert clock.monotonic() < 12


@pytest.mark.parametrize("command", ["", "%", "infer 1 1%", "a\nb", "a  b", " a", "ü", "db " + "0" * 77])
def test_what_would_confuse_a_board_is_never_sent(command: str) -> None:
    with pytest.raises(DutError):
        encode(command)


def test_laps_wrap() -> None:
    assert lap_s(2**32 - 500_000, 500_000) == 1.0


def test_results_may_end_with_a_comma() -> None:
    assert results("m-results-[0.5,1,]") == [0.5, 1.0]


def test_a_line_without_an_end_is_given_up() -> None:
    lines = Lines()
    lines.feed(b"x" * MAX_LINE, 0.0)
    with pytest.raises(DutError):
        lines.feed(b"x", 0.0)


class _Scripted:
    """A port that sends given pieces, then nothing; each wait takes a tenth of a second."""

    identity = ""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def read(self, *, wait: bool = True) -> bytes:
        if not wait:
            return b""
        self.now_s += 0.1
        return self.pieces.pop(0) if self.pieces else b""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


GOOD = {
    "infer": b"m-warmup-start-2\r\nm-warmup-done\r\nm-infer-start-5\r\nm-lap-us-10\r\nm-lap-us-1000\r\nm-infer-done\r\n"
    b"m-results-[0.1,0.9,]\r\nm-ready\r\n",
    "db print": b"m-buffer-00-ff-a1-7e\r\nm-buffer-11\r\nm-ready\r\n",
    "name": b"m-name-dut-[x]\r\nm-ready\r\n",
    "profile": b"m-profile-[a]\r\nm-model-[b]\r\nm-ready\r\n",
    "load": b"m-[Expecting 2 bytes]\r\nm-ready\r\nm-load-done\r\nm-ready\r\nm-buffer-00-01\r\nm-ready\r\n",
}


def _hostile(rng: random.Random, text: bytes) -> list[bytes]:
    """A reply with lines lost, repeated, swapped, bytes changed, cut in pieces; or nothing but noise."""
    if rng.random() < 0.1:
        return [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(4))]
    lines = text.splitlines(keepends=True)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(lines) + 1)
        kind = rng.randrange(5)
        if kind == 0 and len(lines) > 1:
            del lines[min(at, len(lines) - 1)]
        elif kind == 1:
            lines.insert(at, rng.choice(lines or [b"\n"]))
        elif kind == 2:
            lap = b"m-lap-us-%d\r\n" % rng.randrange(10**11)
            lines.insert(at, rng.choice([b"e-[x]\r\n", b"\n", b"m-init-done\r\n", lap]))
        elif kind == 3:
            lines.insert(at, b"m-results-[" + rng.choice([b"nan", b"1e999", b"", b",,", b"1," * 20_000]) + b"]\r\n")
        else:
            rng.shuffle(lines)
    data = bytearray(b"".join(lines))
    for _ in range(rng.choice([0, 0, 1, 3])):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    cut = rng.randrange(len(data) + 1)
    return [bytes(data[:cut]), bytes(data[cut:])]


def test_ten_thousand_hostile_replies_give_an_answer_or_the_protocols_own_error() -> None:
    rng = random.Random(18)
    failed, started_s = 0, time.monotonic()
    for number in range(10_000):
        kind = rng.choice([*GOOD])
        link = _Scripted(_hostile(rng, GOOD[kind]))
        dut = Dut(link, clock=link)
        try:
            if kind == "infer":
                timed = dut.infer(5, 2, silence_s=1)
                assert timed.count == 5
                assert timed.t1_s >= timed.t0_s
            elif kind == "load":
                dut.load(b"\x00\x01")
            elif kind == "profile":
                dut.profile()
            elif kind == "name":
                dut.name(1)
            else:
                dut.print("db print")
        except DutError:
            failed += 1
        assert link.now_s < 60, f"input {number} took {link.now_s} s"
    assert 1000 < failed < 9900
    assert time.monotonic() - started_s < 60
