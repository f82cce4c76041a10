"""RunDir: the files of a run, their places, and their one reader and writer."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from bench.errors import JouletuneError, RequestError, RunFolderBusyError
from bench.store.durable import append_line, cut_torn_line, open_append, read_json, write_atomic
from bench.store.manifest import Manifest, RecordsEnd
from bench.store.record import Record, fault, foreign
from hardware.files import make_folder, open_file, read_bytes

MIN_FREE_BYTES = 1_000_000
MAX_MANIFEST_BYTES = 8_000_000
"""A week of idle baselines takes some 200 kB."""
MAX_TRACE_BYTES = 100_000_000
MAX_MODEL_BYTES = 4_000_000_000
MAX_CELLS_BYTES = 1_000_000_000
MAX_LINE_BYTES = 1_000_000
MAX_LINES = 1_000_000
"""A record takes 2 to 3 kB."""


class RunDir:
    """The files of one run.

    Attributes:
        path: the folder itself, results/RUN.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest_path = self.path / "manifest.json"
        self.cells_path = self.path / "cells.jsonl"
        self.traces_dir = self.path / "traces"
        self.models_dir = self.path / "models"
        self.summary_path = self.path / "summary.csv"
        self.figures_dir = self.path / "figures"
        self.tables_dir = self.path / "tables"
        self.report_path = self.path / "report.html"
        self.log_path = self.path / "worker.log"
        self._lock_path = self.path / ".lock"
        self._made: list[Path] = []

    @classmethod
    def existing(cls, path: Path | str) -> RunDir:
        """Open a folder that holds a run.

        Raises:
            RequestError: the folder holds none.
        """
        run = cls(path)
        if not run.cells_path.is_file():
            raise RequestError(
                f"{path}: not a run folder (it has no cells.jsonl); expected a folder that `jouletune run` made"
            )
        return run

    def is_blank(self) -> bool:
        """Whether the folder holds nothing but what a run killed before its first line leaves."""
        ours = {self._lock_path.name, self.log_path.name, self.traces_dir.name, self.models_dir.name}
        return all(entry.name in ours or entry.name.endswith(".tmp") for entry in self.path.iterdir())

    def check_usable(self) -> None:
        """Refuse a path that cannot become a run folder, before anything is written.

        Raises:
            RequestError: a file is in the way, or the disk has no room for even a small run.
        """
        try:
            parent = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
            if not parent.is_dir():
                raise RequestError(f"{self.path}: {parent} is a file; --out must be a folder")
            usage = shutil.disk_usage(parent)
        except OSError as error:
            raise RequestError(
                f"{self.path}: cannot be a run folder ({error.strerror}); choose another --out"
            ) from None
        if usage.total and usage.free < MIN_FREE_BYTES:
            raise RequestError(f"{parent}: the disk is full; free some space or choose another --out")

    def remove_if_blank(self) -> None:
        """Remove the folders that this process made, if no run was begun in them. Call it with the lock held."""
        if self._made and self.is_blank():
            shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):  # one that holds anything else by now stays
                for parent in self._made[1:]:
                    parent.rmdir()

    # -- one run at a time -------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder. The kernel releases the lock with the process, so a kill leaves none behind.

        Raises:
            RunFolderBusyError: another process holds it.
            RequestError: the folder cannot be made or written to.
        """
        try:
            self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            make_folder(self.path)
            lock_file = open_append(self._lock_path, root=self.path)
        except OSError as error:
            raise RequestError(f"{self.path}: cannot write there ({error.strerror}); choose another --out") from None
        with lock_file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read(20).decode("ascii", "replace").strip() or "unknown"
                raise RunFolderBusyError(
                    f"{self.path}: another run (process {owner}) is writing here; wait for it or choose another --out"
                ) from None
            except OSError as error:
                raise RequestError(
                    f"{self.path}: its file system locks no files ({error.strerror}), so that two runs could write "
                    "there at once; choose another --out"
                ) from None
            if not self._lock_path.exists() or self._lock_path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                # whoever held it took the folder back in between: what we hold is the lock of nothing
                raise RunFolderBusyError(f"{self.path}: another run has just ended here; run the same command again")
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
            yield

    # -- manifest ----------------------------------------------------------------------------------

    def read_manifest(self, damage: list[str] | None = None) -> Manifest | None:
        """Read the manifest; None where there is none yet.

        Args:
            damage: where given, what is wrong with a part of it is added here, and the part is missing.

        Raises:
            RequestError: it is there and cannot be read; without `damage`, also where a part of it is wrong.
        """
        wrong: list[str] = [] if damage is None else damage
        try:
            manifest = Manifest.of(read_json(self.manifest_path, limit=MAX_MANIFEST_BYTES, root=self.path), wrong)
        except FileNotFoundError:
            return None
        except RequestError as error:
            where = "" if str(self.manifest_path) in str(error) else f"{self.manifest_path}: "
            raise RequestError(f"{where}{error}; --fresh starts the run anew") from None
        if wrong and damage is None:
            raise RequestError(f"{self.manifest_path}: {wrong[0]}; --fresh starts the run anew")
        return manifest

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest as a whole.

        Raises:
            JouletuneError: it cannot be written; the one before is whole.
        """
        text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(self.manifest_path, text + "\n", root=self.path)

    # -- records -----------------------------------------------------------------------------------

    def repair(self) -> int:
        """Clear away what a kill, a power loss or a full disk left unfinished. Returns the bytes cut off the records.

        Call it with the lock held.

        Raises:
            RequestError: the records are a link, or cannot be written.
        """
        for left in self.path.glob(f".{self.manifest_path.name}.*.tmp"):
            left.unlink(missing_ok=True)
        try:
            return cut_torn_line(self.cells_path, root=self.path)
        except OSError as error:
            raise RequestError(f"{self.cells_path}: cannot be written ({error.strerror})") from None

    def records_end(self, size: int | None = None) -> RecordsEnd | None:
        """Compute size and hash of the records, or of their first `size` bytes; None where there are fewer."""
        try:
            with open_file(self.cells_path, limit=MAX_CELLS_BYTES, root=self.path) as file:
                left = wanted = os.fstat(file.fileno()).st_size if size is None else size
                digest = hashlib.sha256()
                while left > 0 and (part := file.read(min(left, 1 << 20))):
                    digest.update(part)
                    left -= len(part)
        except OSError:
            return None
        return RecordsEnd(size=wanted, sha256=digest.hexdigest()) if left == 0 else None

    def trace_sha256(self, name: str) -> str | None:
        """Hash of a trace file, None where it cannot be read."""
        try:
            content = read_bytes(self.traces_dir / name, limit=MAX_TRACE_BYTES, root=self.path)
        except OSError:
            return None
        return hashlib.sha256(content).hexdigest()

    def model_sha256(self, name: str) -> str | None:
        """Hash of the file of a kept model, None where it cannot be read."""
        try:
            return hashlib.sha256(read_bytes(self.models_dir / name, limit=MAX_MODEL_BYTES, root=self.path)).hexdigest()
        except OSError:
            return None

    def append(self, record: Record) -> None:
        """Add one line and wait until it is on the disk.

        Raises:
            JouletuneError: the disk is full or gone; what stood there before is whole.
        """
        self._append(record.to_json())

    def append_line(self, line: dict[str, Any]) -> None:
        """Add a line that was read elsewhere, e.g. on a gateway.

        Raises:
            JouletuneError: it is no record; or as `append`.
        """
        if wrong := fault(line):
            raise JouletuneError(f"{self.cells_path}: what came is no record ({wrong})")
        self._append(json.dumps(line))

    def _append(self, text: str) -> None:
        # an error may name a file whose name is no UTF-8; its stray bytes become JSON's own escapes
        line = (text + "\n").encode(errors="backslashreplace")
        try:
            append_line(self.cells_path, line, root=self.path)
        except OSError as error:
            raise JouletuneError(
                f"{self.cells_path}: cannot write ({error.strerror}); finished repeats are safe, "
                "free some space and run the same command again"
            ) from error

    def records(self, damage: list[str] | None = None) -> list[dict[str, Any]]:
        """Read one line of each repeat, oldest first; of a repeat that was run again, the newest.

        Args, Raises: as `each_record`.
        """
        return [line for line in dict(self.each_record(damage)).values() if line is not None]

    def each_record(self, damage: list[str] | None = None) -> Iterator[tuple[tuple[str, int], dict[str, Any] | None]]:
        """((cell id, number of the repeat), its line) of each line, oldest first; later ones replace earlier ones.

        A line is checked (`bench.store.record.fault`): its fields have their types, and figures that can be computed
        with. Use it to read a part of very many records: parsed, a line takes about ten times its memory in a table.

        Args:
            damage: where given, what is wrong with a line is added here, with its number or its cell, and None comes
                in its place, or nothing where it does not say which repeat it is of.

        Raises:
            RequestError: the file cannot be read; without `damage`, also where a line is no record.
        """
        try:
            file = open_file(self.cells_path, limit=MAX_CELLS_BYTES, root=self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise RequestError(f"{self.cells_path}: cannot be read ({error.strerror})") from None
        with file:
            for number, line in enumerate(_lines(file), start=1):
                key, record, wrong = (None, None, line) if isinstance(line, str) else _parsed(line)
                if wrong:
                    wrong = wrong if key else f"line {number} {wrong}"
                    if wrong.endswith("unfinished") and damage is None:
                        return  # still being written, or torn: the repeat does not count
                    if damage is None:
                        raise RequestError(f"{self.cells_path}: {wrong}")
                    damage.append(wrong)
                if key:
                    yield key, record


def _lines(file: BinaryIO) -> Iterator[bytes | str]:
    """The lines of a file, each of bounded length; a text that says what is wrong in place of one that is too long."""
    for _ in range(MAX_LINES):
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            return
        if line.endswith(b"\n"):
            yield line
            continue
        long = len(line) == MAX_LINE_BYTES
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield f"is longer than {MAX_LINE_BYTES:,} bytes" if long else "is unfinished"
    if file.read(1):
        yield f"is beyond the {MAX_LINES:,} lines that are read"


def _loads(line: bytes) -> Any:
    """Parse a line, twice as fast as `json`, which reads what the faster parser refuses, e.g. half of a surrogate pair.

    Texts that many lines have are one object.

    Raises:
        ValueError, RecursionError: it is not JSON.
    """
    try:
        return from_json(line, cache_strings="all")
    except ValueError:
        return json.loads(line)


def _parsed(line: bytes) -> tuple[tuple[str, int] | None, dict[str, Any] | None, str]:
    """(key, record, '') of a line, or what is wrong with it; the key is None where it does not say its repeat."""
    try:
        record = _loads(line)
        problem = foreign(record)
    except (ValueError, RecursionError):
        problem = "is not a record"
    if problem:
        return None, None, problem
    key = record["cell_id"], record["repeat"]
    wrong = fault(record)
    return (key, None, f"{str(key[0])[:80]} has {wrong}") if wrong else (key, record, "")
