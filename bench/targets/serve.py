"""Serve: the board's side of a run. Started over ssh, it starts repeats for the machine that holds the meter.

It sleeps but for what it is asked: a repeat, its clock, its state, a file. When the other side closes the connection,
or is silent for `SILENCE_S`, it ends, and with it the process that forks the repeats, and those themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench import __version__
from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.process.child import Parent
from bench.process.launcher import Child, Launcher
from bench.process.messages import CellJob, Failed, Message, Prepared, Probed, encode
from bench.process.prepare import usable_device
from bench.process.worker import run_cell
from bench.store.record import WorkFigures
from bench.suite.suite import Suite
from bench.targets.files import Store
from bench.targets.wire import HELLO, PROTOCOL, SILENCE_S, Stream, code_sha256, pack, unpack, versions
from hardware.device import machine


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeJob:
    """Check that a board can train. Answered by Probed, or Failed.

    Attributes:
        device: of torch.
        methods: names of methods whose code is to be hashed.
    """

    device: str
    methods: tuple[str, ...] = ()


def probe(parent: Parent) -> None:
    """Entry point of the process that checks the torch device and the methods."""
    from bench.catalog.methods import code_sha256 as method_sha256

    job: ProbeJob = parent.job
    _, name = usable_device(job.device)
    codes = {method: method_sha256(method) for method in job.methods}
    parent.send(Probed(name, {method: sha256 for method, sha256 in codes.items() if sha256 is not None}))


def serve(source: int, sink: int) -> None:
    """Serve the machine at the other end until it goes away; never returns.

    Args:
        source, sink: descriptors that are read and written.
    """
    # what a library prints must not reach the other side in the midst of a line
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    board = _Board(sink)
    stream = Stream(source)
    try:
        board.send(pack(HELLO, hello(board.store)))
        while True:
            verb, content = unpack(stream.line(time.monotonic() + SILENCE_S))
            if verb == "put":
                pieces = stream.exactly(int(content["size"]), SILENCE_S)
                board.answer(verb, lambda: board.store.put(content["sha256"], pieces))  # noqa: B023  # called at once
            else:
                board.handle(verb, content)
    except (TimeoutError, EOFError, OSError, ValueError):
        os._exit(0)  # the process that forks sees its socket close, and kills what runs


def hello(store: Store) -> dict[str, Any]:
    """What this machine is, as plain values."""
    return {
        "protocol": PROTOCOL,
        "jouletune": __version__,
        "code": code_sha256(),
        "python": platform.python_version(),
        "versions": versions(),
        "device": dataclasses.asdict(machine.facts()),
        "free_bytes": store.free,
        "cache": str(store.path),
    }


class _Board:
    """What is asked of this machine, verb by verb."""

    def __init__(self, sink: int) -> None:
        self.store = Store()
        self._sink = sink
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._kept: Path | None = None

    def send(self, line: bytes) -> None:
        with self._lock:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._sink, rest) :]

    def handle(self, verb: str, content: Any) -> None:
        if verb == "clock":
            self.send(pack("clock", time.monotonic()))
        elif verb == "look":
            self.send(pack("look", look()))
        elif verb == "lacking":
            self.answer(verb, lambda: self.store.lacking(content))
        elif verb == "tree":
            self.answer(verb, lambda: str(self.store.tree(content)))
        elif verb == "probe":
            self._run(ProbeJob(content["device"], tuple(content["methods"])))
        elif verb == "cell":
            self._run(content)
        elif verb == "to":
            with contextlib.suppress(CellFailedError):  # it died, which its end says
                if self._child is not None:
                    self._child.send(content)
        elif verb == "signal":
            if self._child is not None:
                self._child.signal(int(content))
        elif verb == "kept":
            self._send_kept()

    def answer(self, verb: str, act: Any) -> None:
        try:
            self.send(pack(verb, {"ok": act()}))
        except RequestError as error:
            self.send(pack(verb, {"error": str(error)}))

    def _run(self, job: Any) -> None:
        # in a thread: importing torch takes its time, and meanwhile the other side may go away
        threading.Thread(target=self._follow, args=(job,), daemon=True).start()

    def _follow(self, content: Any) -> None:
        """Start a repeat, and pass on what it says until it has ended."""
        try:
            self.store.path.mkdir(parents=True, exist_ok=True)
            launcher = Launcher(self.store.path / "worker.log")
            if isinstance(content, ProbeJob):
                child = launcher.start(probe, content)
                last: type[Any] = Probed
            else:
                child = launcher.start(run_cell, self._job(content))
                last = WorkFigures
            self._child = child
            self.send(pack("started"))
            message: Message = child.receive(last, on_other=self._pass_on)
            child.close()
            self._child = None
            self._pass_on(message)
        except (JouletuneError, ValueError, LookupError, TypeError, OSError) as error:
            self._child = None
            wrong = isinstance(error, RequestError)
            self._pass_on(Failed(str(error) if isinstance(error, JouletuneError) else repr(error), wrong))
        self.send(pack("ended"))

    def _pass_on(self, message: Message) -> None:
        self.send(b"child " + encode(message))

    def _job(self, content: Any) -> CellJob:
        base = Path(content["base"])
        suite = Suite.of_content(content["suite"], base)
        cell = next((one for one in suite.cells() if one.cell_id == content["cell"]), None)
        if cell is None:
            raise RequestError(f"{content['cell']}: no cell of the suite as it was understood there")
        given = content["prepared"]
        source_facts = Path(given["source_facts"]) if given["source_facts"] else None
        prepared = Prepared(
            Path(given["domain"]), Path(given["weights"]), given["data_sha256"], given["weights_sha256"],
            given["facts"], source_facts,
        )  # fmt: skip
        self._kept = None
        keep: dict[str, Any] = {}
        if content["keep"]:
            self._kept = self.store.path / "kept.safetensors"
            keep = {"keep": self._kept, "folder": self.store.path}
        return CellJob(suite, cell, prepared, base, content["device"], float(content["window_s"]), **keep)

    def _send_kept(self) -> None:
        """Send the model that the latest repeat left."""
        try:
            data = self._kept.read_bytes() if self._kept is not None else b""
        except OSError:
            data = b""
        self.send(pack("kept", len(data)) + data)


def look() -> dict[str, Any]:
    """State and processor time of this machine, as plain values."""
    times, own_s = machine.cpu_times(), machine.tree_cpu_s()
    load = None
    if times is not None and own_s is not None:
        load = [times[0] / machine.ticks_per_s(), times[1] / machine.ticks_per_s(), own_s]
    return {"state": dataclasses.asdict(machine.snapshot()), "load_s": load}


def main() -> None:
    """Serve over standard input and output."""
    sink = os.dup(sys.stdout.fileno())
    serve(sys.stdin.fileno(), sink)
