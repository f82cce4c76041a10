"""Cells on a board over ssh: the same results as here, and one clear line for whatever is not as it should be."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import __version__
from bench.errors import RequestError
from bench.run.runner import RunOptions, check
from bench.store.run_dir import RunDir
from bench.suite.load import load_suite
from bench.targets.ssh import make
from bench.targets.wire import file_sha256

from .conftest import ROOT, Board, Lab, gone

SUITE = {"data": [{"dataset": "digits", "shift": "flip"}], "train_size": [0.1], "blocks": ["fc", "full"], "seeds": [0]}
SAME = ("cell_id", "accuracy_before", "accuracy_after", "best_epoch", "epochs_run", "steps", "train_macs", "status")


def jouletune(*words: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.cli", *words]
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run(suite: Path, out: Path, *words: str) -> tuple[int, str]:
    """Exit status and stderr of `jouletune run`."""
    process = jouletune("run", str(suite), "--out", str(out), *words, cwd=suite.parent)
    _, errors = process.communicate(timeout=200)
    return process.returncode, errors


def records(out: Path) -> list[dict[str, Any]]:
    return sorted(RunDir(out).records([]), key=lambda line: (line["cell_id"], line["repeat"]))


@pytest.fixture
def suite(make_suite: Callable[..., Any], tmp_path: Path) -> Path:
    make_suite(**SUITE)
    return tmp_path / "s.yaml"


@pytest.mark.long
def test_a_board_gives_the_results_that_this_machine_gives(suite: Path, board: Board, tmp_path: Path) -> None:
    source = "simulated?power_w=5"
    status, errors = run(suite, tmp_path / "there", "--target", board.target, "--source", source)
    assert status == 0, errors
    assert run(suite, tmp_path / "here", "--source", source)[0] == 0
    there, here = records(tmp_path / "there"), records(tmp_path / "here")
    assert [[line[key] for key in SAME] for line in there] == [[line[key] for key in SAME] for line in here]
    clock = [term for line in there for term in line["energy_terms"] if term["name"] == "clock"]
    assert len(clock) == len(there)
    assert all("clock_jumped" not in line["flags"] for line in there)
    manifest = json.loads((tmp_path / "there" / "manifest.json").read_text())
    assert manifest["target"]["name"] == board.target
    assert manifest["device"]["cpu_model"]


def test_nothing_is_left_on_the_board(board: Board) -> None:
    target = make(board.target.removeprefix("ssh:"))
    target.connect()
    assert board.processes()
    target.close()
    gone(board, 10)


OTHER = "import bench; bench.__version__ = '0.0.7'"
OTHER_CODE = "from bench.targets import wire; wire.code_sha256 = lambda: 'f' * 64"
NO_TORCH = """
from importlib import metadata
real = metadata.version
def version(name):
    if name == 'torch':
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
"""
FULL_DISK = """
import shutil
real = shutil.disk_usage
shutil.disk_usage = lambda path: real(path)._replace(free=1000)
"""
BROKEN_TORCH = "import bench.process.server as server; server.PRELOAD = ('no_such_torch',)"


@pytest.mark.parametrize(
    ("prelude", "said"),
    [
        (OTHER, "jouletune 0.0.7 there"),
        (OTHER_CODE, "its code differs"),
        (NO_TORCH, "torch is not installed there"),
        (FULL_DISK, "the disk there is full"),
        ("print('welcome to my board'); raise SystemExit(3)", "exit status 3"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_runs(
    board: Board, suite: Path, tmp_path: Path, prelude: str, said: str
) -> None:
    board.install(prelude)
    loaded = load_suite(str(suite))
    with contextlib.closing(make(board.target.removeprefix("ssh:"))) as target:
        with pytest.raises(RequestError, match=said) as caught:
            target.check(loaded.suite)
        assert "\n" not in str(caught.value)
        assert board.target in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lab: lab.known_hosts.write_text(lab.swapped()), "its host key is not the one that is known here"),
        (lambda lab: lab.known_hosts.write_text(""), "its host key is not known here"),
        (lambda lab: lab.boards[0].stop(), "Connection refused"),
    ],
)
def test_a_board_that_is_not_reached_as_it_should_is_one_line(
    lab: Lab, suite: Path, change: Callable[[Lab], object], said: str, tmp_path: Path
) -> None:
    change(lab)
    status, errors = run(suite, tmp_path / "out", "--target", lab.boards[0].target, "--source", "none")
    assert status == 2
    assert said in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_a_key_it_is_one_line(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    config = (lab.folder / "config").read_text().replace(f"IdentityFile {lab.folder}/user", "IdentityFile /dev/null")
    (lab.folder / "keyless").write_text(config)
    monkeypatch.setenv("JOULETUNE_SSH", f"ssh -F {lab.folder / 'keyless'} -o IdentityAgent=none")
    with pytest.raises(RequestError, match="Permission denied; no key of this user opens it"):
        make(lab.boards[0].target.removeprefix("ssh:")).connect()


def test_without_jouletune_there_it_says_how_to_install_it(board: Board) -> None:
    with pytest.raises(RequestError, match="not installed there; `jouletune target setup ssh:pi-a"):
        make(f"{board.name}?command=/nowhere/jouletune").connect()


@pytest.mark.parametrize("source", ["auto", "rapl", "battery"])
def test_a_source_that_measures_this_machine_is_refused(suite: Path, board: Board, tmp_path: Path, source: str) -> None:
    options = RunOptions(out=tmp_path / "out", source=source, target=board.target)
    with pytest.raises(RequestError, match="name the meter that the board hangs on"):
        check(load_suite(str(suite)), options, make(board.target.removeprefix("ssh:")))


@pytest.mark.parametrize("address", ["", "-oProxyCommand=x", "a b", "pi?cmd=x", "pi?command="])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(RequestError, match="--target ssh:"):
        make(address)


def test_files_are_sent_once_and_damage_is_mended(board: Board, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(os.urandom(3_000_000))
    sha256 = file_sha256(file)
    with contextlib.closing(make(board.target.removeprefix("ssh:"))) as target:
        target.connect()
        link = target._link
        assert link is not None
        assert link.ask("lacking", [sha256]) == [sha256]
        link.put(sha256, file)
        assert link.ask("lacking", [sha256]) == []
        folder = Path(link.ask("tree", {"weights.pth": sha256}))
        assert (folder / "weights.pth").read_bytes() == file.read_bytes()
        with pytest.raises(RequestError, match="no file of a tree"):
            link.ask("tree", {"../weights.pth": sha256})
        with pytest.raises(RequestError, match="arrived damaged"):
            link.put("0" * 64, file)
        assert link.exchanges()[0].sent_s <= link.exchanges()[-1].received_s
    (board.cache / "received" / "files" / sha256).write_bytes(b"other")
    with contextlib.closing(make(board.target.removeprefix("ssh:"))) as target:
        target.connect()
        assert target._link is not None
        assert target._link.ask("lacking", [sha256]) == [sha256]


@pytest.mark.parametrize(
    "killed", ["parent", *(pytest.param(one, marks=pytest.mark.long) for one in ("ssh", "sshd", "board"))]
)
def test_a_kill_of_either_side_leaves_no_process_there(board: Board, killed: str) -> None:
    code = (
        "import sys, time; from bench.targets.ssh import make\n"
        "t = make(sys.argv[1]); t.connect(); t._link.probe('cpu', []); print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, board.target.removeprefix("ssh:")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        there = board.processes()
        assert len(there) >= 2  # jouletune and the process that forks the repeats
        if killed == "parent":
            parent.kill()
        elif killed == "ssh":
            psutil.Process(parent.pid).children()[0].kill()
        elif killed == "sshd":
            board.kill_sshd()
        else:
            next(one for one in there if "serve" in one.cmdline()).kill()
        took_s = gone(board, 15)
        print(f"killed {killed}: nothing left after {took_s:.1f} s")
        parent.kill()


@pytest.mark.long
def test_setup_installs_this_version_on_a_board(board: Board, suite: Path, tmp_path: Path) -> None:
    target = f"ssh:{board.name}"
    with pytest.raises(RequestError, match="is not installed there"):
        make(board.name).connect()
    process = jouletune("target", "setup", target, "--python", sys.executable, "--no-index", cwd=tmp_path)
    out, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert f"{target}: jouletune {__version__} answers there" in out
    assert not list((board.folder / ".cache" / "jouletune").glob("*.whl"))
    with contextlib.closing(make(board.name)) as made:
        made.check()


@pytest.mark.long
def test_setup_without_a_usable_python_is_one_line(board: Board, tmp_path: Path) -> None:
    process = jouletune("target", "setup", f"ssh:{board.name}", "--python", "/nowhere/python", cwd=tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "/nowhere/python there is not Python 3.11 or later" in errors


@pytest.mark.long
def test_a_board_that_waits_costs_nothing_its_meter_can_see(board: Board) -> None:
    """What runs there between two repeats takes less than 0.2 % of a core: 10 mW where a core draws 5 W."""
    with contextlib.closing(make(board.target.removeprefix("ssh:"))) as target:
        target.connect()
        assert target._link is not None
        target._link.probe("cpu", [])
        time.sleep(2)

        def used_s() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in board.processes())

        before_s, names = used_s(), [process.name() for process in board.processes()]
        time.sleep(40)
        share = (used_s() - before_s) / 40
        print(f"{len(names)} processes, {share:.3%} of a core")
        assert share < 0.002
