"""Run: the boards of an inventory run a suite at the same time, a thread each, into one run folder each."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.errors import JouletuneError, RequestError
from bench.fleet.inventory import Board, Inventory
from bench.fleet.probe import State, each, probe, share_a_meter, target_of, unlike
from bench.fleet.share import shares
from bench.run.plan import select_cells
from bench.run.runner import RunOptions, opened
from bench.run.session import prepared_once, terminate_is_interrupt
from bench.store.fleet_dir import FleetDir, FleetFacts
from bench.suite.load import LoadedSuite
from bench.targets.ssh import Ssh
from bench.text import console as make_console
from bench.text import shown

DRAW_S = 0.5
"""The table is drawn again at most so often."""

LINE_S = 15.0
"""Without a terminal, lines say this often how far the boards are."""


@dataclasses.dataclass(slots=True)
class Row:
    """How far a board is.

    Attributes:
        state: waiting, preparing, running, done, stopped or failed.
        wanted, done, failed: repeats.
        now: the repeat under way, or why the board failed.
    """

    name: str
    state: str = "waiting"
    wanted: int = 0
    done: int = 0
    failed: int = 0
    grade_x: int = 0
    now: str = ""

    def count(self, status: str, grade: str | None) -> None:
        self.done += 1
        self.failed += status != "ok"
        self.grade_x += grade == "X"


@dataclasses.dataclass(frozen=True, slots=True)
class FleetOptions:
    """Options of `jouletune fleet run` besides the suite and the inventory.

    Attributes:
        share: the cells are shared out among the boards; else each runs all of them.
        cells: a glob over cell ids; None is all.
    """

    out: Path
    share: bool = False
    cells: str | None = None
    repeats: int | None = None
    retry: bool = False
    fresh: bool = False


class Fleet:
    """A suite on the boards of an inventory.

    Args:
        console: for the table.
    """

    def __init__(self, loaded: LoadedSuite, inventory: Inventory, options: FleetOptions, console: Console) -> None:
        self._loaded = loaded
        self._inventory = inventory
        self._options = options
        self._console = console
        self.folder = FleetDir(options.out)
        self.rows = {board.name: Row(board.name) for board in inventory.boards}
        self._targets: dict[str, Ssh] = {}
        self._changed = threading.Event()
        self._stopped = False

    # -- before anything runs ----------------------------------------------------------------------

    def check(self) -> dict[str, str | None]:
        """Find what is wrong before anything is written. Returns the words of each board's problem, None if it is fit.

        Raises:
            RequestError: the suite, the folder or the inventory as a whole does not fit.
        """
        self._check_folder()
        states = each(self._inventory.boards, probe)
        if found := share_a_meter(states):
            raise RequestError(f"{self._inventory.origin}: {found[0]}")
        problems = {state.board.name: state.problem for state in states}
        if self._options.share and not any(problems.values()) and (why := unlike(states)):
            raise RequestError(f"--share: the boards are not equal: {why}; let each run all, or choose with --boards")
        return problems

    def _check_folder(self) -> None:
        known = self.folder.read()
        wanted = self._facts()
        path = self.folder.path
        if known is None:
            if path.is_dir() and any(path.iterdir()):
                raise RequestError(f"{path}: not empty and not a fleet's run; choose another --out")
            return
        if self._options.fresh:
            raise RequestError(f"{path}: --fresh is not for a fleet's run; choose another --out")
        # another share would have boards run cells that others have done
        if (
            known.suite != wanted.suite
            or known.shared != wanted.shared
            or (known.shared and known.boards != wanted.boards)
        ):
            how = "shared out" if known.shared else "with all cells on each board"
            raise RequestError(
                f"{path} holds another run (suite {known.suite}, {how}, boards {', '.join(known.boards)}); "
                "choose another --out"
            )

    def _facts(self) -> FleetFacts:
        names = tuple(board.name for board in self._inventory.boards)
        return FleetFacts(self._loaded.suite.name, names, self._options.share)

    def _cells(self) -> dict[str, frozenset[str] | str | None]:
        names = [board.name for board in self._inventory.boards]
        if not self._options.share:
            return dict.fromkeys(names, self._options.cells)
        return dict(shares(select_cells(self._loaded.suite, self._options.cells), names))

    # -- running -----------------------------------------------------------------------------------

    def run(self) -> bool:
        """Run what the boards' folders lack. Returns False when it was interrupted.

        Raises:
            RequestError: more boards than there are groups to share out.
            JouletuneError: the disk is full.
        """
        with prepared_once():
            return self._run()

    def _run(self) -> bool:
        cells = self._cells()
        known = self.folder.read()
        facts = self._facts()
        if known is not None:  # a board that joins comes last
            facts = dataclasses.replace(facts, boards=tuple(dict.fromkeys((*known.boards, *facts.boards))))
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.write(facts)
        self._targets = {board.name: target_of(board) for board in self._inventory.boards}
        for board in self._inventory.boards:
            if board.spec.power is not None:
                self._targets[board.name].revive = board.spec.power.cycle
        threads = [
            threading.Thread(target=self._run_board, args=(board, cells[board.name]), name=board.name)
            for board in self._inventory.boards
        ]
        try:
            with terminate_is_interrupt(), LiveTable(self._console, self.rows) as table:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    self._changed.wait(LINE_S)
                    self._changed.clear()
                    table.show()
                    time.sleep(DRAW_S)
        except KeyboardInterrupt:
            self._stopped = True
            for target in self._targets.values():
                target.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        return not self._stopped

    def _run_board(self, board: Board, cells: frozenset[str] | str | None) -> None:
        row = self.rows[board.name]
        options = RunOptions(
            out=self.folder.board(board.name), source=board.spec.source, device=board.spec.device,
            target=board.spec.target, cells=cells, repeats=self._options.repeats, retry=self._options.retry,
        )  # fmt: skip
        said = _LastLine(lambda line: self._tell(row, now=line))
        try:
            with opened(
                self._loaded, options, make_console(file=said, width=200), self._targets[board.name]
            ) as session:
                plan = session.plan
                self._tell(row, state="preparing", wanted=plan.wanted, done=plan.wanted - len(plan.pending))
                row.failed = 0 if options.retry else plan.failed_before
                if plan.pending:
                    with session:
                        for repeat in plan.pending:
                            self._stop_if_asked()
                            self._tell(row, state="running", now=f"{repeat.cell.cell_id} #{repeat.number}")
                            record = session.run(repeat)
                            row.count(record.status, record.grade)
                        self._stop_if_asked()
                        session.end()
            self._tell(row, state="done", now="")
        except KeyboardInterrupt:
            self._tell(row, state="stopped", now="")
        except JouletuneError as error:
            self._tell(row, state="stopped" if self._stopped else "failed", now=str(error))
        except Exception as error:  # one board must not end the others
            self._tell(row, state="failed", now=f"{type(error).__name__}: {error}")

    def _stop_if_asked(self) -> None:
        if self._stopped:
            raise KeyboardInterrupt

    def _tell(self, row: Row, **facts: object) -> None:
        for name, value in facts.items():
            setattr(row, name, value)
        self._changed.set()


class _LastLine(io.TextIOBase):
    """What a board's run prints; the last line is shown in its row."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def write(self, text: str, /) -> int:
        if line := text.strip().rpartition("\n")[2]:
            self._show(line)
        return len(text)


class LiveTable(contextlib.AbstractContextManager["LiveTable"]):
    """One live table on a terminal, lines elsewhere."""

    def __init__(self, console: Console, rows: dict[str, Row]) -> None:
        self._console = console
        self._rows = rows
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._line_s = time.monotonic()

    def __enter__(self) -> LiveTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self) -> None:
        if self._live is not None:
            self._live.update(table_of(self._rows), refresh=True)
        elif time.monotonic() - self._line_s >= LINE_S:
            self._line_s = time.monotonic()
            done, wanted = (sum(getattr(row, name) for row in self._rows.values()) for name in ("done", "wanted"))
            busy = sum(row.state in ("preparing", "running") for row in self._rows.values())
            self._console.print(f"repeats: {done}/{wanted}, {busy} boards at work", soft_wrap=True)


def table_of(rows: dict[str, Row]) -> Table:
    """How far the boards are."""
    table = Table(box=None, pad_edge=False)
    for heading in ("board", "state", "repeats", "failed", "now"):
        table.add_column(heading, no_wrap=heading != "now")
    for row in rows.values():
        cells = (row.name, row.state, f"{row.done}/{row.wanted}", str(row.failed or ""), row.now)
        table.add_row(*(Text(shown(cell)) for cell in cells))
    return table


def states_of(inventory: Inventory, *, idle_s: float) -> list[State]:
    """What is found of all boards, looked at at once."""
    return each(inventory.boards, lambda board: probe(board, idle_s=idle_s))
