"""Index: summaries of runs in one file beside them, so that a new night does not cost the reading of a year.

A cache: every line of it can be made again from its run. The first line says what the file is. Each other line is a
JSON object, a tab and a keyed hash of the object (HMAC-SHA-256) in hexadecimal; of a run that has several, the last
counts. The key is the user's own, in the cache folder: lines that another user wrote are not believed, their runs are
read.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench import __version__
from bench.errors import JouletuneError, RequestError
from bench.history.summary import Summary
from bench.store.cache_dir import cache_dir
from bench.store.durable import append_line, cut_torn_line, write_atomic
from bench.store.run_dir import MAX_CELLS_BYTES, MAX_MANIFEST_BYTES, RunDir
from hardware.files import open_file, read_bytes

INDEX_SCHEMA = 3
NAME = "history-index.jsonl"
MAX_BYTES = 1_000_000_000
"""A year of nights of 100 conditions takes some 10 MB."""


_HEADER = {"jouletune_history_index": INDEX_SCHEMA, "jouletune": __version__}
_SPARE_LINES = 50
"""Lines that no longer count, above as many as do, before the file is written anew."""

_KEY_BYTES = 32


@functools.cache
def _key() -> bytes:
    """The user's key, made with the first index; of this process only where there is no folder to keep it in."""
    with contextlib.suppress(OSError, RequestError):
        path = cache_dir() / "history-index.key"
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
        key = read_bytes(path, limit=_KEY_BYTES, root=path.parent)
        if len(key) == _KEY_BYTES:
            return key
    return secrets.token_bytes(_KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What must stay for a summary to hold: hash of the manifest, and hash, size and time of change of cells.jsonl."""

    manifest_sha256: str
    cells_sha256: str
    cells_size: int
    cells_mtime_ns: int

    @classmethod
    def of(cls, run: RunDir) -> Stamp | None:
        """Of a run as it lies there now; None where a file is missing or cannot be read."""
        try:
            manifest = read_bytes(run.manifest_path, limit=MAX_MANIFEST_BYTES, root=run.path)
            with open_file(run.cells_path, limit=MAX_CELLS_BYTES, root=run.path) as cells:
                facts, digest = os.fstat(cells.fileno()), hashlib.sha256()
                while part := cells.read(1 << 20):
                    digest.update(part)
        except OSError:
            return None
        return cls(hashlib.sha256(manifest).hexdigest(), digest.hexdigest(), facts.st_size, facts.st_mtime_ns)


@dataclass(slots=True)
class Index:
    """The index file and its entries.

    Attributes:
        path: of the file.
        notes: what a user should know of it, in sentences.
    """

    path: Path
    chosen: bool
    notes: list[str] = field(default_factory=list)
    _entries: dict[str, tuple[Stamp, Summary]] = field(default_factory=dict)
    _lines: int = 0
    _usable: bool = False
    _writable: bool = True

    @classmethod
    def open(cls, path: Path, *, chosen: bool) -> Index:
        """Read the index; one that is stale, foreign or damaged is made anew with the next summary.

        Args:
            path: of the file; need not be there.
            chosen: whether the user named it. A foreign file that a user named is not overwritten.

        Raises:
            RequestError: the user named a file that is no index, or a folder.
        """
        index = cls(path, chosen)
        if path.is_dir():
            raise RequestError(f"--index {path}: is a folder; expected a file")
        try:
            content = index._read()
        except FileNotFoundError:
            return index
        except OSError as error:
            index.notes.append(f"{path} cannot be read ({error.strerror}), so every run was read.")
            index._writable = False
            return index
        index._take(content)
        return index

    def _read(self) -> bytes:
        return read_bytes(self.path, limit=MAX_BYTES, root=None if self.chosen else self.path.parent)

    def _take(self, content: bytes) -> None:
        first, _, rest = content.partition(b"\n")
        header = _loads(first)
        if "jouletune_history_index" not in header:
            if self.chosen and content:
                raise RequestError(f"--index {self.path}: is not an index of jouletune; choose another file")
            self.notes.append(f"{self.path} was no index and is made anew.")
            return
        if header != _HEADER:
            made_by = header.get("jouletune")
            self.notes.append(f"{self.path} was made by another version of jouletune ({made_by}) and is made anew.")
            return
        self._usable = True
        damaged = 0
        *lines, tail = rest.split(b"\n")
        for line in lines:
            self._lines += 1
            try:
                name, stamp, summary = _parse(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                damaged += 1
                continue
            self._entries[name] = stamp, summary
        if damaged or tail:
            n = damaged + bool(tail)
            were = "1 line of it was" if n == 1 else f"{n} lines of it were"
            self.notes.append(f"{self.path}: {were} damaged or cut off, or another user's; its runs were read again.")
            self._usable = False  # made anew, without them

    def get(self, name: str, stamp: Stamp | None) -> Summary | None:
        """The summary of a run, None where there is none or the run has changed."""
        known = self._entries.get(name)
        return known[1] if known is not None and known[0] == stamp else None

    def lacks(self, name: str, stamp: Stamp | None) -> str:
        """Say why there is no summary of a run as it is now; '' where there is one."""
        if not self.path.exists():
            return f"no {self.path.name} beside the run; `jouletune history` writes one"
        if name not in self._entries:
            return f"{self.path.name} beside the run does not name it; `jouletune history` adds it"
        if self.get(name, stamp) is None:
            return f"{self.path.name} beside the run was written before the run changed; `jouletune history` renews it"
        return ""

    def add(self, name: str, stamp: Stamp, summary: Summary) -> None:
        """Add a summary and wait until it is on the disk; where nothing can be written it stays in memory."""
        self._entries[name] = stamp, summary
        self._lines += 1
        if not self._writable:
            return
        try:
            with self._locked():
                if self._usable and self.path.exists():
                    cut_torn_line(self.path, root=self.path.parent)
                    append_line(self.path, _line(name, stamp, summary), root=self.path.parent)
                else:
                    self._write_all()
        except (OSError, JouletuneError) as error:
            self._writable = False
            why = error.strerror if isinstance(error, OSError) else str(error)
            self.notes.append(f"{self.path} cannot be written ({why}); --index FILE puts it elsewhere.")

    def tidy(self) -> None:
        """Write the file anew where it is damaged, or most of its lines no longer count."""
        stale = self._lines > 2 * len(self._entries) + _SPARE_LINES
        if not self._writable or not self._entries or (self._usable and not stale):
            return
        with contextlib.suppress(OSError, JouletuneError), self._locked():
            self._write_all()

    def _write_all(self) -> None:
        """Write the whole file, with what another process has added meanwhile. Call it with the lock held."""
        newest = Index(self.path, chosen=False)
        with contextlib.suppress(FileNotFoundError):
            newest._take(newest._read())
        entries = newest._entries | self._entries
        lines = [json.dumps(_HEADER).encode() + b"\n"]
        lines += [_line(name, stamp, summary) for name, (stamp, summary) in entries.items()]
        write_atomic(self.path, b"".join(lines), root=self.path.parent)
        self._usable, self._lines = True, len(entries)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time. The kernel releases the lock with the process."""
        name = self.path.with_name(f".{self.path.name}.lock")
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _line(name: str, stamp: Stamp, summary: Summary) -> bytes:
    kept = {spec.name: getattr(summary, spec.name) for spec in fields(summary)}
    body = json.dumps({"run": name, **asdict(stamp), "summary": kept}, separators=(",", ":")).encode()
    return b"%s\t%s\n" % (body, _mac(body))


def _mac(body: bytes) -> bytes:
    return hmac.digest(_key(), body, "sha256").hex().encode()


def _parse(line: bytes) -> tuple[str, Stamp, Summary]:
    body, _, mac = line.rpartition(b"\t")
    if not hmac.compare_digest(_mac(body), mac):
        raise ValueError("it is damaged, or not of this user")
    found = _LINE.validate_json(body, strict=True)
    found.summary.check()
    return found.run, Stamp(**{spec.name: getattr(found, spec.name) for spec in fields(Stamp)}), found.summary


@dataclass(frozen=True, slots=True)
class _Line(Stamp):
    """A line of the file, without its keyed hash."""

    run: str
    summary: Summary


_LINE = TypeAdapter(_Line)


def _loads(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
