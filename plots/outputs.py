"""Write the files of a report, a comparison or a history into a folder without touching files of others."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bench.errors import JouletuneError, RequestError
from bench.store.durable import read_json, remove_file, write_atomic
from hardware.files import open_file, read_bytes

LIST = "report-files.json"
"""File that lists what the newest report wrote, each file with its allowed SHA-256 sums."""

_OURS = {
    "report": re.compile(
        r"report\.html|summary\.csv|figures/[\w.-]+\.(?:png|svg)|tables/[\w.-]+\.(?:md|tex)"
        r"|paper/[\w.-]+\.(?:pdf|tex|bib)"
    ),
    "compare": re.compile(r"compare\.(?:csv|md)|[\w.-]+\.(?:png|svg)"),
    "history": re.compile(r"history\.(?:csv|md|html)"),
}
"""Names of the files of each command that writes some."""

_OLD_PAGE = b"content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src"
"""Part of a page that a version without a list wrote. Beside such a page, files named like a report's are replaced."""

_MAX_BYTES = 100_000_000
_MAX_LIST_BYTES = 1_000_000


def check_folder(folder: Path) -> None:
    """Check, before a command works for what it will write there, that a folder is one or can be made.

    Raises:
        RequestError: a file has its name, or nothing may be written there.
    """
    there = next((one for one in (folder, *folder.parents) if os.path.lexists(one)), folder)
    if not there.is_dir():
        raise RequestError(f"--out {folder}: {there} is not a folder; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RequestError(f"--out {folder}: cannot write in {there}; choose another --out")


def write_files(folder: Path, files: Mapping[str, bytes], command: str = "report") -> None:
    """Write the files of a command, each as a whole; of a report, remove those that only the one before had.

    What the command did not write, or what was changed since, is neither replaced nor removed. The list is written
    before the files and after them: it allows for both while they are replaced, so a kill in between leaves nothing
    foreign.

    Args:
        folder: made if it is not there.
        files: contents by their path below it.
        command: a key of `_OURS`.

    Raises:
        RequestError: a file that the command did not write is in the way; nothing is written.
        JouletuneError: a file cannot be written.
    """
    path = folder / LIST.replace("report", command)
    listed = _listed(path, files, command)
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    found = {name: _sha256(folder, name) for name in files}
    for name, sha256 in found.items():
        if sha256 not in {None, wanted[name], *listed.get(name, ())}:
            raise RequestError(
                f"{folder / name}: no {command} wrote this file, or it was changed since; "
                "move it away or choose another --out"
            )
    others = {name: hashes for name, hashes in listed.items() if name not in files}
    stale = [name for name in others if command == "report" and _is_one_of(folder, name, others[name])]
    new = [name for name in files if found[name] is None]
    made = [one for one in _folders(folder, files) if not os.path.lexists(one)]
    with _taken_back(folder, [] if listed else [*new, path.name], made):
        _write_list(path, others | {name: {*listed.get(name, ()), sha256} for name, sha256 in wanted.items()})
        for name, content in files.items():
            if found[name] != wanted[name]:
                write_atomic(folder / name, content, root=folder)
    for name in stale:
        remove_file(folder / name, root=folder)
    kept = {} if command == "report" else others
    _write_list(path, kept | {name: {sha256} for name, sha256 in wanted.items()})


@contextlib.contextmanager
def _taken_back(folder: Path, names: list[str], made: list[Path]) -> Iterator[None]:
    """Remove these files and folders, which are not there yet, where the writing of them fails."""
    try:
        yield
    except JouletuneError:
        for name in names:
            with contextlib.suppress(JouletuneError):
                remove_file(folder / name, root=folder)
        for one in made:
            with contextlib.suppress(OSError):  # it was never made, or holds what others wrote meanwhile
                one.rmdir()
        raise


def _folders(folder: Path, names: Iterable[str]) -> list[Path]:
    """Folders that the files lie in, and those above, the deepest first."""
    below = {one for name in names for one in (folder / name).parents}
    return sorted(below, key=lambda one: -len(one.parts))


def _listed(path: Path, files: Mapping[str, bytes], command: str) -> dict[str, set[str]]:
    """Read the allowed SHA-256 sums of each file of the former call; {} without one.

    Raises:
        RequestError: another file has the list's name.
    """
    folder = path.parent
    try:
        content = read_json(path, limit=_MAX_LIST_BYTES, root=folder)
        if not all(map(_OURS[command].fullmatch, content)):
            raise ValueError
        return {name: {*map(str, hashes)} for name, hashes in content.items()}
    except FileNotFoundError:
        if _is_of_former_version(folder, files, command):
            return {name: {sha256} for name in files if (sha256 := _sha256(folder, name))}
        return {}
    except (RequestError, AttributeError, TypeError, ValueError):
        raise RequestError(
            f"{path}: not the list of a {command}'s files; move it away or choose another --out"
        ) from None


def _is_of_former_version(folder: Path, files: Mapping[str, bytes], command: str) -> bool:
    """Whether a version that kept no list wrote the files: its page, or the first line of its table, is known."""
    for name in ("report.html", "history.html", "compare.csv", "history.csv"):
        if name in files and name.startswith(command):
            with contextlib.suppress(OSError), open_file(folder / name, limit=_MAX_BYTES, root=folder) as file:
                head = file.read(2000)
                known = files[name].partition(b"\n")[0] + b"\n" if name.endswith(".csv") else _OLD_PAGE
                if head.startswith(known) if name.endswith(".csv") else known in head:
                    return True
    return False


def _sha256(folder: Path, name: str) -> str | None:
    """Hash a file; None if it does not exist.

    Raises:
        RequestError: it is no regular file, or cannot be read.
    """
    try:
        return hashlib.sha256(read_bytes(folder / name, limit=_MAX_BYTES, root=folder)).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RequestError(
            f"{folder / name}: cannot write ({error.strerror}); move it away or choose another --out"
        ) from None


def _is_one_of(folder: Path, name: str, hashes: set[str]) -> bool:
    try:
        return _sha256(folder, name) in hashes
    except RequestError:
        return False


def _write_list(path: Path, hashes: Mapping[str, Iterable[str]]) -> None:
    content = {name: sorted(hashes[name]) for name in sorted(hashes)}
    write_atomic(path, json.dumps(content, indent=1) + "\n", root=path.parent)
