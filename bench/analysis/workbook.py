"""Workbooks for spreadsheets: several tables in one file, texts never formulas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from bench.analysis.summary import as_data
from bench.errors import JouletuneError
from bench.store.durable import write_through

MAX_ROWS = 1_048_575
"""Of a sheet, besides its header."""

MAX_TEXT = 32_767
"""Characters of a cell."""


def write_workbook(out: Path, sheets: Mapping[str, pd.DataFrame]) -> None:
    """Write tables as the sheets of one .xlsx file, which is replaced as a whole.

    Raises:
        JouletuneError: a table has more rows than a sheet, or the file cannot be written.
    """
    for name, table in sheets.items():
        if len(table) > MAX_ROWS:
            raise JouletuneError(f"{out}: {name} has {len(table):,} rows, a sheet {MAX_ROWS:,}; use .csv or .parquet")

    def write(file: BinaryIO) -> None:
        with pd.ExcelWriter(file, engine="openpyxl") as writer:
            for name, table in sheets.items():
                safe = as_data(table, keep="\n\t")
                texts = safe.columns[safe.dtypes.map(lambda kind: not pd.api.types.is_numeric_dtype(kind))]
                for column in texts:
                    safe[column] = safe[column].map(lambda one: one[:MAX_TEXT] if isinstance(one, str) else one)
                safe.to_excel(writer, sheet_name=name, index=False)
                sheet = writer.sheets[name]
                sheet.freeze_panes = "A2"
                for row in sheet.iter_rows(min_row=2):
                    for cell in row:
                        if cell.data_type == "f":  # a text that begins like a formula stays one
                            cell.data_type = "s"

    try:
        write_through(out, write)
    except (ValueError, TypeError) as error:
        raise JouletuneError(f"{out}: cannot write ({error})") from None
