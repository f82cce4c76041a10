"""ssh: the work runs on another board, which the system's OpenSSH reaches; the meter and its clock stay here.

One connection carries all: jobs and results, the two clocks, the board's state, data and source models. Host keys,
users, ports and jump hosts are those of the user's own configuration of ssh, which is never asked to trust a key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from bench import __version__
from bench.errors import CellFailedError, JouletuneError, RequestError, nearest, show
from bench.process.launcher import JOIN_S, Launcher
from bench.process.messages import (
    GO,
    CellJob,
    Message,
    PrepareDone,
    Trained,
)
from bench.store.durable import write_atomic
from bench.store.record import WorkFigures
from bench.suite.suite import Suite
from bench.targets.files import tree_of
from bench.targets.link import Link
from bench.targets.target import UNKNOWN, Kind, Target
from bench.targets.wire import PROTOCOL, code_sha256, file_sha256, pack
from hardware.device.machine import DeviceFacts, Snapshot
from hardware.measure.clocks import ClockMap, Offset

HOST = re.compile(r"[A-Za-z0-9_][\w.@:%+\[\]-]*")

RECONNECT_S, RETRY_S = 300.0, 5.0
"""A board that went away is tried again for so long, this often: it may be starting again."""

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
