"""Scheduler: a fleet's run whose boards hang on other machines, the gateways, spread over them by Dask."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from rich.console import Console

from bench.errors import JouletuneError, RequestError
from bench.fleet.certificates import library, security
from bench.fleet.gateway import ANY, do, resource_of
from bench.fleet.run import FleetOptions, LiveTable, Row
from bench.run.plan import make_plan
from bench.run.session import terminate_is_interrupt
from bench.store.durable import write_atomic
from bench.store.fleet_dir import NAME, FleetDir, FleetFacts
from bench.store.manifest import Manifest
from bench.store.run_dir import RunDir
from bench.suite.load import LoadedSuite

CONNECT_S = 20.0


class Scheduled:
    """A suite on the boards of all gateways of a scheduler.

    Args:
        address: of the scheduler.
        certificates: folder of the certificates; None on this machine alone.

    Raises:
        RequestError: the address would be spoken with in plain text beyond this machine, or certificates are missing.
    """

    def __init__(
        self, loaded: LoadedSuite, options: FleetOptions, console: Console, address: str, certificates: Path | None
    ) -> None:
        self._loaded = loaded
        self._options = options
        self._console = console
        self._address = address
        self._security = security(address, certificates)
        self.folder = FleetDir(options.out)
        self.rows: dict[str, Row] = {}

    def run(self) -> bool:
        """Let the gateways run what the folder lacks. Returns False when it was interrupted.

        Raises:
            RequestError: no scheduler or no board is there, or the folder holds another run.
            JouletuneError: the disk is full.
        """
        distributed = library()
        try:
            client = distributed.Client(self._address, security=self._security, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise RequestError(f"--scheduler {self._address}: not reached ({error})") from None
        with client:
            boards = _boards(client)
            if not boards:
                raise RequestError(f"--scheduler {self._address}: has no boards; `jouletune fleet gateway` adds some")
            facts = self._claimed(boards)
            self.rows = {name: Row(name, "waiting") for name in facts.boards}
            futures = [
                client.submit(do, order, key=f"jouletune-{_hash(order)}", pure=False, resources=need, retries=0)
                for order, need in self._orders(boards)
            ]
            try:
                with terminate_is_interrupt(), LiveTable(self._console, self.rows) as table:
                    for future in distributed.as_completed(futures, loop=client.loop):
                        self._take(future)
                        table.show()
            except KeyboardInterrupt:
                client.cancel(futures, force=True)
                return False
        for row in self.rows.values():
            row.state = "done" if row.state in ("waiting", "running") else row.state
        return True

    def _claimed(self, boards: list[str]) -> FleetFacts:
        """Make the folder that of this run, or check that it is."""
        known = self.folder.read()
        suite = self._loaded.suite.name
        if known is None and self.folder.path.is_dir() and any(self.folder.path.iterdir()):
            raise RequestError(f"{self.folder.path}: not empty and not a fleet's run; choose another --out")
        if known is not None and (known.suite, known.shared) != (suite, self._options.share):
            raise RequestError(f"{self.folder.path} holds another run (suite {known.suite}); choose another --out")
        names = (*(known.boards if known else ()), *boards)
        facts = FleetFacts(suite, tuple(dict.fromkeys(names)), self._options.share)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.write(facts)
        return facts

    def _orders(self, boards: list[str]) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
        """What is to be done, group by group, and the resource that it needs."""
        if self._options.share:
            lines = [line for name in self.rows for line in self._lines(name)]
            yield from ((order, {ANY: 1}) for order in self._lacking(lines, None))
        else:
            for name in boards:
                for order in self._lacking(self._lines(name), name):
                    yield order, {resource_of(name): 1}

    def _lines(self, board: str) -> list[dict[str, Any]]:
        run = RunDir(self.folder.board(board))
        return run.records([]) if run.cells_path.is_file() else []

    def _lacking(self, lines: list[dict[str, Any]], board: str | None) -> Iterator[dict[str, Any]]:
        options = self._options
        plan = make_plan(self._loaded.suite, lines, cells=options.cells, repeats=options.repeats, retry=options.retry)
        groups: dict[tuple[str, int], set[str]] = {}
        for repeat in plan.pending:
            groups.setdefault((repeat.cell.group, repeat.cell.seed), set()).add(repeat.cell.cell_id)
        for row in [self.rows[board]] if board else self.rows.values():
            row.wanted = plan.wanted if board else 0
            row.done = len(self._lines(row.name))
        for ids in groups.values():
            yield {
                "text": self._loaded.text, "origin": self._loaded.origin, "cells": sorted(ids), "board": board,
                "repeats": options.repeats, "retry": options.retry, "fleet": self._id(),
            }  # fmt: skip

    def _id(self) -> str:
        """Name of this run on the gateways: the same for the same folder and suite."""
        return _hash([str(self.folder.path.resolve()), self._loaded.suite.digest()])[:16]

    def _take(self, future: Any) -> None:
        """Write what came of an order."""
        error = future.exception()
        if error is not None:  # e.g. its gateways died, one after the other
            self.rows.setdefault("-", Row("-", "failed")).now = f"{type(error).__name__}: {error}"
            return
        answer = future.result()
        name = str(answer.get("board"))
        if not NAME.fullmatch(name):
            raise JouletuneError("a gateway named a board that is none")
        row = self.rows.setdefault(name, Row(name))
        if "error" in answer:
            row.state, row.now = "failed", str(answer["error"])
            return
        row.state = "running"
        run = RunDir(self.folder.board(name))
        with run.locked():
            run.repair()
            known = {(line["cell_id"], line["repeat"], line["started_at"]) for line in self._lines(name)}
            for trace, content in answer["traces"].items():
                if Path(trace).name != trace:
                    raise JouletuneError(f"{name}: a trace whose name is a path")
                write_atomic(run.traces_dir / trace, base64.b64decode(content, validate=True), root=run.path)
            manifest = Manifest.of(answer["manifest"], [])
            for session in manifest.sessions:
                session.records = None  # of the gateway's file, which has other lines
            run.write_manifest(manifest)
            for line in answer["records"]:
                if (line["cell_id"], line["repeat"], line["started_at"]) not in known:
                    run.append_line(line)
                    row.count(line["status"], line.get("grade"))


def _boards(client: Any) -> list[str]:
    """Names of the boards of all gateways, each once.

    Raises:
        RequestError: two gateways have a board of one name.
    """
    names: list[str] = []
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        names += [one.removeprefix(resource_of("")) for one in worker["resources"] if one.startswith(resource_of(""))]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"two gateways have a board that is called {name}; each board is named once")
    return sorted(names)


def _hash(content: object) -> str:
    return hashlib.sha256(to_json(content)).hexdigest()
