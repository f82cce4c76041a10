"""Export the records of runs as a table for other programs: pandas, CSV, Parquet, Excel."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from bench.analysis.accounts import accounts, best_of
from bench.analysis.findings import analyse
from bench.analysis.summary import summary, to_csv
from bench.analysis.workbook import write_workbook
from bench.errors import JouletuneError, RequestError, nearest
from bench.read.columns import EVERY_FIELD
from bench.read.results import Results, load
from bench.store.durable import write_atomic, write_through

DERIVED = ("run", "role", "ok", "measured")
"""Columns beside the fields of a record; there are others, for the analysis alone."""

NAMES = {"flags": "quality_flags", "shift": "shift_name"}
"""Fields whose names pandas uses itself (`frame.flags` is no column) -> column."""

WRITERS = {".csv": "CSV", ".parquet": "Parquet", ".xlsx": "Excel"}
"""Ending of a file -> what is written into it."""


def load_frame(*runs: Path | str) -> pd.DataFrame:
    """Load runs as `bench.load` describes."""
    results = load_every_field(*runs)
    for sentence in results.damage:
        warnings.warn(sentence, stacklevel=3)
    return repeats(results)


def load_every_field(*runs: Path | str) -> Results:
    """Load results with every column of a record; what is damaged is left out and named in `damage`.

    Raises:
        RequestError: nothing of it can be read.
    """
    return load(*runs, skip_damaged=True, columns=EVERY_FIELD)


def repeats(results: Results) -> pd.DataFrame:
    """Make the table that `bench.load` promises: one row per repeat.

    A run has no printed standard deviation of its accuracies; only the published tables do.
    """
    fields = [name for name in EVERY_FIELD if name != "accuracy_sd" or results.published]
    return results.records[list(dict.fromkeys([*fields, *DERIVED]))].rename(columns=NAMES)


def check_target(out: Path) -> None:
    """Refuse a file that could not be written, before anything is read.

    Raises:
        RequestError: its ending says no known format, the library for it is missing, or no folder is there for it.
    """
    if out.suffix not in WRITERS:
        raise RequestError(
            f"{out}: expected a name that ends in {' or '.join(WRITERS)}; {nearest(out.suffix, WRITERS)} "
            "(`jouletune report` writes tables in LaTeX and Markdown)"
        )
    if out.suffix == ".xlsx":
        try:
            import openpyxl  # noqa: F401  # only whether it is there: pandas imports it when it writes
        except ImportError:
            raise RequestError(f"{out}: a workbook needs openpyxl; pip install 'jouletune[xlsx]'") from None
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401  # only whether it is there: pandas imports it when it writes
        except ImportError:
            raise RequestError(f"{out}: Parquet needs pyarrow; pip install 'jouletune[parquet]'") from None
    if not out.parent.is_dir():
        what = "is a file" if out.parent.exists() else "does not exist"
        raise RequestError(f"{out}: cannot write: {out.parent} {what}; make that folder or choose another --out")
    if out.is_dir():
        raise RequestError(f"{out}: cannot write: it is a folder; expected the name of a file")


def export(results: Results, out: Path, *, cells: bool) -> int:
    """Write one row per repeat, or per cell; the file is replaced as a whole. Returns the number of rows.

    Raises:
        JouletuneError: it cannot be written.
    """
    table = summary(analyse(results)) if cells else repeats(results)
    if out.suffix == ".csv":
        write_atomic(out, to_csv(table))
        return len(table)
    if out.suffix == ".xlsx":
        more = {"best of": best_of(results), "accounts": accounts(results)}
        write_workbook(out, {"cells" if cells else "repeats": table} | {k: v for k, v in more.items() if len(v)})
        return len(table)
    try:
        write_through(out, lambda file: table.to_parquet(file, engine="pyarrow", index=False))
    except (ValueError, TypeError) as error:
        raise JouletuneError(f"{out}: cannot write ({error})") from None
    return len(table)
