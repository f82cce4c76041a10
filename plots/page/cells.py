"""The part of the report that lists every cell: what it gave, what it cost, how far that can be trusted."""

from __future__ import annotations

import pandas as pd

from bench.analysis import Analysis, Results
from bench.analysis.wording import joule_unit
from plots.page.frame import section
from plots.page.table import Column, data_table
from plots.page.trace_data import TraceSet

MAX_CELLS = 10_000


def render(results: Results, analysis: Analysis, traces: TraceSet) -> str:
    """Section of the cells; a button in each row opens its power trace, where there is one."""
    cells = analysis.cells.head(MAX_CELLS)
    more = len(analysis.cells) - len(cells)
    said = f'<p class="muted">{more} more cells are in summary.csv.</p>' if more else ""
    plain = "Every cell is a row of summary.csv; this page shows them with its scripts."
    return section("Cells", said + data_table("cells", "Cells", _columns(results, cells, traces), plain=plain, sort=0))


def _columns(results: Results, cells: pd.DataFrame, traces: TraceSet) -> list[Column]:
    def numbers(name: str, factor: float = 1.0) -> list[float]:
        return [float(f"{value:.6g}") for value in (cells[name] * factor).astype(float)]

    def words(name: str) -> list[str]:
        return cells[name].fillna("").astype(str).tolist()

    middle_j = float(cells["energy_gross_j:mean"].median())
    factor, unit = joule_unit(middle_j)
    digits = 1 if middle_j >= 100 * factor else 2
    gained = 100 * (cells["accuracy_after:mean"] - cells["accuracy_before"])
    columns = [
        Column(heading="Cell", values=words("cell_id"), about="data, train size, blocks and seed"),
        Column(heading="Shift", values=words("data"), choice=True, hidden=True),
        Column(heading="Tuned", values=words("arm"), choice=True, about="the blocks, or the method that chose them"),
        Column(heading="Repeats", values=numbers("repeats"), kind="number", digits=0),
        Column(heading="Accuracy, %", values=numbers("accuracy_after:mean", 100), kind="number"),
        Column(
            heading="Gain, points",
            values=[float(f"{value:.6g}") for value in gained],
            kind="number",
            about="accuracy after tuning less before",
        ),
        Column(
            heading=f"Gross, {unit}", values=numbers("energy_gross_j:mean", 1 / factor), kind="number", digits=digits
        ),
        Column(
            heading=f"± {unit}",
            values=numbers("energy_u_j", 1 / factor),
            kind="number",
            digits=digits,
            about="expanded uncertainty of the gross energy of one repeat, k = 2",
        ),
        Column(heading=f"Net, {unit}", values=numbers("energy_net_j:mean", 1 / factor), kind="number", digits=digits),
        Column(heading="Time, s", values=numbers("train_time_s:mean"), kind="number", digits=2),
        Column(heading="Grade", values=words("grade"), choice=True, tones={"X": "bad"}),
        Column(heading="Flags", values=_flags(results, cells), kind="list", choice=True),
    ]
    if len(results.runs) > 1:
        columns.insert(1, Column(heading="Run", values=words("run"), choice=True))
    lost = cells["failed"] + cells["timeout"]
    if lost.any():
        place = [column.heading for column in columns].index("Repeats") + 1
        columns.insert(place, Column(heading="Lost", values=lost.astype(float).tolist(), kind="number", digits=0))
    if traces.entries:
        opens = Column(heading="Trace", values=_first_trace(cells, traces), kind="action", about="Power trace of")
        columns.insert(1, opens)
    return columns


def _flags(results: Results, cells: pd.DataFrame) -> list[list[str]]:
    """What the repeats of each cell were flagged with."""
    flagged = results.records.loc[results.records["flags"] != "", ["run", "cell_id", "flags"]].drop_duplicates()
    found: dict[tuple[str, str], set[str]] = {}
    for run, cell, flags in flagged.itertuples(index=False):
        found.setdefault((run, cell), set()).update(flags.split(";"))
    return [sorted(found.get((run, cell), ())) for run, cell in cells[["run", "cell_id"]].itertuples(index=False)]


def _first_trace(cells: pd.DataFrame, traces: TraceSet) -> list[int | None]:
    """Number of the first trace of each cell."""
    first: dict[tuple[str, str], int] = {}
    for number, entry in enumerate(traces.entries):
        first.setdefault((entry["run"], entry["cell"]), number)
    return [first.get((run, cell)) for run, cell in cells[["run", "cell_id"]].itertuples(index=False)]
