"""Every command in strange surroundings: it works, or ends with one clear line and exit status 2; never a traceback."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.cli import commands
from bench.cli.commands import cli

ROOT = Path(__file__).resolve().parents[3]
SUITE = """
name: tiny
model: {name: resnet8, width: 4, source_train: {epochs: 1}}
data: [{dataset: digits, shift: noise}]
train_size: [40]
blocks: [fc]
seeds: [0]
train: {epochs: 1, batch_size: 16, threads: 1}
energy: {repeats: 1, min_window_s: 0, idle_s: 0, guard_s: 0, cooldown_s: 0}
timeout_s: 120
"""
COMMANDS = {
    "run": "run IN/tiny.yaml --source none --out OUT/run",
    "dry run": "run IN/tiny.yaml --source none --dry-run --out OUT/dry",
    "wrap": "wrap --source none --idle 0 --guard 0 --quiet --out OUT/wrap -- true",
    "ls": "ls",
    "ls NAME": "ls quickstart",
    "methods": "methods",
    "blocks": "blocks resnet8",
    "completion": "completion bash",
    "validate": "validate IN/tiny.yaml",
    "fetch": "fetch",
    "sources": "sources",
    "meter": "meter simulated --seconds 0.2",
    "calibrate": "calibrate simulated --seconds 1 --pairs 2 --window 0.1 --work quiet --out OUT/profile.json",
    "health": "health --source simulated --seconds 0.3 --max-busy 100 --like IN/runs/2025-01-01",
    "report": "report IN/runs/2025-01-01 --out OUT/report",
    "compare": "compare IN/runs/2025-01-01 IN/runs/2025-01-02 --out OUT/compare",
    "history": "history IN/runs --index OUT/index.jsonl --out OUT/history --html",
    "battery": "battery IN/runs/2025-01-01 --capacity 1Ah --voltage 3.7 --out OUT/battery",
    "verify": "verify IN/runs/2025-01-01",
    "load": "load --help",
    "advise": "advise --help",
    "target": "target setup --help",
    "fleet": "fleet check --help",
    "firmware": "firmware --help",
    "export": "export IN/runs/2025-01-01 --out OUT/x.csv",
    "help": "--help",
    "wrong option": "run --nowhere",
}
"""Every command once; IN is a folder with a suite and two runs, OUT one to write to."""

ALWAYS_WRONG = ("wrong option",)
SLOW = {"run", "report", "history", "health", "calibrate"}


@dataclass(frozen=True)
class Surroundings:
    """What is unusual.

    Attributes:
        environment: variables to set, or with None to unset; TMP stands for a folder of the test.
        streams: arguments of `subprocess.run`, made when a command starts.
        shell: what a shell does before the command takes its place.
        first: Python code that runs before the command.
        status: exit statuses that commands may have, by name; of all others 0.
        out: name of the folder to write to.
    """

    environment: dict[str, str | None] = field(default_factory=dict)
    streams: Callable[[], dict[str, Any]] = dict
    shell: str = ""
    first: str = ""
    status: dict[str, set[int]] = field(default_factory=dict)
    out: bytes = b"out"


def _full() -> dict[str, Any]:
    return {"stdout": os.open("/dev/full", os.O_WRONLY)}


def _no_reader() -> dict[str, Any]:
    read, write = os.pipe()
    os.close(read)
    return {"stdout": write}


ALL = {name: {2} for name in COMMANDS}
NO_USER = "import pwd; pwd.getpwuid = pwd.getpwnam = lambda *_: {}['nobody']; "
SURROUNDINGS = {
    "ASCII output": Surroundings({"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}),
    "Latin-1 output": Surroundings({"PYTHONIOENCODING": "latin-1", "LC_ALL": "C"}),
    "a C locale that Python does not correct": Surroundings(
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ),
    "stdin, stdout and stderr closed": Surroundings(shell="exec <&- >&- 2>&-; "),
    "stdout on a full disk": Surroundings(streams=_full, status=ALL | {"wrap": {0}}),
    "stdout without a reader": Surroundings(streams=_no_reader),
    "the current folder deleted": Surroundings(
        shell="mkdir gone; cd gone; rmdir ../gone; ", status=ALL | {"help": {0}}
    ),
    "a TMPDIR of 110 characters": Surroundings({"TMPDIR": f"TMP/{110 * 't'}"}),
    "a TMPDIR that is not there": Surroundings({"TMPDIR": "TMP/nowhere"}),
    "no home and no user name": Surroundings(
        dict.fromkeys(("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")),
        first=NO_USER,
    ),
    "no cache folder either": Surroundings(
        dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "JOULETUNE_CACHE")),
        first=NO_USER,
        status={"run": {0, 2}, "dry run": {0, 2}},
    ),
    "a folder named like rich's markup": Surroundings(out=b"[/b][red]x"),
    "a folder name that is no UTF-8": Surroundings(out=b"\xff\xfe"),
    "a folder name with escape sequences": Surroundings(out=b"a\x1b]0;title\x07\x1b[31m\xc2\x9b31m\nb"),
}
SENT = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xff")
"""Bytes that a terminal would obey, or could not show; stdout is no terminal here, so rich sends none of its own."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, write_nights: Callable[..., Any]) -> Path:
    """A folder with a suite and runs."""
    folder = tmp_path_factory.mktemp("inputs")
    nights = write_nights(folder)
    for day in range(2):
        nights.write(day)
    (folder / "tiny.yaml").write_text(SUITE)
    (folder / "cache").mkdir()
    return folder


def test_every_command_is_in_the_list() -> None:
    assert {text.split()[0] for text in COMMANDS.values()} == {*cli.commands, "--help"}


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", SURROUNDINGS)
@pytest.mark.timeout(600)
def test_all_commands(name: str, slow: bool, inputs: Path, tmp_path: Path) -> None:
    commands = [command for command in COMMANDS if slow == (command in SLOW)]
    there = SURROUNDINGS[name]
    out = os.path.join(os.fsencode(tmp_path), there.out)  # noqa: PTH118 - pathlib knows no bytes
    os.makedirs(out)  # noqa: PTH103 - as above
    (tmp_path / (110 * "t")).mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOULETUNE_CACHE": str(inputs / "cache"), "COLUMNS": "100"}
    for variable, value in there.environment.items():
        environment.pop(variable, None)
        environment |= {} if value is None else {variable: value.replace("TMP", str(tmp_path))}

    def run(command: str) -> str:
        """Run a command; what is wrong with its end, '' for nothing."""
        words = [
            word.replace(b"OUT", out).replace(b"IN", os.fsencode(inputs)) for word in COMMANDS[command].encode().split()
        ]
        code = f"{there.first}from bench.cli import main; main()"
        place = tmp_path / command.replace(" ", "-")
        place.mkdir()
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | there.streams()
        done = subprocess.run(
            ["sh", "-c", f'{there.shell}exec "$@"', "sh", sys.executable, "-c", code, *words],
            cwd=place, env=environment, timeout=300, check=False, **streams,
        )  # fmt: skip
        ends = {2} if command in ALWAYS_WRONG else there.status.get(command, {0})
        said = f"status {done.returncode}, {done.stdout!r}, {done.stderr!r}"
        if done.returncode not in ends or b"Traceback" in done.stderr:
            return said
        errors = [line for line in done.stderr.splitlines() if line.startswith(b"error: ")]
        if done.returncode == 2 and len(errors) != 1 and done.stderr:
            return said
        return f"sent to the terminal: {said}" if SENT.search((done.stdout or b"") + done.stderr) else ""

    with ThreadPoolExecutor(3) as pool:
        wrong = {command: end for command, end in zip(commands, pool.map(run, commands), strict=True) if end}
    assert not wrong


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "out of memory"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "d/" * 3000), "too long for a path"),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory"),
    ],
)
def test_what_a_process_is_not_granted_is_one_line(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fails)
    assert commands._exit_status() == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert len(told) < 200


def test_another_error_is_not_taken_for_one_of_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(cli, "main", fails)
    with pytest.raises(OSError, match="Input/output"):
        commands._exit_status()
