"""Runs on a board behind a serial port: a simulated one with faults, and the firmware under QEMU."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.run.runner import RunOptions, run_suite
from bench.store.record import Record
from bench.store.run_dir import RunDir
from bench.suite.load import load_suite
from bench.targets.target import target_of
from bench.text import console
from hardware.instruments.dut import Board
from hardware.instruments.dut import Dut as SimulatedDut
from hardware.instruments.faults import Fault, Faults
from hardware.instruments.port import served
from hardware.meters.link import SerialLink

ENERGY = {"repeats": 2, "min_window_s": 0.5, "idle_s": 0, "guard_s": 0, "cooldown_s": 0}

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def plain(write_suite: Write) -> str:
    """A suite that plain firmware can run: inference of digits, which it does not adapt to."""
    content = {
        "name": "board", "model": {"name": "resnet8", "source_train": {"epochs": 1}},
        "data": [{"dataset": "digits", "shift": "none"}], "train_size": [10], "methods": ["none"], "seeds": [0],
        "split": {"pool": 0.9, "val": 0.09, "test": 0.01}, "work": {"infer": {}}, "energy": ENERGY, "timeout_s": 60,
    }  # fmt: skip
    return str(write_suite(content))


def run(suite: str, target: str, out: Path) -> list[dict[str, Any]]:
    options = RunOptions(out=out, source="none", target=target)
    run_suite(load_suite(suite), options, console())
    return [dict(record) for record in RunDir(out).records([])]


class _Waking(SimulatedDut):
    """A board whose fault begins with the long inference of its first window."""

    def __init__(self, kind: str, board: Board, on_s: float) -> None:
        super().__init__(board, Faults(), on_s=on_s)
        self.kind = kind
        self.asked = threading.Event()

    def _repeat(self, word: str, words: list[str], each_s: float, power_w: float) -> None:
        if word == "infer" and int(words[0]) not in (1, 100) and not self.asked.is_set():
            self.asked.set()
            age_s = self._at_s - self.front.on_s
            self.faults = Faults([Fault.parse(f"{self.kind}@{age_s - 0.001:.3f}+{self.lasts_s}")])
        super()._repeat(word, words, each_s, power_w)

    @property
    def lasts_s(self) -> float:
        return 0.3 if self.kind in ("reset", "count") else 2.0


def _faults(kinds: list[str]) -> list[Any]:
    return [pytest.param(kind, marks=() if kind == "reset" else pytest.mark.long) for kind in kinds]


@pytest.mark.parametrize("kind", _faults(["silent", "reset", "disconnect", "noise", "corrupt", "torn", "count"]))
def test_a_fault_in_the_middle_fails_that_repeat_and_the_next_one_works(kind: str, plain: str, tmp_path: Path) -> None:
    import time

    board = _Waking(kind, Board(infer_s=0.002), time.monotonic())
    link = tmp_path / "port"
    with served(board, link):
        first, second = run(plain, f"serial:{link}", tmp_path / "run")
        SerialLink(str(link), 115200).close()  # its lock is refused while anybody holds the port
    assert board.asked.is_set()
    assert first["status"] == "failed"
    assert first["error"].startswith(f"serial:{link}: ")
    assert second["status"] == "ok", second["error"]
    assert second["lap_s"] == pytest.approx(0.002, rel=0.01)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "name its port"),
        ("/dev/nowhere", "is not there"),
        ("/dev/null?baud=x", "expected bits a second"),
        ("/dev/null?via=wire", "expected interface"),
        ("/dev/null?speed=1", "no parameter"),
    ],
)
def test_a_port_that_is_none_is_refused(address: str, says: str, plain: str) -> None:
    with pytest.raises(RequestError, match=says):
        target_of(f"serial:{address}").check(load_suite(plain).suite)


def test_a_board_is_asked_before_the_first_cell(plain: str, write_suite: Write, tmp_path: Path) -> None:
    link = tmp_path / "port"
    import time

    with served(SimulatedDut(Board(trains=False), on_s=time.monotonic()), link):
        facts = target_of(f"serial:{link}").check(load_suite(plain).suite)
        loaded = load_suite(plain)
        assert facts["firmware"] == "simulated"
        tunes: dict[str, Any] = {"name": "t", "model": {"name": "resnet8"}}
        tunes |= {"data": [{"dataset": "digits", "shift": "noise"}]}
        tunes |= {"train_size": [10], "seeds": [0], "blocks": ["fc"], "train": {"batch_size": 1, "momentum": 0.0}}
        with pytest.raises(RequestError, match="does not train"):
            target_of(f"serial:{link}").check(load_suite(str(write_suite(tunes))).suite)
        with pytest.raises(RequestError, match="name the meter"):
            run_suite(loaded, RunOptions(out=tmp_path / "r", target=f"serial:{link}"), console())
    assert not (tmp_path / "r").exists()


def test_a_record_of_a_board_is_one(make_record: Callable[..., Record]) -> None:
    record = make_record(lap_s=0.01, instructions=1000, flash_bytes=100_000, sram_bytes=30_000)
    assert json.loads(record.to_json())["instructions"] == 1000
