"""Power lost after every system call of a small run: what the disk holds then must be enough to go on.

As SQLite tests it: the write path runs once on a real folder, each call that changes files is noted with what would
survive a power loss right after it, and from each of these states a run goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.run.runner import RunOptions, run_suite
from bench.store.record import Record
from bench.suite.load import LoadedSuite

Tree = dict[str, bytes | None]
"""Path -> content of a file, None for a folder."""


@dataclass
class Disk:
    """What of the folders below `root` a power loss would leave, and the states noted so far.

    A file keeps what it held when it was synced last, under the names that its folder had when that was synced.

    Attributes:
        states: (call, records that were finished, states of the disk that may be found: all is lost that was not
            synced, all is kept, the names are kept and half of what was written since).
    """

    root: Path
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    content: dict[int, bytes] = field(default_factory=dict)
    states: list[tuple[str, int, tuple[Tree, Tree, Tree]]] = field(default_factory=list)
    finished: int = 0

    def sync(self, descriptor: int) -> None:
        """Note what a sync brings to the disk."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        number = os.fstat(descriptor).st_ino
        if path.is_dir():
            self.names[number] = {entry.name: entry.inode() for entry in os.scandir(path)}
        elif path.exists():
            self.content[number] = path.read_bytes()

    def note(self, call: str) -> None:
        paths = sorted(self.root.rglob("*"))
        kept = {self._name(path): None if path.is_dir() else path.read_bytes() for path in paths}
        half = {self._name(path): None if path.is_dir() else self._half(path) for path in paths}
        self.states.append((call, self.finished, (self._lost(), kept, half)))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _half(self, path: Path) -> bytes:
        synced, new = self.content.get(path.stat().st_ino, b""), path.read_bytes()
        return synced + new[len(synced) : len(synced) + (len(new) - len(synced)) // 2]

    def _lost(self) -> Tree:
        found: Tree = {}
        folders = {path.stat().st_ino for path in self.root.rglob("*") if path.is_dir()}

        def walk(number: int, prefix: str) -> None:
            for name, inner in self.names.get(number, {}).items():
                is_folder = inner in self.names or inner in folders
                found[prefix + name] = None if is_folder else self.content.get(inner, b"")
                if is_folder:
                    walk(inner, f"{prefix}{name}/")

        walk(self.root.stat().st_ino, "")
        return found


def make(tree: Tree, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in tree.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def run(loaded: LoadedSuite, out: Path) -> None:
    result = run_suite(loaded, RunOptions(out=out, source="none"), Console(quiet=True))
    assert (result.finished, result.failed) == (len(loaded.suite.cells()) * 2, 0)


def lines(out: Path) -> list[bytes]:
    path = out / "cells.jsonl"
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def watched(name: str, disk: Disk, finished: list[Record]) -> Callable[..., Any]:
    """A call of the system, after which the state of the disk is noted."""
    real = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        value = real(*args, **kwargs)
        if name == "fsync":
            disk.sync(args[0])
        disk.finished = len(finished)
        disk.note(name)
        return value

    return call


def test_no_finished_record_is_lost_and_none_is_doubled(
    loaded: LoadedSuite, without_work: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    with monkeypatch.context() as patch:
        for name in ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir", "ftruncate", "close"):
            patch.setattr(os, name, watched(name, disk, without_work))
        run(loaded, root / "run")
    whole = sorted(json.loads(line)["cell_id"] for line in lines(root / "run"))
    assert len(disk.states) > 50
    seen: list[Tree] = []
    for call, finished, found in disk.states:
        for kind, state in zip(("lost", "kept", "half"), found, strict=True):
            if (again := {"finished": str(finished).encode(), **state}) in seen:
                continue
            seen.append(again)
            make(state, tmp_path / "after")
            out = tmp_path / "after" / "run"
            before = lines(out)
            assert all(line.endswith(b"\n") for line in before[:finished]), (call, kind)
            assert len(before) >= finished, (call, kind)
            run(loaded, out)
            after = lines(out)
            assert after[:finished] == before[:finished], (call, kind)
            keys = [(json.loads(line)["cell_id"], json.loads(line)["repeat"]) for line in after]
            assert len(set(keys)) == len(keys), (call, kind)
            assert sorted(key[0] for key in keys) == whole, (call, kind)
            leftover = [path.name for path in out.iterdir() if path.name.endswith(".tmp")]
            assert not leftover, (call, kind)
