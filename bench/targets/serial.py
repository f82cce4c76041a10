"""serial: the work runs on a microcontroller that speaks the protocol of MLPerf Tiny, driven by a process of its own.

`serial:PORT`, or `serial:PORT?baud=9600&via=interface`. The process loads images and hands them over, and sleeps while
the board works; where it is killed, the port is closed with it. Firmware without `train` is used for inference only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from bench.errors import CellFailedError, RequestError, nearest, show
from bench.process.launcher import Child, Launcher
from bench.process.messages import CellJob
from bench.suite.suite import Suite
from bench.suite.work import Stream
from bench.targets.target import Target
from bench.targets.training import training_of
from hardware.firmware.board import JouletuneDut
from hardware.meters.link import SerialLink, check_port
from hardware.source import NotFound
from hardware.wire.dut import DutError

if TYPE_CHECKING:
    from bench.process.child import Parent

BAUD = 115200
APPEAR_S = 5.0
"""A board that has restarted may be away from USB for so long."""


class Serial(Target):
    """A board on a serial port.

    Args:
        port: device file.
        baud: bits a second.
        passed: whether the interface board of MLPerf Tiny's energy set-up stands in between.
    """

    def __init__(self, name: str, port: str, baud: int, passed: bool) -> None:
        self.name = name
        self.port, self.baud, self.passed = port, baud, passed

    def check(self, suite: Suite) -> dict[str, Any]:
        """Ask the board for its name and net, and check that each cell can run on it; see `Target.check`."""
        if problem := check_port("serial", self.port):
            words = problem.reason if isinstance(problem, NotFound) else problem.how_to_fix
            raise RequestError(f"--target {self.name}: {words}")
        try:
            with connected(self) as dut:
                name, about = dut.connect(), dut.about
                profile, model = dut.profile()
        except (DutError, OSError) as error:
            raise RequestError(f"--target {self.name}: no board answers ({error})") from None
        trains = about is not None and about.slots > 0
        for cell in suite.cells():
            if isinstance(cell.work, Stream):
                raise RequestError(f"{cell.cell_id}: a board runs no streams; work: adapt or infer")
            training = training_of(suite, cell)
            if training is not None and not trains:
                raise RequestError(f"{cell.cell_id}: the firmware of {self.name} does not train; arm none, work infer")
            if training is None and cell.work is None:
                raise RequestError(f"{cell.cell_id}: nothing to do; with the arm none, work infer")
            if training is None and trains:
                raise RequestError(f"{cell.cell_id}: the firmware trains its head first; arm fc or heads")
            if training is not None and training.both and not (about and about.part_features):
                raise RequestError(f"{cell.cell_id}: the firmware has no part; build it with --cut")
        facts: dict[str, Any] = {"firmware": name, "profile": profile, "model": model}
        if about is None:
            return facts
        return facts | {"board": about.board, "net": about.net, "flash": about.flash, "sram": about.sram}

    def start(self, launcher: Launcher, job: CellJob) -> Child:
        """Start the process that drives the board through one repeat."""
        return launcher.start(drive, BoardJob(job, self.name, self.port, self.baud, self.passed))


@dataclass(frozen=True, slots=True)
class BoardJob:
    """A repeat, and the port of its board."""

    job: CellJob
    name: str
    port: str
    baud: int
    passed: bool


def drive(parent: Parent) -> None:
    """Entry point of the process; the job is a BoardJob."""
    from bench.targets.on_board import run_on_board

    job: BoardJob = parent.job
    try:
        with connected(job) as dut:
            dut.connect()
            run_on_board(parent, job.job, dut)
    except (DutError, OSError) as error:
        raise CellFailedError(f"{job.name}: {error}") from None


@contextmanager
def connected(to: Serial | BoardJob) -> Iterator[JouletuneDut]:
    """A board on its open port, which no other program can open meanwhile.

    Raises:
        OSError: it does not open.
    """
    until_s = time.monotonic() + APPEAR_S
    while not Path(to.port).exists() and time.monotonic() < until_s:
        time.sleep(0.1)
    link = SerialLink(to.port, to.baud)
    try:
        yield JouletuneDut(link, baud=to.baud, passed=to.passed)
    finally:
        link.close()


def make(address: str) -> Serial:
    """The board of `PORT` or `PORT?baud=N&via=interface`.

    Raises:
        RequestError: it is none, or has another parameter.
    """
    port, _, rest = address.partition("?")
    name = f"serial:{port}"
    parameters = dict(parse_qsl(rest, keep_blank_values=True))
    baud, via = parameters.pop("baud", str(BAUD)), parameters.pop("via", "")
    if parameters:
        unknown = next(iter(parameters))
        raise RequestError(f"--target {name}: no parameter {show(unknown)}; {nearest(unknown, ['baud', 'via'])}")
    if not port:
        raise RequestError("--target serial: name its port, e.g. serial:/dev/ttyACM0")
    if not (baud.isascii() and baud.isdecimal() and 300 <= int(baud[:9]) <= 12_000_000):
        raise RequestError(f"--target {name}: baud={show(baud)}; expected bits a second, e.g. {BAUD}")
    if via not in ("", "interface"):
        raise RequestError(f"--target {name}: via={show(via)}; expected interface")
    return Serial(f"serial:{show(address)}" if rest else name, port, int(baud), via == "interface")
