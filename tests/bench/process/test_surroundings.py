"""Whole runs in strange folders, and with processes that are killed at random moments."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
SUITE = """
name: tiny
model: {name: MODEL, width: 4, source_train: {epochs: 1}}
data: [{dataset: digits, shift: flip}]
train_size: [40]
blocks: [fc, full]
seeds: [0, 1]
train: {epochs: 1, batch_size: 16, threads: 1}
energy: {repeats: 2, min_window_s: 0, idle_s: 0, guard_s: 0, cooldown_s: 0}
timeout_s: 60
"""
OWN = """
import random, select, socket, torch, yaml
from torch import nn
def make(n_classes, in_channels):
    LINE
    net = nn.Sequential()
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(in_channels, n_classes))
    return net
"""
PROGRAM = "import sys\nfrom bench.cli import main\nsys.exit(main())\n"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder to run in, with a program `bin/jouletune` as pip installs it beside it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(SUITE.replace("MODEL", "resnet8"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "jouletune").write_text(PROGRAM)
    return folder


def environment(work: Path) -> dict[str, str]:
    """The project is found without naming the folder; processes of this test can be told by their cache."""
    return {**os.environ, "JOULETUNE_CACHE": str(work.parent / "cache"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def command(work: Path, *args: str) -> list[str]:
    return [sys.executable, str(work.parent / "bin" / "jouletune"), *args]


def run(work: Path, *args: str, **added: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(work, *args), cwd=work, env=environment(work) | added, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip


def own_model(work: Path, line: str = "pass") -> None:
    (work / "tiny.yaml").write_text(
        SUITE.replace("MODEL, width: 4", "'mymodel:make', blocks: {fc: [fc]}").replace("timeout_s: 60", "timeout_s: 3")
    )
    (work / "mymodel.py").write_text(OWN.replace("LINE", line))


def rows(work: Path) -> list[dict[str, object]]:
    path = work / "results" / "tiny" / "cells.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def processes_of(work: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("JOULETUNE_CACHE") == str(work.parent / "cache")
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def left(work: Path) -> list[str]:
    """Processes of a test that are still there after ten seconds."""
    for _ in range(100):
        if not processes_of(work):
            break
        time.sleep(0.1)
    return [" ".join([str(process.pid), process.status(), *process.cmdline()]) for process in processes_of(work)]


# -- modules beside the user -------------------------------------------------------------------------------


def traps(work: Path, names: set[str]) -> Path:
    """A module of each name that notes that it ran."""
    ran = work.parent / "ran"
    ran.mkdir()
    for name in names:
        (work / f"{name}.py").write_text(f"open({str(ran / name)!r}, 'w')\n")
    return ran


def libraries() -> set[str]:
    """Names of everything that this environment can import, ours and the standard library's among them."""
    installed = {name for name in metadata.packages_distributions() if name.isidentifier()}
    return {*installed, *sys.stdlib_module_names, "bench", "hardware", "plots", "suites"} - {"__main__"}


def test_no_module_of_the_current_folder_is_imported_but_the_suites_own(work: Path) -> None:
    own_model(work)
    ran = traps(work, libraries())
    done = run(work, "run", "tiny.yaml", "--source", "none", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    assert len(rows(work)) == 4
    assert [path.name for path in ran.iterdir()] == []


def test_python_m_runs_none_of_the_libraries_beside_it(work: Path) -> None:
    # a `bench` of the current folder is the program then; no code of ours runs that could refuse it
    ran = traps(work, libraries() - {"bench"})
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "run", "tiny.yaml", "--source", "none", "--repeats", "1"],
        cwd=work, env=environment(work), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in ran.iterdir()] == []


def test_a_helper_module_beside_the_model_is_not_found(work: Path) -> None:
    own_model(work, "import helper_of_mine")
    (work / "helper_of_mine.py").write_text("open('helper-ran', 'w')\n")
    done = run(work, "run", "tiny.yaml", "--source", "none")
    assert done.returncode == 2
    assert "No module named 'helper_of_mine'" in done.stderr
    assert not (work / "helper-ran").exists()


def test_a_model_function_that_hangs_is_stopped_with_one_line(work: Path) -> None:
    own_model(work, "import time; time.sleep(600)")
    done = run(work, "run", "tiny.yaml", "--source", "none")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "building mymodel:make: nothing for 3 s" in done.stderr
    assert not (work / "results" / "tiny").exists()
    assert not left(work)


def test_a_long_folder_for_temporary_files_is_no_trouble(work: Path) -> None:
    long = work.parent / ("t" * 110)
    long.mkdir()
    done = run(work, "run", "tiny.yaml", "--source", "none", "--repeats", "1", TMPDIR=str(long))
    assert done.returncode == 0, done.stderr


def test_outputs_that_are_not_finite_fail_the_repeat(work: Path) -> None:
    own_model(work)
    text = (work / "mymodel.py").read_text().replace("nn.AdaptiveAvgPool2d(1)", "Nan()")
    nan = "class Nan(nn.AdaptiveAvgPool2d):\n    def __init__(self): super().__init__(1)\n"
    nan += "    def forward(self, x): return super().forward(x) / 0 * 0\n"
    (work / "mymodel.py").write_text(text.replace("def make", f"{nan}\ndef make"))
    done = run(work, "run", "tiny.yaml", "--source", "none", "--repeats", "1", "--cells", "*/fc/s=0")
    assert done.returncode != 0
    assert "not finite" in done.stdout + done.stderr
    assert not [row for row in rows(work) if row["status"] == "ok"]


# -- kills -------------------------------------------------------------------------------------------------


def pick(work: Path, parent: int, role: str) -> psutil.Process | None:
    """A process of a run by its role, None where there is none now."""
    try:
        process = psutil.Process(parent)
        for _ in range(("parent", "guard", "server", "child").index(role)):
            process = process.children()[0]
        return process
    except (psutil.NoSuchProcess, IndexError):
        return None


ROLES = ("parent", "guard", "server", "child")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("kills", "roles"),
    [(4, ROLES), *(pytest.param(100, (role,), id=f"100-{role}", marks=pytest.mark.long) for role in ROLES)],
)
def test_kills_lose_no_finished_record_and_leave_no_process(work: Path, roles: tuple[str, ...], kills: int) -> None:
    assert run(work, "run", "tiny.yaml", "--source", "none").returncode == 0
    whole = {(row["cell_id"], row["repeat"]): row["accuracy_after"] for row in rows(work)}
    moments = random.Random(roles[0])
    done = 0
    before: list[dict[str, object]] = []
    (work / "results").rename(work / "whole")
    while done < kills:
        role = roles[done % len(roles)]
        process = subprocess.Popen(
            command(work, "run", "tiny.yaml", "--source", "none", "--retry"), cwd=work, env=environment(work),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started = time.monotonic()
        moment = moments.uniform(0.2, 8)
        victim = None
        while process.poll() is None and (victim is None or time.monotonic() - started < moment):
            time.sleep(0.02)
            victim = pick(work, process.pid, role)
        if victim is not None and process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself just now
                victim.kill()
                done += 1
        _, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors
        assert process.returncode in ((-signal.SIGKILL, 0) if role == "parent" else (0, 1)), errors
        assert not left(work)
        now = rows(work)
        assert now[: len(before)] == before  # complete lines stay as they are
        ok = [(row["cell_id"], row["repeat"]) for row in now if row["status"] == "ok"]
        assert len(ok) == len(set(ok))
        before = now
        if len(ok) == len(whole):
            (work / "results").rename(work / f"done-{done}-{len(list(work.iterdir()))}")
            before = []
    assert run(work, "run", "tiny.yaml", "--source", "none", "--retry").returncode == 0
    assert {(r["cell_id"], r["repeat"]): r["accuracy_after"] for r in rows(work) if r["status"] == "ok"} == whole
