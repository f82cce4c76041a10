"""Find the run folders under given folders, and name what lies there that is none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import RequestError
from bench.store.durable import printable
from bench.store.run_dir import RunDir

MAX_DEPTH = 4
"""Folders between a given one and a run: results/2026/03/04/quickstart."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run or folder that is not in the history.

    Attributes:
        name: of the folder, as it is shown.
        reason: one sentence without its full stop.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that has the files of a run.

    Attributes:
        path: the folder.
        home: the folder that holds the runs, where the index lies.
        name: its place under `home`, with the name of `home` where there are several.
    """

    path: Path
    home: Path
    name: str


def find_folders(given: Sequence[Path | str]) -> tuple[list[Folder], list[LeftOut]]:
    """Find run folders among and under the given ones, each once; links inside of them are not followed.

    Raises:
        RequestError: a given folder is not there, cannot be read, or holds no run.
    """
    homes: dict[Path, Path] = {}
    left_out: list[LeftOut] = []
    for place in map(Path, given):
        if not place.is_dir():
            what = "is a file" if place.exists() else "does not exist"
            raise RequestError(f"{place}: {what}; expected a run folder, or a folder of run folders")
        home = place.resolve()
        if _claims(home):
            homes.setdefault(home, home.parent)
            continue
        try:
            found, foreign = _under(home, MAX_DEPTH)
        except OSError as error:
            raise RequestError(f"{place}: cannot be read ({error.strerror})") from None
        if not found:
            raise RequestError(f"{place}: holds no run; expected a run folder, or a folder of run folders")
        for path in found:
            homes.setdefault(path, home)
        left_out += [LeftOut(_name(path, home, several=False), reason) for path, reason in foreign]
    several = len(set(homes.values())) > 1
    return [Folder(path, home, _name(path, home, several)) for path, home in homes.items()], left_out


def _name(path: Path, home: Path, several: bool) -> str:
    name = path.relative_to(home).as_posix()
    return str(printable(f"{home.name}/{name}" if several else name))


def _claims(path: Path) -> bool:
    run = RunDir(path)
    # os.path: False, not an error, in a folder that may not be entered
    return os.path.isfile(run.cells_path) or os.path.isfile(run.manifest_path)  # noqa: PTH113


def _under(folder: Path, depth: int) -> tuple[list[Path], list[tuple[Path, str]]]:
    runs: list[Path] = []
    foreign: list[tuple[Path, str]] = []
    with os.scandir(folder) as entries:
        inner = sorted((Path(entry.path), entry.is_symlink()) for entry in entries if _is_dir(entry))
    for path, is_link in inner:
        if path.name.startswith("."):
            continue
        if is_link:
            foreign.append((path, "a link, not followed; what it points to may be counted already"))
        elif _claims(path):
            runs.append(path)
        else:
            deeper, beside = ([], []) if depth == 1 else _try(path, depth - 1)
            runs += deeper
            foreign += beside if deeper else [(path, "not a run folder: it has neither manifest.json nor cells.jsonl")]
    return runs, foreign


def _try(path: Path, depth: int) -> tuple[list[Path], list[tuple[Path, str]]]:
    try:
        return _under(path, depth)
    except OSError:
        return [], []


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
