"""The command that wrap runs: output, input, signals, exit status, its whole tree, what its output counts."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.work.command import Command, Per

ROOT = Path(__file__).resolve().parents[3]


def python(code: str, per: Per | None = None) -> Command:
    return Command([sys.executable, "-c", code], per)


@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_exit_status_is_passed_on(status: int) -> None:
    ended = python(f"import sys; sys.exit({status})").execute()
    assert (ended.status, ended.signal) == (status, None)
    assert ended.problem == (f"exit status {status}" if status else None)


def test_signal_that_ends_the_command_is_told() -> None:
    ended = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").execute()
    assert (ended.status, ended.signal) == (None, signal.SIGKILL)
    assert "Killed" in str(ended.problem)


def test_window_lasts_until_the_last_process_has_ended() -> None:
    began_s = time.monotonic()
    ended = Command(["sh", "-c", "(sleep 0.3; sleep 0.3) & exit 4"]).execute()
    assert ended.status == 4
    assert time.monotonic() - began_s >= 0.6


def test_default_actions_of_signals_are_those_of_a_program_started_by_a_shell() -> None:
    ended = python(
        "import os, signal; lines = open('/proc/self/status').read().split('\\n');"
        "masks = {l.split(':')[0]: int(l.split(':')[1], 16) for l in lines if l.startswith(('SigBlk', 'SigIgn'))};"
        # Python ignores SIGPIPE and SIGXFSZ itself, so a shell has to tell
        "raise SystemExit(masks['SigBlk'] != 0)"
    ).execute()
    assert ended.status == 0
    assert Command(["sh", "-c", "kill -PIPE $$"]).execute().signal == signal.SIGPIPE


def test_there_is_no_such_command() -> None:
    with pytest.raises(RequestError, match="'nowhere-at-all': no such command"):
        Command(["nowhere-at-all"])


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        ("tokens=1234", 1234.0, b""),
        ("images=1.5", 1.5, b""),
        (r"tokens=([0-9,]+) tokens", 2048.0, b"1 tokens\nin all 2,048 tokens, 3 s\n"),
        (r"tokens=([0-9]+) tokens", None, b"none\n"),
        (r"tokens=n: (\S+)", None, b"n: nan\nn: -3\nn: inf\n"),
    ],
)
def test_units_are_known_or_found_in_the_output(text: str, count: float | None, found: bytes) -> None:
    assert Per.parse(text).found([found, b""]) == count


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tokens", "expected NAME=NUMBER"),
        ("=3", "expected NAME=NUMBER"),
        ("tokens=0", "no number above 0"),
        ("tokens=-3", "no number above 0"),
        ("tokens=nan", "no number above 0"),
        ("tokens=12x4", "has 0 groups"),
        ("tokens=(a)(b)", "has 2 groups"),
        ("tokens=(a", "no regular expression"),
    ],
)
def test_units_that_cannot_be_found_are_refused(text: str, problem: str) -> None:
    with pytest.raises(RequestError, match=re.escape(problem)):
        Per.parse(text)


def wrapped(tmp_path: Path, *arguments: str) -> list[str]:
    how = ["--source", "none", "--idle", "0", "--guard", "0", "--cooldown", "0", "--quiet"]
    return [sys.executable, "-m", "bench.cli", "wrap", "--out", str(tmp_path / "run"), *how, *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("per", [[], ["--per", "bytes=([0-9]+) bytes"]], ids=["inherited", "searched"])
def test_output_and_input_are_untouched(tmp_path: Path, per: list[str]) -> None:
    code = (
        "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data * 2 + b'\\x00\\xff\\r\\n');"
        "sys.stderr.buffer.write(b'\\x1b[31m' + b'%d bytes' % len(data)); raise SystemExit(7)"
    )
    command = [sys.executable, "-c", code]
    given = bytes(range(256)) * 1000
    plain = subprocess.run(command, input=given, capture_output=True, check=False)
    seen = subprocess.run(
        wrapped(tmp_path, *per, "--", *command), input=given, capture_output=True, env=environment(), check=False
    )
    assert seen.stdout == plain.stdout
    assert seen.stderr == plain.stderr
    assert seen.returncode == plain.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signal_reaches_the_command_and_comes_back(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    wait = ["sh", "-c", f"echo > {ready}; exec sleep 30"]
    # whoever runs the tests may ignore it, as nohup does SIGHUP, and wrap keeps to what it was started with
    ignored = signal.signal(number, signal.SIG_DFL)
    try:
        process = subprocess.Popen(wrapped(tmp_path, "--", *wait), env=environment())
    finally:
        signal.signal(number, ignored)
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(timeout=20) == -number


def test_ctrl_c_reaches_the_command_once(tmp_path: Path) -> None:
    """The terminal sends it to both; passed on as well, it would come twice."""
    code = (
        "import signal, sys, time; seen = []; signal.signal(signal.SIGINT, lambda *_: seen.append(1));"
        "print('ready', flush=True); end = time.monotonic() + 1.5\n"
        "while time.monotonic() < end: time.sleep(0.05)\n"
        "sys.exit(40 + len(seen))"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, wrapped(tmp_path, "--", sys.executable, "-c", code), environment())
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 4096)
    time.sleep(0.3)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while os.read(terminal, 4096):
            pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 41


def test_command_that_handles_a_signal_has_its_own_status(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"trap 'exit 9' TERM; echo > {ready}; while :; do sleep 0.05; done"
    process = subprocess.Popen(wrapped(tmp_path, "--", "sh", "-c", code), env=environment())
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=20) == 9


def test_a_command_ends_where_the_end_of_children_is_ignored(tmp_path: Path) -> None:
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = subprocess.Popen(wrapped(tmp_path, "--", "sh", "-c", "exit 3"), env=environment())
    finally:
        signal.signal(signal.SIGCHLD, ignored)
    assert process.wait(timeout=60) == 3
