"""Link: the connection to a board, one process of the system's ssh, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.errors import CellFailedError, RequestError
from bench.process.launcher import JOIN_S, CellTimeoutError
from bench.process.messages import (
    MAX_BYTES,
    Failed,
    Message,
    Probed,
    decode,
)
from bench.targets.target import Kind
from bench.targets.wire import ALIVE_S, HELLO, Stream, pack, unpack
from bench.text import shown
from hardware.measure.clocks import Exchange

SSH = "JOULETUNE_SSH"
"""Environment variable with the command to use in place of `ssh`, e.g. `ssh -F FILE`."""

OPTIONS = (
    *("-T", "-a", "-x"),
    *("-o", "BatchMode=yes"),  # asks nobody for a password, nor whether to trust a key
    *("-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=15"),
    *("-o", "ServerAliveCountMax=2"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "PermitLocalCommand=no"),
)

VENV = ".local/share/jouletune/venv"
"""Where `jouletune target setup` installs, below the home folder there."""

HELLO_S = 60.0
"""Longest wait for a board to log in and start jouletune."""

ANSWER_S = 45.0
"""Longest wait for an answer. ssh itself notices a dead network about as soon."""

EXCHANGES, EXCHANGE_S = 8, 0.1
"""Exchanges of times before and after the work, and the longest that they may take."""

MAX_MODEL_BYTES = 4_000_000_000


class Link:
    """The connection to a board: one process of ssh.

    Attributes:
        hello: what the board says of itself.
        running: whether a repeat was started and has not ended.

    Raises:
        RequestError: the board is not reached, or has no jouletune.
    """

    def __init__(self, host: str, command: str | None, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._messages: deque[bytes] = deque()
        self._why = ""
        self._interrupted = False
        self._done = threading.Event()
        self.running = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the connection
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = _open_ssh(host, remote_command(command), theirs.fileno(), self._errors.fileno(), name)
        self._stream = Stream(self._socket.fileno())
        try:
            self.hello = self._greeting()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._stay_alive, name=f"alive-{host}", daemon=True).start()

    @property
    def alive(self) -> bool:
        return not self._why and self._process.poll() is None

    def _greeting(self) -> dict[str, Any]:
        """Read the first line of jouletune; a login's own words may come before it."""
        deadline_s = time.monotonic() + HELLO_S
        try:
            for _ in range(1000):
                line = self._stream.line(deadline_s)
                if line.startswith(HELLO.encode() + b" "):
                    _, told = unpack(line)
                    return _checked_hello(told)
            reason = "it prints a thousand lines when one logs in"
        except TimeoutError:
            reason = f"no answer within {HELLO_S:.0f} s"
        except EOFError:
            reason = self._ending()
        except (ValueError, KeyError, TypeError):
            reason = "what it says is not of this version of jouletune"
        raise RequestError(f"{self._name}: {reason}")

    def _ending(self) -> str:
        """Why ssh ended, in its own words, and what to do about it."""
        try:
            code = self._process.wait(JOIN_S)
        except subprocess.TimeoutExpired:
            return "it closed the connection"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read()[-4000:].decode("utf-8", "replace").splitlines()]
        words = [line for line in lines if line and not line.startswith(("@@@", "debug"))]
        text = shown(" ".join(words))[:400]
        if code == 127 or NOT_INSTALLED in text:
            return f"jouletune is not installed there; `jouletune target setup {self._name}` installs this version"
        for mark, advice in ADVICE:
            if mark in text:
                return advice if mark.isupper() else f"{mark}; {advice}"
        return (
            f"{words[-1] if words else f'ssh ended with exit status {code}'}"
            if code == 255
            else (f"jouletune there ended with exit status {code}: {text or 'it said nothing'}")
        )

    # -- lines -------------------------------------------------------------------------------------

    def send(self, line: bytes) -> None:
        """Send a line.

        Raises:
            CellFailedError: the connection is lost.
        """
        try:
            with self._lock:
                self._socket.sendall(line)
        except OSError:
            raise self._lost() from None

    def _lost(self) -> CellFailedError:
        if self._interrupted:
            raise KeyboardInterrupt
        self._why = self._why or self._ending()
        self.running = False
        return CellFailedError(f"{self._name}: the connection was lost ({self._why})")

    def _next(self, deadline_s: float | None) -> tuple[str, bytes]:
        """The next line: its verb, and the rest.

        Raises:
            TimeoutError: the deadline passed.
            CellFailedError: the connection is lost.
        """
        try:
            line = self._stream.line(deadline_s)
        except (EOFError, ValueError):
            raise self._lost() from None
        verb, _, rest = line.partition(b" ")
        word = verb.decode("ascii", "replace")
        if word == "ended":
            self.running = False
        return word, rest

    def _answer(self, verb: str) -> Any:
        deadline_s = time.monotonic() + ANSWER_S
        try:
            while True:
                got, rest = self._next(deadline_s)
                if got == verb:
                    return unpack(b"_ " + rest)[1]
                if got == "child":
                    self._keep(rest)
        except TimeoutError:
            self._why = f"no answer within {ANSWER_S:.0f} s"
        except ValueError:
            self._why = "an answer that is none"
        self._process.kill()
        raise self._lost()

    def _keep(self, message: bytes) -> None:
        if len(message) <= MAX_BYTES and len(self._messages) < 10_000:
            self._messages.append(message)

    def ask(self, verb: str, content: object) -> Any:
        """Ask the board something.

        Raises:
            RequestError: it cannot do it.
            CellFailedError: the connection is lost.
        """
        self.send(pack(verb, content))
        told = self._answer(verb)
        if isinstance(told, dict) and "error" in told:
            raise RequestError(f"{self._name}: {shown(str(told['error']))[:400]}")
        return told["ok"] if isinstance(told, dict) and "ok" in told else told

    def put(self, sha256: str, file: Path) -> None:
        """Send a file.

        Raises:
            RequestError: the board cannot keep it.
            CellFailedError: the connection is lost.
        """
        size = file.stat().st_size
        with self._lock, file.open("rb") as content:
            try:
                self._socket.sendall(pack("put", {"sha256": sha256, "size": size}))
                left = size
                while left:
                    piece = content.read(min(left, 1 << 20))
                    if not piece:
                        raise RequestError(f"{file}: it became shorter while it was sent")
                    self._socket.sendall(piece)
                    left -= len(piece)
            except OSError:
                raise self._lost() from None
        told = self._answer("put")
        if isinstance(told, dict) and "error" in told:
            raise RequestError(f"{self._name}: {shown(str(told['error']))[:400]}")

    def kept(self) -> bytes:
        """Fetch the model that the latest repeat left; empty where it left none."""
        self.send(pack("kept"))
        size = self._answer("kept")
        if not isinstance(size, int) or not 0 <= size <= MAX_MODEL_BYTES:
            raise CellFailedError(f"{self._name}: a model of a size that cannot be")
        try:
            return b"".join(self._stream.exactly(size, ANSWER_S))
        except (TimeoutError, EOFError):
            raise self._lost() from None

    def exchanges(self) -> list[Exchange]:
        """Compare the two clocks, a few times.

        Raises:
            CellFailedError: the connection is lost.
        """
        found: list[Exchange] = []
        until_s = time.monotonic() + EXCHANGE_S
        while not found or (len(found) < EXCHANGES and time.monotonic() < until_s):
            sent_s = time.monotonic()
            self.send(pack("clock"))
            there_s = self._answer("clock")
            received_s = time.monotonic()
            if not isinstance(there_s, int | float) or not abs(there_s) < 1e12:
                raise CellFailedError(f"{self._name}: sent no time")
            found.append(Exchange(sent_s, float(there_s), received_s))
        return found

    # -- repeats -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Forget what the repeat before has said; a new one starts."""
        self._messages.clear()
        self.running = True

    def message(self, kind: type[Kind], deadline_s: float | None, on_other: Callable[[Message], None]) -> Kind:
        """Wait for a message of a repeat, as `Repeat.receive`."""
        while True:
            message = self._message(deadline_s)
            if isinstance(message, kind):
                return message
            if isinstance(message, Failed):
                text = shown(message.error)[:500]
                raise (RequestError if message.request else CellFailedError)(text)
            on_other(message)

    def _message(self, deadline_s: float | None) -> Message:
        while not self._messages:
            try:
                verb, rest = self._next(deadline_s)
            except TimeoutError:
                self.send(pack("signal", int(signal.SIGKILL)))
                raise CellTimeoutError("not done in time; its process group was killed") from None
            if verb == "child":
                self._keep(rest)
            elif verb == "ended" and not self._messages:
                raise CellFailedError("the process there ended and said nothing")
        return decode(self._messages.popleft())

    def probe(self, device: str, methods: list[str]) -> Probed:
        """Check that the board can train.

        Raises:
            RequestError: it cannot.
            CellFailedError: it went away.
        """
        self.begin()
        self.send(pack("probe", {"device": device, "methods": methods}))
        try:
            probed = self.message(Probed, None, lambda _: None)
        except RequestError as error:
            raise RequestError(f"{self._name}: {error}") from None
        except CellFailedError as error:
            if not self.alive:
                raise
            raise RequestError(f"{self._name}: {error}") from None
        self.until_ended(time.monotonic() + JOIN_S)
        return probed

    def until_ended(self, deadline_s: float | None) -> None:
        """Wait until the repeat has ended.

        Raises:
            TimeoutError: the deadline passed.
            CellFailedError: the connection is lost.
        """
        while self.running:
            self._next(deadline_s)

    # -- the end -----------------------------------------------------------------------------------

    def _stay_alive(self) -> None:
        while not self._done.wait(ALIVE_S):
            try:
                self.send(pack("alive"))
            except (CellFailedError, KeyboardInterrupt):
                return

    def interrupt(self) -> None:
        """Let whoever waits for the board get a KeyboardInterrupt. Called from another thread."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the board's side ends by that."""
        self._done.set()
        self._why = self._why or "it was closed"
        self.running = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


NOT_INSTALLED = "jouletune: not installed"
ADVICE = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known here; make sure that it is that board, then `ssh-keygen -R` it",
    ),
    ("Host key verification failed", "its host key is not known here; log in once with ssh and compare the key"),
    ("Permission denied", "no key of this user opens it; `ssh-copy-id` puts one there"),
    ("Could not resolve hostname", "no such host; name it as ssh knows it"),
    ("Connection refused", "is sshd running there?"),
    ("Connection timed out", "is the board on, and on this network?"),
    ("No route to host", "is the board on, and on this network?"),
)
"""What ssh says, in part -> what it means and what to do. In capitals: said instead of it."""


def ssh_command() -> list[str]:
    """The words that start ssh.

    Raises:
        RequestError: there is none.
    """
    words = shlex.split(os.environ.get(SSH) or "ssh")
    if not words or shutil.which(words[0]) is None:
        raise RequestError(f"{words[0] if words else SSH}: not found; install OpenSSH's client, or set {SSH}")
    return [*words, *OPTIONS]


def remote_command(command: str | None, words: str = "target serve") -> str:
    """The command for the board's shell that starts jouletune there."""
    if command is not None and command.startswith("~/"):
        return f'exec "$HOME"/{shlex.quote(command[2:])} {words}'
    if command is not None:
        return f"exec {shlex.quote(command)} {words}"
    there = f'"$HOME/{VENV}/bin/jouletune"'
    return (
        f"if command -v jouletune >/dev/null 2>&1; then exec jouletune {words}; "
        f"elif [ -x {there} ]; then exec {there} {words}; "
        f"else echo '{NOT_INSTALLED}' >&2; exit 127; fi"
    )


def _open_ssh(host: str, remote: str, connection: int, errors: int, name: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [*ssh_command(), "--", host, remote],
            stdin=connection, stdout=connection, stderr=errors, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise RequestError(f"{name}: ssh cannot be started ({error.strerror})") from None


def _checked_hello(told: Any) -> dict[str, Any]:
    """What a board says of itself, with the types that are relied on.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    kinds = {
        "protocol": int, "jouletune": str, "code": str, "python": str, "versions": dict, "device": dict,
        "free_bytes": int, "cache": str,
    }  # fmt: skip
    for key, kind in kinds.items():
        if not isinstance(told[key], kind):
            raise ValueError(key)
    return {key: shown(told[key]) if kind is str else told[key] for key, kind in kinds.items()}
