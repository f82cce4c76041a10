"""Gateway: a machine with boards and meters that takes orders from a scheduler of Dask.

An order and its answer are plain dictionaries: a suite's text and ids of cells go in, records, manifest and traces come
out. What was done for an order stays in a run folder here too, so that an order that is given again is not done again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from pathlib import Path
from typing import Any

from bench.errors import JouletuneError, RequestError
from bench.fleet.certificates import library
from bench.fleet.inventory import Board, Inventory
from bench.fleet.probe import target_of
from bench.run.runner import RunOptions, opened
from bench.store.run_dir import MAX_TRACE_BYTES, RunDir
from bench.suite.load import loaded_from_text
from bench.text import console
from hardware.files import read_bytes

ANY = "board"
"""Resource of a gateway: one for each of its boards."""


def resource_of(board: str) -> str:
    """Resource that stands for one board."""
    return f"board-{board}"


class Gateway:
    """The boards of this machine, of which each takes one order at a time.

    Args:
        work: folder for the run folders.
    """

    here: Gateway | None = None
    """The one of this process, which `do` works for."""

    def __init__(self, inventory: Inventory, work: Path) -> None:
        self._work = work
        self._free = {board.name: board for board in inventory.boards}
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def _taken(self, name: str | None) -> Any:
        """A board that is free, or the one of that name."""
        with self._changed:
            while not (names := [one for one in self._free if name in (None, one)]):
                self._changed.wait()
            board = self._free.pop(names[0])
        try:
            yield board
        finally:
            with self._changed:
                self._free[board.name] = board
                self._changed.notify_all()

    def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Run the cells of an order. Returns the answer; `error` in it where the board could not."""
        with self._taken(order["board"]) as board:
            try:
                return self._run(board, order)
            except JouletuneError as error:
                return {"board": board.name, "error": str(error)}

    def _run(self, board: Board, order: dict[str, Any]) -> dict[str, Any]:
        loaded = loaded_from_text(str(order["text"]), str(order["origin"]), Path.cwd())
        cells = frozenset(map(str, order["cells"]))
        folder = RunDir(self._work / str(order["fleet"]) / board.name)
        options = RunOptions(
            out=folder.path, source=board.spec.source, device=board.spec.device, target=board.spec.target,
            cells=cells, repeats=order["repeats"], retry=bool(order["retry"]),
        )  # fmt: skip
        with (
            Path("/dev/null").open("w") as nowhere,
            opened(loaded, options, console(file=nowhere), target_of(board)) as session,
        ):
            if session.plan.pending:
                with session:
                    for repeat in session.plan.pending:
                        session.run(repeat)
                    session.end()
        newest = {(line["cell_id"], line["repeat"]): line for line in folder.records([]) if line["cell_id"] in cells}
        manifest = folder.read_manifest()
        assert manifest is not None
        traces = [one["trace"] for one in newest.values() if one.get("trace")]
        traces += [name for one in manifest.sessions for name in one.traces]
        return {
            "board": board.name,
            "records": list(newest.values()),
            "manifest": manifest.to_dict(),
            "traces": {name: _packed(folder, name) for name in traces},
        }


def _packed(folder: RunDir, name: str) -> str:
    content = read_bytes(folder.traces_dir / name, limit=MAX_TRACE_BYTES, root=folder.path)
    return base64.b64encode(content).decode()


def do(order: dict[str, Any]) -> dict[str, Any]:
    """What a gateway's process is asked to call."""
    if Gateway.here is None:
        raise RequestError("this worker of Dask is no gateway; `jouletune fleet gateway` starts one")
    return Gateway.here.do(order)


def serve(address: str, security: Any, inventory: Inventory, work: Path) -> None:
    """Take orders until the scheduler goes away.

    Raises:
        JouletuneError: the scheduler is not reached.
    """
    distributed = library()
    Gateway.here = Gateway(inventory, work)
    names = [board.name for board in inventory.boards]
    resources = {ANY: len(names), **{resource_of(name): 1 for name in names}}

    async def work_for() -> None:
        worker = distributed.Worker(
            address, nthreads=len(names), resources=resources, security=security, dashboard=False, memory_limit=0,
            name=f"gateway of {', '.join(names)}", protocol=address.partition(":")[0],
        )  # fmt: skip
        async with worker:
            await worker.finished()

    try:
        asyncio.run(work_for())
    except (TimeoutError, OSError) as error:
        raise JouletuneError(f"{address}: the scheduler is not reached ({error})") from None
