"""Fifty boards at once cost the machine that measures them little."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import __version__
from bench.process.messages import encode
from bench.store.fleet_dir import FleetDir
from bench.store.record import WorkFigures
from bench.store.run_dir import RunDir
from bench.targets.wire import PROTOCOL, code_sha256

from .test_fleet import jouletune

DEVICE = {
    "board": "Fake Pi", "cpu_model": "A76", "machine": "aarch64", "logical_cores": 4, "memory_bytes": 2**30, "os": "x",
    "kernel": "6", "governor": "schedutil", "frequency_min_hz": 1e9, "frequency_max_hz": 1e9, "virtual": False,
}  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards that are made up, in the place of ssh."""
    told = {
        "protocol": PROTOCOL, "jouletune": __version__, "code": code_sha256(), "python": "3.11",
        "versions": {"torch": "2"}, "device": DEVICE, "free_bytes": 10**10, "cache": "/there",
    }  # fmt: skip
    figures = encode(WorkFigures(accuracy_after=0.5, accuracy_before=0.4, n_train=90, n_test=100)).partition(b" ")[2]
    monkeypatch.setenv("FAKE_BOARD", json.dumps(told))
    monkeypatch.setenv("FAKE_FIGURES", figures.decode())
    monkeypatch.setenv("JOULETUNE_SSH", f"{sys.executable} -S {Path(__file__).parent / 'fake_board.py'}")


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("jump_s", [0.0, 0.4])
def test_a_clock_that_is_off_drifts_or_jumps(
    jump_s: float, make_suite: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 s ahead, 50 ppm fast: the work is where it was; a jump in the middle is in the flags and the uncertainty."""
    monkeypatch.setenv("FAKE_CLOCK", f"3 50e-6 {jump_s}")
    make_suite(
        model={"name": "resnet8", "source_train": {"epochs": 1}},
        data=[{"dataset": "digits", "shift": "flip"}], train_size=[0.1], blocks=["fc"], seeds=[0],
        energy={"repeats": 1, "min_window_s": 1, "idle_s": 0, "guard_s": 0, "cooldown_s": 0},
    )  # fmt: skip
    process = jouletune(
        "run", "s.yaml", "--out", "out", "--target", "ssh:fake", "--source", "simulated?power_w=5", cwd=tmp_path
    )
    out, errors = process.communicate()
    assert process.returncode == 0, out + errors
    (line,) = RunDir(tmp_path / "out").records([])
    assert ("clock_jumped" in line["flags"]) == bool(jump_s)
    assert line["train_time_s"] == pytest.approx(1.0, abs=0.3)
    clock = next(term for term in line["energy_terms"] if term["name"] == "clock")
    assert clock["gross_j"] > 0
    assert line["grade"] == "C"  # as any simulation


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("boards", [6, pytest.param(50, marks=pytest.mark.long)])
def test_many_boards_cost_little(boards: int, make_suite: Callable[..., Any], tmp_path: Path) -> None:
    make_suite(
        model={"name": "resnet8", "source_train": {"epochs": 1}},
        data=[{"dataset": "digits", "shift": "flip"}], train_size=[0.1], blocks=["fc"], seeds=[0],
        energy={"repeats": 4, "min_window_s": 10, "idle_s": 5, "guard_s": 1, "cooldown_s": 0}
        if boards > 6
        else {"repeats": 1, "min_window_s": 1, "idle_s": 1, "guard_s": 0, "cooldown_s": 0},
    )  # fmt: skip
    named = {f"b{number:02}": {"target": f"ssh:b{number:02}", "source": "simulated"} for number in range(boards)}
    (tmp_path / "inventory.yaml").write_text(json.dumps({"boards": named}))
    process = jouletune("fleet", "run", "s.yaml", "--out", "fleet", cwd=tmp_path)
    parent = psutil.Process(process.pid)
    cells = tmp_path / "fleet" / "boards" / f"b{boards - 1:02}" / "cells.jsonl"
    peak_mb, from_s, cpu_s = 0.0, 0.0, 0.0
    while process.poll() is None:
        try:
            peak_mb = max(peak_mb, parent.memory_info().rss / 1e6)
            if cells.exists() and not from_s:  # all are prepared and at work
                from_s, cpu_s = time.monotonic(), sum(parent.cpu_times()[:2])
            until_s, used_s = time.monotonic(), sum(parent.cpu_times()[:2])
        except psutil.Error:
            break
        time.sleep(0.1)
    out, errors = process.communicate()
    assert process.returncode == 0, out + errors
    share = (used_s - cpu_s) / (until_s - from_s) if until_s > from_s else 0.0
    print(f"{boards} boards: {peak_mb:.0f} MB, {share:.1%} of a core over {until_s - from_s:.0f} s; {os.getloadavg()}")
    assert len(FleetDir(tmp_path / "fleet").runs()) == boards
    assert peak_mb < 200
    if boards >= 50:
        assert share < 0.2
