"""A fleet with real parts: two sshd as boards, two simulated meters on pseudo-terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.store.fleet_dir import FleetDir, with_boards
from bench.store.run_dir import RunDir

from .conftest import ROOT, Lab, gone

SUITE: dict[str, Any] = {
    "data": [{"dataset": "digits", "shift": "flip"}],
    "train_size": [0.1],
    "blocks": ["fc", "full"],
}
ENERGY = {"repeats": 1, "min_window_s": 0.5, "idle_s": 0, "guard_s": 0, "cooldown_s": 0}
SAME = ("cell_id", "repeat", "accuracy_before", "accuracy_after", "best_epoch", "epochs_run", "steps", "status")


def jouletune(*words: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finished(*words: str, cwd: Path) -> tuple[int, str, str]:
    process = jouletune(*words, cwd=cwd)
    out, errors = process.communicate(timeout=280)
    return process.returncode, out, errors


def records(run: Path) -> list[list[Any]]:
    """The newest record of each repeat, by what must be equal everywhere."""
    newest = {(line["cell_id"], line["repeat"]): line for line in RunDir(run).records([])}
    return sorted([newest[key][name] for name in SAME] for key in newest)


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[list[str]]:
    """Sources: a TC66 and a UM25C, each on a port of its own."""
    ports = [tmp_path / "meter-a", tmp_path / "meter-b"]
    kinds = ("tc66", "um25c")
    instruments = [
        subprocess.Popen(
            [sys.executable, "-m", "hardware.instruments", kind, "--link", str(port)],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        )
        for kind, port in zip(kinds, ports, strict=True)
    ]  # fmt: skip
    until_s = time.monotonic() + 20
    while not all(port.exists() for port in ports) and time.monotonic() < until_s:
        time.sleep(0.05)
    yield [f"{kind}:{port}" for kind, port in zip(kinds, ports, strict=True)]
    for instrument in instruments:
        instrument.terminate()
        instrument.wait()


def inventory(folder: Path, lab: Lab, sources: list[str], **more: str) -> Path:
    boards = {
        board.name: {"target": board.target, "source": source} | ({"meter": {"serial": more["serial"]}} if more else {})
        for board, source in zip(lab.boards, sources, strict=True)
    }
    path = folder / "inventory.yaml"
    path.write_text(json.dumps({"boards": boards}))
    return path


@pytest.fixture
def suite(make_suite: Callable[..., Any], tmp_path: Path) -> Path:
    make_suite(**SUITE, seeds=[0], energy=ENERGY)
    return tmp_path / "s.yaml"


def test_both_boards_give_what_this_machine_gives(lab: Lab, meters: list[str], suite: Path, tmp_path: Path) -> None:
    inventory(tmp_path, lab, meters)
    status, out, errors = finished("fleet", "run", "s.yaml", "--out", "fleet", cwd=tmp_path)
    assert status == 0, out + errors
    assert finished("run", "s.yaml", "--out", "here", "--source", "none", cwd=tmp_path)[0] == 0
    fleet = FleetDir(tmp_path / "fleet")
    here = records(tmp_path / "here")
    assert [run.path.name for run in fleet.runs()] == ["pi-a", "pi-b"]
    for run in fleet.runs():
        assert records(run.path) == here
        lines = run.records([])
        assert all(line["grade"] in "ABC" and line["energy_gross_j"] > 0 for line in lines), [
            (line["grade"], line["flags"], line["error"]) for line in lines
        ]
    assert len(with_boards([tmp_path / "fleet", tmp_path / "here"])) == 3
    again = finished("fleet", "run", "s.yaml", "--out", "fleet", cwd=tmp_path)
    assert again[0] == 0
    assert [records(run.path) for run in fleet.runs()] == [here, here]
    assert len(fleet.runs()[0].records([])) == len(here)
    other = finished("fleet", "run", "s.yaml", "--out", "fleet", "--share", cwd=tmp_path)
    assert other[0] == 2
    assert "holds another run" in other[2]


def test_check_looks_at_all_boards(lab: Lab, meters: list[str], tmp_path: Path) -> None:
    inventory(tmp_path, lab, [meters[0], "simulated"])
    status, out, errors = finished("fleet", "check", "--seconds", "2", cwd=tmp_path)
    assert status == 0, out + errors
    assert "TC66" in out
    assert out.count(" W") == 2
    lab.boards[1].install("import bench; bench.__version__ = '0.0.7'")
    status, out, errors = finished("fleet", "check", "--seconds", "0", cwd=tmp_path)
    assert status == 1
    assert "0.0.7" in out


def test_a_meter_that_is_another_boards_is_named_before_anything_runs(
    lab: Lab, meters: list[str], suite: Path, tmp_path: Path
) -> None:
    inventory(tmp_path, lab, [meters[0], "none"], serial="7")
    status, _, errors = finished("fleet", "run", "s.yaml", "--boards", "pi-a", cwd=tmp_path)
    assert status == 2
    assert "is another board's: its serial is 48724, the inventory says 7" in errors
    assert not (tmp_path / "results").exists()


@pytest.mark.long
@pytest.mark.parametrize("shared", [False, True])
def test_a_fleet_goes_on_after_kills(
    lab: Lab, meters: list[str], make_suite: Callable[..., Any], tmp_path: Path, shared: bool
) -> None:  # fmt: skip
    """SIGKILL of the parent, later of one board's sshd: in the end the same cells and accuracies as a local run."""
    make_suite(**SUITE, seeds=[0, 1, 2, 3], energy=ENERGY | {"repeats": 2})
    sources = ["simulated", "simulated"] if shared else meters
    inventory(tmp_path, lab, sources)
    words = ["fleet", "run", "s.yaml", "--out", "fleet", *(["--share"] if shared else [])]
    folders = [tmp_path / "fleet" / "boards" / board.name for board in lab.boards]

    def lines(folder: Path) -> int:
        return len((folder / "cells.jsonl").read_bytes().splitlines()) if (folder / "cells.jsonl").exists() else 0

    def wait_for(count: int) -> None:
        until_s = time.monotonic() + 120
        while min(map(lines, folders)) < count:
            assert time.monotonic() < until_s
            time.sleep(0.05)

    process = jouletune(*words, cwd=tmp_path)
    wait_for(2)
    process.kill()
    process.communicate()
    for board in lab.boards:
        gone(board, 15)
    process = jouletune(*words, cwd=tmp_path)
    wait_for(4)
    lab.boards[1].kill_sshd()
    time.sleep(2)
    lab.boards[1].start()
    out, errors = process.communicate(timeout=280)
    assert process.returncode in (0, 1), out + errors  # the repeat that was cut off has failed
    broken = [line for folder in folders for line in RunDir(folder).records([]) if line["status"] != "ok"]
    assert all("connection was lost" in line["error"] for line in broken)
    status, out, errors = finished(*words, "--retry", cwd=tmp_path)
    assert status == 0, out + errors
    assert finished("run", "s.yaml", "--out", "here", "--source", "none", cwd=tmp_path)[0] == 0
    here = records(tmp_path / "here")
    if shared:
        assert sorted(one for folder in folders for one in records(folder)) == here
        assert all(records(folder) for folder in folders)
    else:
        assert [records(folder) for folder in folders] == [here, here]


@pytest.mark.long
def test_ctrl_c_ends_all_boards_and_loses_nothing(lab: Lab, make_suite: Callable[..., Any], tmp_path: Path) -> None:
    make_suite(**SUITE, seeds=[0, 1, 2], energy=ENERGY)
    inventory(tmp_path, lab, ["simulated", "simulated"])
    process = jouletune("fleet", "run", "s.yaml", "--out", "fleet", cwd=tmp_path)
    first = tmp_path / "fleet" / "boards" / "pi-a" / "cells.jsonl"
    until_s = time.monotonic() + 60
    while not first.exists() and time.monotonic() < until_s:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    for board in lab.boards:
        gone(board, 15)
    assert not [child for child in psutil.Process().children(recursive=True) if child.name() == "ssh"]
    status, out, errors = finished("fleet", "run", "s.yaml", "--out", "fleet", cwd=tmp_path)
    assert status == 0, out + errors
