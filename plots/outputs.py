"""Write the files of a report into a folder without touching files that no report wrote."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.errors import RequestError
from bench.store.durable import read_json, remove_file, write_atomic
from hardware.files import open_file, read_bytes

LIST = "report-files.json"
"""File that lists what the newest report wrote, each file with its allowed SHA-256 sums."""

_OURS = re.compile(r"report\.html|summary\.csv|figures/[\w.-]+\.(?:png|svg)|tables/[\w.-]+\.(?:md|tex)")
_OLD_PAGE = b"content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src"
"""Part of a page that a version without a list wrote. Beside such a page, files named like a report's are replaced."""

_MAX_BYTES = 100_000_000
_MAX_LIST_BYTES = 1_000_000


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a report, each as a whole, and remove those that only the report before had.

    What no report wrote, or what was changed since, is neither replaced nor removed. The list is written before the
    files and after them: it allows for both while they are replaced, so a kill in between leaves nothing foreign.

    Args:
        folder: made if it is not there.
        files: contents by their path below it.

    Raises:
        RequestError: a file that no report wrote is in the way; nothing is written.
        JouletuneError: a file cannot be written.
    """
    listed = _listed(folder, files)
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    found = {name: _sha256(folder, name) for name in files}
    for name, sha256 in found.items():
        if sha256 not in {None, wanted[name], *listed.get(name, ())}:
            raise RequestError(
                f"{folder / name}: no report wrote this file, or it was changed since; "
                "move it away or choose another --out"
            )
    stale = [name for name in listed.keys() - files.keys() if _is_one_of(folder, name, listed[name])]
    _write_list(folder, {name: {*listed.get(name, ()), wanted.get(name, "")} - {""} for name in {*files, *stale}})
    for name, content in files.items():
        if found[name] != wanted[name]:
            write_atomic(folder / name, content, root=folder)
    for name in stale:
        remove_file(folder / name, root=folder)
    _write_list(folder, {name: {sha256} for name, sha256 in wanted.items()})


def _listed(folder: Path, files: Iterable[str]) -> dict[str, set[str]]:
    """Read the allowed SHA-256 sums of each file of the former report; {} without a former report.

    Raises:
        RequestError: another file has the list's name.
    """
    path = folder / LIST
    try:
        content = read_json(path, limit=_MAX_LIST_BYTES, root=folder)
        if not all(map(_OURS.fullmatch, content)):
            raise ValueError
        return {name: {*map(str, hashes)} for name, hashes in content.items()}
    except FileNotFoundError:
        with contextlib.suppress(OSError), open_file(folder / "report.html", limit=_MAX_BYTES, root=folder) as file:
            if _OLD_PAGE in file.read(2000):
                return {name: {sha256} for name in files if (sha256 := _sha256(folder, name))}
        return {}
    except (RequestError, AttributeError, TypeError, ValueError):
        raise RequestError(f"{path}: not the list of a report's files; move it away or choose another --out") from None


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


def _write_list(folder: Path, hashes: Mapping[str, Iterable[str]]) -> None:
    content = {name: sorted(hashes[name]) for name in sorted(hashes)}
    write_atomic(folder / LIST, json.dumps(content, indent=1) + "\n", root=folder)
