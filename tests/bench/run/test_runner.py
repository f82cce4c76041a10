"""Whole runs through the command line, in processes of their own: what a user sees, kills and starts again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.store.record import UNITS
from bench.store.run_dir import RunDir

TINY = """
name: tiny
model: {name: resnet8, width: 4, source_train: {epochs: 2}}
data: [{dataset: digits, shift: [noise, flip]}]
train_size: [40]
blocks: [block1, fc, full]
seeds: [0, 1]
train: {epochs: 2, batch_size: 16, lr: 0.01, threads: 1}
energy: {repeats: 2, min_window_s: 0.05, idle_s: 0.3, guard_s: 0, cooldown_s: 0}
timeout_s: 60
"""

GRUMBLES = ("warn", "amd", "rocm", "pkg_resources", "deprecat", "codecarbon warning", "traceback", "error")

MODEL = """
import os, signal, subprocess, time
from torch import nn

class Net(nn.Module):
    def __init__(self, n_classes, in_channels):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 4, 3)
        self.body = nn.Conv2d(4, 4, 3)
        self.rest = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, n_classes)

    def forward(self, x):
        whole = all(p.requires_grad for p in self.parameters())
        if self.training and not whole:
            if self.stem.weight.requires_grad:
                raise ValueError("no\\nluck")
            if self.body.weight.requires_grad:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.rest.weight.requires_grad:
                child = subprocess.Popen(["sleep", "600"])
                open("grandchild", "w").write(str(child.pid))
                time.sleep(600)
        return self.head(self.rest(self.body(self.stem(x))).relu().mean((2, 3)))

def build(n_classes, in_channels):
    return Net(n_classes, in_channels)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def command(work: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "bench.cli", *args]


def environment(work: Path) -> dict[str, str]:
    """A cache of the test's own: the runs of one test share it, and their processes can be told by it."""
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "JOULETUNE_CACHE": str(work / "cache"), "PYTHONPATH": path, "COLUMNS": "100"}


def run(work: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(work, *args), cwd=work, env=environment(work), capture_output=True, text=True, timeout=240, check=False
    )


def start(work: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(work, *args),
        cwd=work,
        env=environment(work),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def records(folder: Path) -> list[dict[str, object]]:
    raw = (folder / "cells.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    return [json.loads(line) for line in raw.splitlines()]


def wait_for_lines(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if (folder / "cells.jsonl").exists() and (folder / "cells.jsonl").read_bytes().count(b"\n") >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("the run made no progress")


def processes_of(work: Path) -> list[psutil.Process]:
    """Every process that runs with this test's cache, other than this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("JOULETUNE_CACHE") == str(work / "cache"):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def none_left(work: Path) -> bool:
    for _ in range(100):
        if not processes_of(work):
            return True
        time.sleep(0.1)
    return False


def test_a_run_ends_with_table_figures_and_report_and_says_nothing_else(work: Path) -> None:
    done = run(work, "run", "tiny.yaml", "--source", "simulated")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not [word for word in GRUMBLES if word in done.stdout.lower()], done.stdout
    folder = work / "results" / "tiny"
    rows = records(folder)
    assert len(rows) == 2 * 3 * 2 * 2
    assert {row["status"] for row in rows} == {"ok"}
    assert set(rows[0]) == set(UNITS)
    assert {row["source"] for row in rows} == {"simulated"}
    assert "simulated" in done.stdout.lower()
    assert done.stdout.rstrip().endswith("results/tiny/report.html")
    assert (folder / "report.html").stat().st_size > 10_000
    assert list((folder / "figures").glob("*.png"))
    assert (folder / "summary.csv").read_text().count("\n") == 1 + 12
    manifest = json.loads((folder / "manifest.json").read_text())
    idle = [baseline["trace_file"] for baseline in manifest["sessions"][0]["idle"]]
    assert sorted(path.name for path in (folder / "traces").iterdir()) == sorted([row["trace"] for row in rows] + idle)
    assert manifest["suite"]["text"] == TINY
    assert manifest["source"]["name"] == "simulated"
    assert len(manifest["sessions"]) == 1
    assert len(manifest["sessions"][0]["idle"]) == 2

    again = run(work, "run", "tiny.yaml")
    assert again.returncode == 0
    assert len(records(folder)) == len(rows)

    wide = run(work, "run", "tiny.yaml", "--source", "none")
    assert wide.returncode == 2
    assert wide.stderr.count("\n") == 1
    assert "simulated" in wide.stderr


def test_repeats_of_a_cell_agree_and_frozen_blocks_cost_less(work: Path) -> None:
    assert run(work, "run", "tiny.yaml", "--source", "none").returncode == 0
    rows = records(work / "results" / "tiny")
    by_cell: dict[object, set[object]] = {}
    for row in rows:
        by_cell.setdefault(row["cell_id"], set()).add((row["accuracy_after"], row["accuracy_before"], row["steps"]))
        assert row["energy_gross_j"] is None
        assert row["grade"] is None
    assert all(len(seen) == 1 for seen in by_cell.values())
    trained = {row["blocks"]: row["trained_parameters"] for row in rows}
    assert trained["fc"] < trained["block1"] < trained["full"]  # type: ignore[operator]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_again_and_again_it_ends_with_the_same_cells(work: Path, kills: int) -> None:
    whole = work / "whole"
    assert run(work, "run", "tiny.yaml", "--source", "none", "--out", str(whole)).returncode == 0
    killed = work / "killed"
    moments = random.Random(7)
    args = ("run", "tiny.yaml", "--source", "none", "--out", str(killed))
    for _ in range(kills):
        process = start(work, *args)
        try:
            process.wait(timeout=moments.uniform(0.2, 4.5))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert none_left(work), "a child outlived its parent"
    assert run(work, *args).returncode == 0

    def essence(folder: Path) -> list[tuple[object, ...]]:
        return sorted((r["cell_id"], r["repeat"], r["status"], r["accuracy_after"]) for r in records(folder))  # type: ignore[type-var]

    assert essence(killed) == essence(whole)


def test_ctrl_c_loses_the_running_repeat_only(work: Path) -> None:
    process = start(work, "run", "tiny.yaml", "--source", "none")
    folder = work / "results" / "tiny"
    wait_for_lines(folder, 3, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in stderr
    assert stderr.count("\n") == 1
    assert none_left(work)
    before = records(folder)
    assert run(work, "run", "tiny.yaml").returncode == 0
    after = records(folder)
    assert after[: len(before)] == before
    assert len({(row["cell_id"], row["repeat"]) for row in after}) == len(after) == 24


def test_a_second_run_in_the_same_folder_is_refused(work: Path) -> None:
    process = start(work, "run", "tiny.yaml", "--source", "none")
    try:
        wait_for_lines(work / "results" / "tiny", 1, process)
        second = run(work, "run", "tiny.yaml", "--source", "none")
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert str(process.pid) in second.stderr
    finally:
        process.kill()
        process.communicate()


def test_a_changed_suite_is_refused_and_fresh_sets_the_old_run_aside(work: Path) -> None:
    few = ("--cells", "digits-flip/*/fc/s=0", "--repeats", "1", "--source", "none")
    assert run(work, "run", "tiny.yaml", *few).returncode == 0
    (work / "tiny.yaml").write_text(TINY.replace("lr: 0.01", "lr: 0.02"))
    refused = run(work, "run", "tiny.yaml", *few)
    assert refused.returncode == 2
    assert "train.lr 0.01 -> 0.02" in refused.stderr
    assert "--fresh" in refused.stderr
    assert run(work, "run", "tiny.yaml", *few, "--fresh").returncode == 0
    folders = sorted(path.name for path in (work / "results").iterdir())
    assert len(folders) == 2
    assert all(len(records(work / "results" / name)) == 1 for name in folders)


def test_a_folder_that_is_no_run_is_left_alone(work: Path) -> None:
    (work / "thesis").mkdir()
    (work / "thesis" / "chapter.txt").write_text("mine")
    done = run(work, "run", "tiny.yaml", "--out", "thesis")
    assert done.returncode == 2
    assert [path.name for path in (work / "thesis").iterdir()] == ["chapter.txt"]


def test_cells_that_fail_die_or_hang_are_records_and_the_run_goes_on(work: Path) -> None:
    (work / "mymodel.py").write_text(MODEL)
    suite = TINY.replace(
        "model: {name: resnet8, width: 4, source_train: {epochs: 2}}",
        "model: {name: 'mymodel:build', source_train: {epochs: 1},"
        " blocks: {a: [stem], b: [body], c: [rest], fc: [head]}}",
    )
    suite = suite.replace("[block1, fc, full]", "[a, b, c, fc, full]").replace("[noise, flip]", "flip")
    suite = suite.replace("seeds: [0, 1]", "seeds: [0]").replace("repeats: 2", "repeats: 1")
    (work / "odd.yaml").write_text(suite.replace("timeout_s: 60", "timeout_s: 4").replace("name: tiny", "name: odd"))
    done = run(work, "run", "odd.yaml", "--source", "none")
    assert done.returncode == 1
    assert "3 repeats failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows = {row["blocks"]: row for row in records(work / "results" / "odd")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a": "failed",
        "b": "failed",
        "c": "timeout",
        "fc": "ok",
        "full": "ok",
    }
    assert rows["a"]["error"] == "ValueError: no luck"
    assert "SIGKILL" in str(rows["b"]["error"])
    assert rows["a"]["accuracy_after"] is None
    grandchild = int((work / "grandchild").read_text())
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE

    assert len(records(work / "results" / "odd")) == 5
    assert run(work, "run", "odd.yaml").returncode == 1
    assert len(records(work / "results" / "odd")) == 5
    assert run(work, "run", "odd.yaml", "--retry", "--cells", "*/a/*").returncode == 1
    assert len(records(work / "results" / "odd")) == 6
    assert len(RunDir(work / "results" / "odd").records()) == 5


def test_a_source_that_dies_makes_repeats_worthless_and_is_not_replaced(work: Path) -> None:
    times = [index / 20 for index in range(40)]
    (work / "short.csv").write_text("t_s,power_w\n" + "".join(f"{t},3.0\n" for t in times))
    done = run(work, "run", "tiny.yaml", "--source", "replay:short.csv")
    assert done.returncode == 0, done.stderr
    rows = records(work / "results" / "tiny")
    assert {row["status"] for row in rows} == {"ok"}
    last = rows[-1]
    assert last["grade"] == "X"
    assert last["energy_gross_j"] is None
    assert last["error"]
    assert {row["source"] for row in rows} == {"replay:short.csv"}
    assert "of grade X, joules left out" in done.stdout
    assert done.stdout.count("replay:short.csv: no usable joules since ") == 1
    worthless = [row for row in rows if row["grade"] == "X"]
    assert f"{len(worthless)} repeats without usable joules (grade X); --retry measures them again" in done.stderr
    again = run(work, "run", "tiny.yaml", "--source", "replay:short.csv", "--retry", "--dry-run")
    assert len(again.stdout.splitlines()) == len(worthless) < len(rows)


@pytest.mark.parametrize(
    ("suite", "needs"),
    [("cifar-flip", ["cifar10", "tbft-cifar10"]), ("cifar10c", ["cifar10", "cifar10c", "tbft-cifar10"])],
)
def test_all_that_is_missing_is_said_before_anything_is_written(
    work: Path, monkeypatch: pytest.MonkeyPatch, suite: str, needs: list[str]
) -> None:
    monkeypatch.delenv("JOULETUNE_DATA", raising=False)
    done = run(work, "run", suite)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for name in needs:
        assert done.stderr.count(f"`jouletune fetch {name}`") == 1
    assert not (work / "results").exists()


def test_without_a_source_nothing_fills_a_window(work: Path) -> None:
    (work / "tiny.yaml").write_text(TINY.replace("min_window_s: 0.05", "min_window_s: 1000"))
    done = run(work, "run", "tiny.yaml", "--source", "none", "--cells", "*-flip/*/fc/s=0", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    assert [row["executions"] for row in records(work / "results" / "tiny")] == [1]


def test_a_command_alone_is_a_call_for_help(work: Path) -> None:
    alone = run(work)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == run(work, "--help").stdout


def test_dry_run_lists_what_would_run_and_writes_nothing(work: Path) -> None:
    done = run(work, "run", "tiny.yaml", "--dry-run", "--cells", "*/fc/*")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 8
    assert not (work / "results").exists()
