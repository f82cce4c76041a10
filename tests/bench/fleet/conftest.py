"""Boards for tests: each an sshd of Debian's openssh-server on loopback, with its own port, keys and cache."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass
class Board:
    """One sshd. Its host is called `name` in the ssh configuration of `Lab`."""

    name: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    wrapper: Path = field(init=False)

    def __post_init__(self) -> None:
        self.wrapper = self.folder / "jouletune"
        self.install()

    def install(self, prelude: str = "") -> None:
        """Put a `jouletune` there: this checkout's, with code that runs before it."""
        code = f"import sys\n{prelude}\nfrom bench.cli.commands import main\nmain()\n"
        (self.folder / "start.py").write_text(code)
        self.wrapper.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={ROOT} JOULETUNE_CACHE={self.cache} BOARD={self.name} OMP_NUM_THREADS=1\n"
            f'exec {sys.executable} {self.folder}/start.py "$@"\n'
        )
        self.wrapper.chmod(0o755)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def target(self) -> str:
        return f"ssh:{self.name}?command={self.wrapper}"

    def start(self) -> None:
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        pytest.fail((self.folder / "sshd.log").read_text())

    def processes(self) -> list[psutil.Process]:
        """What runs on the board: descendants of its sshd, and what these left behind."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("BOARD") == self.name:
                    found.append(process)
        return found

    def kill_sshd(self) -> None:
        """End the sshd and those that serve its connections, at once."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        for one in [self.process.pid, *(child.pid for child in children if child.name().startswith("sshd"))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.kill_sshd()


@dataclass
class Lab:
    """Two boards, and the configuration of ssh by which they are reached."""

    folder: Path
    boards: list[Board]

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def swapped(self) -> str:
        """Host keys as if each board had another's."""
        first, second = self.known_hosts.read_text().splitlines()
        (a, key_a), (b, key_b) = (line.split(" ", 1) for line in (first, second))
        return f"{a} {key_b}\n{b} {key_a}\n"

    def trust(self) -> None:
        """Write down the host keys of all boards, as who sets up a lab does."""
        keys = [(board, (board.folder / "host.pub").read_text().split()[:2]) for board in self.boards]
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{board.port} {' '.join(key)}\n" for board, key in keys))


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("no openssh-server here")
    folder = tmp_path_factory.mktemp("lab")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    _key(folder / "user")
    lab = Lab(folder, [])
    lines = []
    for name in ("pi-a", "pi-b"):
        place = folder / name
        place.mkdir()
        _key(place / "host")
        board = Board(name, place, _free_port())
        (place / "sshd_config").write_text(
            f"Port {board.port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nPidFile {place}/pid\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nLogLevel ERROR\nMaxStartups 100\n"
            # what the tests' environment has is there, but for jouletune itself
            f"SetEnv HOME={place} PYTHONPATH={site.getsitepackages()[0]}\n"
        )
        lab.boards.append(board)
        lines.append(f"Host {name}\n  HostName 127.0.0.1\n  Port {board.port}\n")
    (folder / "config").write_text(
        "".join(lines)
        + f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
        "  GlobalKnownHostsFile /dev/null\n"
    )
    yield lab
    for board in lab.boards:
        board.stop()


@pytest.fixture
def lab(_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Two boards that run."""
    monkeypatch.setenv("JOULETUNE_SSH", f"ssh -F {_lab.folder / 'config'}")
    _lab.trust()
    for board in _lab.boards:
        board.install()
        if board.process is None:
            board.start()
    return _lab


@pytest.fixture
def board(lab: Lab) -> Board:
    return lab.boards[0]


def gone(board: Board, limit_s: float) -> float:
    """Wait until nothing of ours runs on a board; returns how long that took, s."""
    started_s = time.monotonic()
    while left := board.processes():
        if time.monotonic() - started_s > limit_s:
            pytest.fail(f"still there: {[process.cmdline() for process in left]}")
        time.sleep(0.1)
    return time.monotonic() - started_s
