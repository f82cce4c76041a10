"""FleetDir: the folder of a fleet's run, with a run folder for each board."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import RequestError
from bench.store.durable import read_json, write_atomic
from bench.store.run_dir import RunDir

SCHEMA = 1
MAX_BYTES = 1_000_000
MAX_DEPTH = 3
"""Folders between a given one and a fleet's run: nights/2026/03/quickstart."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """What a fleet's run is.

    Attributes:
        suite: its name.
        boards: their names, in the inventory's order.
        shared: the cells are shared out among the boards; else each board runs all of them.
    """

    suite: str
    boards: tuple[str, ...]
    shared: bool


class FleetDir:
    """The files of a fleet's run.

    Attributes:
        path: the folder itself.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.facts_path = self.path / "fleet.json"

    @property
    def is_one(self) -> bool:
        return self.facts_path.is_file()

    def board(self, name: str) -> Path:
        """The run folder of a board."""
        return self.path / "boards" / name

    def write(self, facts: FleetFacts) -> None:
        """Note what the run is.

        Raises:
            JouletuneError: the disk is full.
        """
        content = {"schema": SCHEMA, "suite": facts.suite, "boards": list(facts.boards), "shared": facts.shared}
        write_atomic(self.facts_path, json.dumps(content, indent=1) + "\n", root=self.path)

    def read(self) -> FleetFacts | None:
        """What the run is; None where there is none.

        Raises:
            RequestError: the file is damaged.
        """
        if not self.is_one:
            return None
        content = read_json(self.facts_path, limit=MAX_BYTES, root=self.path)
        try:
            boards = tuple(map(str, content["boards"]))
            facts = FleetFacts(str(content["suite"]), boards, content["shared"] is True)
        except (KeyError, TypeError):
            raise RequestError(f"{self.facts_path}: not the facts of a fleet's run") from None
        if not all(NAME.fullmatch(name) for name in boards) or len({*boards}) < len(boards):
            raise RequestError(f"{self.facts_path}: a board's name is none")
        return facts

    def runs(self) -> list[RunDir]:
        """The boards' run folders that hold records, in order.

        Raises:
            RequestError: there is none.
        """
        facts = self.read()
        found = [RunDir(self.board(name)) for name in facts.boards] if facts else []
        there = [run for run in found if run.cells_path.is_file()]
        if not there:
            raise RequestError(f"{self.path}: no board has a finished repeat yet; `jouletune fleet run` adds them")
        return there


def with_boards(paths: Sequence[Path | str]) -> list[Path | str]:
    """The paths, with the run folders of its boards in place of each that is a fleet's.

    Raises:
        RequestError: a fleet's run has no board with records.
    """
    found: list[Path | str] = []
    for path in paths:
        fleet = FleetDir(path)
        found += [run.path for run in fleet.runs()] if fleet.is_one else [path]
    return found


def boards_below(paths: Sequence[Path | str]) -> list[str]:
    """Names of the boards of the fleets that lie at or below the paths; [] where there is none.

    Raises:
        RequestError: the facts of a fleet are damaged.
    """
    names: dict[str, None] = {}
    for path in paths:
        for depth in range(MAX_DEPTH + 1):
            for facts_path in sorted(Path(path).glob("*/" * depth + "fleet.json")):
                facts = FleetDir(facts_path.parent).read()
                names |= dict.fromkeys(facts.boards if facts else ())
    return list(names)
