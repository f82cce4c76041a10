"""The plan of a run: which repeats there are, which are still to do, and in which order."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import RequestError, nearest
from bench.suite.cell import Cell
from bench.suite.suite import Suite


@dataclass(frozen=True, slots=True)
class Repeat:
    """One execution of a cell, to be done in a process of its own."""

    cell: Cell
    number: int

    @property
    def file_name(self) -> str:
        """Of its trace, without the ending."""
        return f"{self.cell.cell_id.replace('/', '_')}_r{self.number}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command has to do.

    Attributes:
        wanted: how many repeats the command asks for, finished ones included.
        pending: those not yet finished, in the order they run.
        failed_before: finished ones that failed or timed out, which are not run again unless asked to.
    """

    wanted: int
    pending: tuple[Repeat, ...]
    failed_before: int


def make_plan(
    suite: Suite,
    records: Iterable[Mapping[str, Any]],
    *,
    cells: str | Collection[str] | None,
    repeats: int | None,
    retry: bool,
) -> Plan:
    """Lay out the repeats that are asked for and strike out those that have a record.

    Repeats are interleaved in random blocks: the n-th repeat of every cell, shuffled, before the (n+1)-th of any, so
    that a drift (heat, a filling disk) meets all cells alike and not one block set. The order depends on the suite
    alone, so a resumed run goes on in the order it began.

    Args:
        cells: a glob over cell ids, as `digits-*/fc/*`, or the ids themselves; None is all.
        repeats: at most so many of each cell; None is what the suite says.
        retry: do again what failed, timed out, or has joules of grade X.

    Raises:
        RequestError: the glob matches no cell.
    """
    chosen = select_cells(suite, cells)
    known = {(record["cell_id"], record["repeat"]): record for record in records}
    count = min(repeats or suite.energy.repeats, suite.energy.repeats)
    pending: list[Repeat] = []
    failed = 0
    for number in range(count):
        for cell in block_order(suite, chosen, number):
            was = known.get((cell.cell_id, number))
            failed += was is not None and was["status"] != "ok"
            if was is None or (retry and (was["status"] != "ok" or was.get("grade") == "X")):
                pending.append(Repeat(cell, number))
    return Plan(count * len(chosen), tuple(pending), failed)


def block_order(suite: Suite, chosen: Iterable[Cell], number: int) -> list[Cell]:
    """The order in which the cells have their repeat of that number."""
    block = list(chosen)
    random.Random(f"{suite.digest()}/{number}").shuffle(block)
    return block


def select_cells(suite: Suite, cells: str | Collection[str] | None, option: str = "--cells") -> list[Cell]:
    """Choose the cells whose id matches a glob, or is among the ids given; all for None.

    Args:
        option: what the error names as the place of the glob.

    Raises:
        RequestError: no cell matches the glob.
    """
    every = suite.cells()
    if cells is None:
        return every
    if not isinstance(cells, str):
        return [cell for cell in every if cell.cell_id in cells]
    chosen = [cell for cell in every if fnmatch.fnmatchcase(cell.cell_id, cells)]
    if not chosen:
        ids = [cell.cell_id for cell in every]
        raise RequestError(
            f"{option} {cells!r} matches none of the suite's {len(ids)} cells; {nearest(cells, ids, limit=3)}"
        )
    return chosen
