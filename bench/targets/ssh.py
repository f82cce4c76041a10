"""ssh: the work runs on another board, which the system's OpenSSH reaches; the meter and its clock stay here.

One connection carries all: jobs and results, the two clocks, the board's state, data and source models. Host keys,
users, ports and jump hosts are those of the user's own configuration of ssh, which is never asked to trust a key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from bench import __version__
from bench.errors import CellFailedError, JouletuneError, RequestError, nearest, show
from bench.process.launcher import JOIN_S, CellTimeoutError, Launcher
from bench.process.messages import (
    GO,
    MAX_BYTES,
    CellJob,
    Failed,
    Message,
    PrepareDone,
    Probed,
    Trained,
    decode,
)
from bench.store.durable import write_atomic
from bench.store.record import WorkFigures
from bench.suite.suite import Suite
from bench.targets.files import tree_of
from bench.targets.target import UNKNOWN, Kind, Target
from bench.targets.wire import ALIVE_S, HELLO, PROTOCOL, Stream, code_sha256, file_sha256, pack, unpack
from bench.text import shown
from hardware.device.machine import DeviceFacts, Snapshot
from hardware.measure.clocks import ClockMap, Exchange, Offset

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

HOST = re.compile(r"[A-Za-z0-9_][\w.@:%+\[\]-]*")

VENV = ".local/share/jouletune/venv"
"""Where `jouletune target setup` installs, below the home folder there."""

HELLO_S = 60.0
"""Longest wait for a board to log in and start jouletune."""

ANSWER_S = 45.0
"""Longest wait for an answer. ssh itself notices a dead network about as soon."""

RECONNECT_S, RETRY_S = 300.0, 5.0
"""A board that went away is tried again for so long, this often: it may be starting again."""

EXCHANGES, EXCHANGE_S = 8, 0.1
"""Exchanges of times before and after the work, and the longest that they may take."""

MAX_MODEL_BYTES = 4_000_000_000


def make(address: str) -> Ssh:
    """The board at an address, `HOST` or `HOST?command=PATH`.

    Raises:
        RequestError: it is none.
    """
    host, _, query = address.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if not HOST.fullmatch(host):
        raise RequestError(f"--target ssh:{show(address)}: expected ssh:HOST, as ssh itself knows it, e.g. ssh:pi5")
    for key, value in given.items():
        if key != "command" or not value:
            raise RequestError(f"--target ssh:{show(address)}: {show(key)}; {nearest(key, ['command'])}, with a value")
    return Ssh(host, given.get("command"))


class Ssh(Target):
    """A board.

    Args:
        host: as ssh knows it.
        command: path of `jouletune` there; None: the one on its path, else the one of `jouletune target setup`.
    """

    def __init__(self, host: str, command: str | None = None) -> None:
        self.name = f"ssh:{host}" + (f"?command={command}" if command else "")
        self.host = host
        self._command = command
        self._link: Link | None = None
        self._hello: dict[str, Any] = {}
        self._base = ""
        self._there: dict[Path, str] = {}
        self._stopped = False
        self.revive: Callable[[], None] | None = None  # switches a board off and on that does not come back

    # -- before a run ------------------------------------------------------------------------------

    def check(self, suite: Suite | None = None) -> dict[str, Any]:
        """Connect, and compare the jouletune there with this one.

        Raises:
            RequestError: the board is not reached, or what it has does not fit.
        """
        told = self.connect()
        there, here = f"{self.name}: jouletune {told['jouletune']}", f"{__version__} here"
        mend = f"`jouletune target setup {self.name}` installs this one"
        if (told["protocol"], told["jouletune"]) != (PROTOCOL, __version__):
            raise RequestError(f"{there} there, {here}; {mend}")
        if told["code"] != code_sha256():
            raise RequestError(f"{there} on both sides, but its code differs; {mend}")
        if told["versions"].get("torch") is None:
            raise RequestError(f"{self.name}: torch is not installed there; {mend}, with it")
        if told["free_bytes"] <= 0:
            raise RequestError(f"{self.name}: the disk there is full ({told['cache']}); free some space")
        return {"torch": told["versions"]["torch"], "python": told["python"]}

    def connect(self) -> dict[str, Any]:
        """Open the connection, unless it is. Returns what the board says of itself.

        Raises:
            RequestError: it is not reached, or has no jouletune.
        """
        if self._link is None or not self._link.alive:
            if self._link is not None:
                self._link.close()
            self._link = Link(self.host, self._command, self.name)
            self._hello = self._link.hello
        return self._hello

    @property
    def facts(self) -> DeviceFacts:
        known = {field.name for field in dataclasses.fields(DeviceFacts)}
        return DeviceFacts(**{key: value for key, value in self.connect()["device"].items() if key in known})

    @property
    def versions(self) -> dict[str, str | None]:
        told = self.connect()
        return {"python": told["python"], **told["versions"]}

    def prepare(self, done: PrepareDone, suite: Suite, base: Path, device: str) -> PrepareDone:
        """Send what was prepared here and is not there yet, and check that the board can train.

        Raises:
            RequestError: it cannot, has no room, or a method there has other code.
            JouletuneError: it went away.
        """
        link = self._connected()
        trees: dict[Path, dict[str, Path]] = {}
        for one in done.prepared.values():
            for path in (one.domain, one.weights, one.source_facts):
                if path is not None:
                    trees[path] = tree_of(path)
        trees[base] = _users_files(suite, base)
        hashes = {file: file_sha256(file) for tree in trees.values() for file in tree.values()}
        try:
            probed = link.probe(device, sorted(done.methods_sha256))
            lacking = set(link.ask("lacking", sorted(set(hashes.values()))))
            files = {sha256: file for file, sha256 in hashes.items() if sha256 in lacking}
            needed = sum(file.stat().st_size for file in files.values())
            if needed > self._hello["free_bytes"]:
                raise RequestError(
                    f"{self.name}: the disk there is too full: {needed / 1e6:.1f} MB are to be sent, "
                    f"{self._hello['free_bytes'] / 1e6:.1f} MB are free ({self._hello['cache']})"
                )
            for sha256, file in files.items():
                link.put(sha256, file)
            folders = {
                path: link.ask("tree", {name: hashes[file] for name, file in tree.items()})
                for path, tree in trees.items()
            }
        except CellFailedError as error:
            raise JouletuneError(str(error)) from None
        self._there = {path: f"{folders[path]}/{path.name}" if path.is_file() else str(folders[path]) for path in trees}
        self._base = self._there[base]
        changed = [name for name, sha256 in done.methods_sha256.items() if probed.methods_sha256.get(name) != sha256]
        if changed:
            raise RequestError(f"{self.name}: the code of the method {changed[0]} there is another; install this one")
        return dataclasses.replace(done, device_name=probed.device_name)

    # -- in a run ----------------------------------------------------------------------------------

    def start(self, launcher: Launcher, job: CellJob) -> Repeat:
        """Start one repeat there; a board that went away is waited for.

        Raises:
            CellFailedError: it cannot be started.
            JouletuneError: the board does not come back.
        """
        return Repeat(self._connected(), job, base=self._base, there=self._there)

    def _connected(self) -> Link:
        until_s = time.monotonic() + RECONNECT_S
        revive_s = until_s - RECONNECT_S * 2 / 3
        while True:
            if self._stopped:
                raise KeyboardInterrupt
            before = self._hello
            try:
                told = self.connect()
            except RequestError as error:
                if not before or time.monotonic() > until_s:
                    raise JouletuneError(f"{error}; the same command goes on with what is left") from None
                if self.revive is not None and time.monotonic() > revive_s:
                    revive_s = until_s
                    self.revive()
                time.sleep(RETRY_S)
                continue
            changed = [
                key for key in ("jouletune", "code", "device", "versions") if before and before[key] != told[key]
            ]
            if changed:
                raise JouletuneError(f"{self.name}: its {changed[0]} is another since it came back")
            assert self._link is not None
            return self._link

    def look(self) -> Snapshot:
        """State of the board now; unknown where it does not answer."""
        told = self._looked().get("state", {})
        known = {field.name for field in dataclasses.fields(Snapshot)}
        return dataclasses.replace(UNKNOWN, **{key: value for key, value in told.items() if key in known})

    def load_s(self) -> tuple[float, float, float] | None:
        machine_s, cores_s, own_s = self._looked().get("load_s") or (None, None, None)
        if machine_s is None or cores_s is None or own_s is None:
            return None
        return float(machine_s), float(cores_s), float(own_s)

    def _looked(self) -> dict[str, Any]:
        if self._link is None or not self._link.alive:
            return {}
        try:
            told = self._link.ask("look", None)
        except (CellFailedError, RequestError):
            return {}
        return told if isinstance(told, dict) else {}

    def stop(self) -> None:
        self._stopped = True
        if self._link is not None:
            self._link.interrupt()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class Repeat:
    """One repeat on a board.

    Args:
        link: to the board.
        there: a path here -> the same content there.
    """

    def __init__(self, link: Link, job: CellJob, *, base: str, there: Mapping[Path, str]) -> None:
        self.started_s = time.monotonic()
        self._link = link
        self._job = job
        self._before: Offset | None = None
        self._go_s = 0.0
        prepared = job.prepared
        link.begin()
        link.send(
            pack(
                "cell",
                {
                    "suite": job.suite.content(),
                    "cell": job.cell.cell_id,
                    "base": base,
                    "device": job.device,
                    "window_s": job.window_s,
                    "keep": job.keep is not None,
                    "prepared": {
                        "domain": there[prepared.domain],
                        "weights": there[prepared.weights],
                        "source_facts": there[prepared.source_facts] if prepared.source_facts else None,
                        "data_sha256": prepared.data_sha256,
                        "weights_sha256": prepared.weights_sha256,
                        "facts": prepared.facts,
                    },
                },
            )
        )

    def send(self, word: str, /) -> None:
        """Send GO or RELEASE. Right before GO the two clocks are compared.

        Raises:
            CellFailedError: the connection is lost.
        """
        if word == GO:
            self._before = Offset.of(self._link.exchanges())
            self._go_s = time.monotonic()
        self._link.send(pack("to", word))

    def receive(
        self,
        kind: type[Kind],
        *,
        deadline_s: float | None = None,
        on_other: Callable[[Message], None] = lambda _: None,
    ) -> Kind:
        """Wait for a message of this kind. The times in `Trained` are placed on this machine's clock.

        Raises:
            RequestError, CellTimeoutError, CellFailedError: as `bench.process.launcher.Child.receive`.
        """
        message = self._link.message(kind, deadline_s, on_other)
        if isinstance(message, Trained):
            done_s = time.monotonic()
            placed: Any = self._placed(message, done_s, Offset.of(self._link.exchanges()))
            return placed  # type: ignore[no-any-return]  # the kind that was asked for
        if isinstance(message, WorkFigures) and self._job.keep is not None and self._job.folder is not None:
            self._link.until_ended(deadline_s)
            write_atomic(self._job.keep, self._link.kept(), root=self._job.folder)
        return message

    def _placed(self, trained: Trained, done_s: float, after: Offset) -> Trained:
        if self._before is None:
            raise CellFailedError("the process was done before it was asked to begin")
        clock = ClockMap(self._before, after, self._go_s, done_s)
        at = clock.place(trained.t0_s, trained.t1_s)
        # between the ends of a clock that jumped, nothing is known
        spans = () if at.jumped else tuple((name, clock.here(a_s), clock.here(b_s)) for name, a_s, b_s in trained.spans)
        return dataclasses.replace(
            trained, t0_s=at.t0_s, t1_s=at.t1_s, spans=spans, edge_u_s=at.u_s, clock_jumped=at.jumped
        )

    def signal(self, number: int, /) -> None:
        """Send a signal to the repeat there."""
        with contextlib.suppress(CellFailedError):
            self._link.send(pack("signal", number))

    def close(self) -> None:
        """Let the repeat end; end it where it does not."""
        try:
            self._link.until_ended(time.monotonic() + JOIN_S)
        except (CellFailedError, TimeoutError):
            self.kill()

    def kill(self) -> None:
        """End it at once; where the board does not answer, end the connection, which ends everything there."""
        if self._link.running:
            self.signal(signal.SIGKILL)
            try:
                self._link.until_ended(time.monotonic() + JOIN_S)
            except (CellFailedError, TimeoutError):
                self._link.close()


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


def _users_files(suite: Suite, base: Path) -> dict[str, Path]:
    """The file or the package of a user's own model, beside the suite; none for the catalogue's."""
    module, _, function = suite.model.name.partition(":")
    if not function:
        return {}
    top = module.partition(".")[0]
    found = PathFinder.find_spec(top, [str(base)])
    if found is None or found.origin is None:
        return {}
    origin = Path(found.origin)
    files = [*_code(origin.parent)] if found.submodule_search_locations else [origin]
    return {file.relative_to(base).as_posix(): file for file in files}


def _code(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*.py")) if file.is_file())
