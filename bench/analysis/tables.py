"""Tables in the paper's form: rows are data x train size, columns the blocks, Block Avg and full."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.findings import Analysis, arm_order
from bench.analysis.wording import MISSING, interval, missing, points, repetitions, size_label
from bench.catalog.paper import PUBLISHED
from bench.read.results import GROUP, Results


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a table: its text, and whether it is the row's best and the target block's."""

    text: str
    best: bool = False
    target: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table before it is Markdown, LaTeX or HTML.

    Attributes:
        name: file name without ending.
        title: heading.
        header: names of the columns; the first `labels` of them are words, the rest figures.
        rows: one tuple of entries per row.
        note: what the figures are, their unit, n, and for joules source, kind and grade.
    """

    name: str
    title: str
    header: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Entry, ...], ...]
    note: str


def grids(results: Results, analysis: Analysis) -> list[Grid]:
    """The paper's tables that these results can fill: accuracy, saving gross and net, joules."""
    made = [accuracy_grid(analysis)]
    if analysis.quality.has_joules:
        made += [saving_grid(results, analysis, "gross"), joule_grid(results, analysis)]
        if analysis.blocks["saving_net"].notna().any():
            made.insert(2, saving_grid(results, analysis, "net"))
    return [grid for grid in made if grid.rows]


def accuracy_grid(analysis: Analysis) -> Grid:
    """Rows data x train size, columns the blocks, Block Avg, full, and the gain."""
    blocks = analysis.blocks
    digits = 2 if blocks["accuracy_sd"].notna().any() and blocks["accuracy_n"].isna().all() else 1

    def entry(row: pd.Series) -> str:
        return _plus_minus(row["accuracy"], row["accuracy_lo"], row["accuracy_hi"], row["accuracy_sd"], digits)

    def gain(row: dict[Hashable, Any]) -> Entry:
        return Entry(f"{points(row['gain'], digits)} {interval(row['gain_lo'], row['gain_hi'], digits)}".strip())

    printed = blocks["accuracy_lo"].isna() & blocks["accuracy_sd"].notna()
    spread = "± half of the 95 % t interval"
    if printed.any():
        measured = blocks["accuracy_lo"].notna().any()
        spread = f"{spread}, published ones ± standard deviation" if measured else "± the published standard deviation"
    paired = ", paired by seed" if blocks["accuracy_n"].notna().any() else ""
    note = (
        f"Accuracy on the target test images in %, mean {spread}; "
        f"{repetitions(blocks['accuracy_n'], 'seed')}; gain in points{paired}. {_MARKS} "
        "The best is read off the test images; the target is known beforehand."
    )
    return _grid("accuracy", "Accuracy", analysis, value="accuracy", entry=entry, note=note, extra=(("Gain", gain),))


def saving_grid(results: Results, analysis: Analysis, basis: str) -> Grid:
    """Energy-saving rate (E_full - E) / E_full per block and Block Avg, in %."""
    value = f"saving_{basis}"
    digits = 2 if results.published else 1

    def entry(row: pd.Series) -> str:
        if missing(row[value]):
            return MISSING
        rate = points(row[value], digits).removeprefix("+")
        text = f"{rate} {interval(row[f'{value}_lo'], row[f'{value}_hi'], digits)}".strip()
        if missing(row["saving_theory"]):
            return text
        return f"{text}; theory {points(row['saving_theory'], digits).removeprefix('+')}"

    what = "gross: what the battery pays" if basis == "gross" else "net of idle power"
    spread = ", with 95 % interval" if analysis.blocks[f"{value}_lo"].notna().any() else ""
    n = repetitions(analysis.blocks[f"{value}_n"], "pair")
    means = f"from printed means of {_STEP}" if results.published else f"paired by seed and repeat; {n}"
    note = (
        f"Energy saved against tuning everything, {what}, in %{spread}; {means}. "
        f"{_theory(results, analysis)}{_MARKS} {_energy(analysis)}"
    )
    name = "energy_saving" if basis == "gross" else "energy_saving_net"
    return _grid(name, f"Energy-saving rate, {basis}", analysis, value=value, entry=entry, note=note, drop=("full",))


def joule_grid(results: Results, analysis: Analysis) -> Grid:
    """Gross joules of one fine-tuning, or of the step that the published tables give."""

    def entry(row: pd.Series) -> str:
        joules, half = row["energy_gross_j"], (row["energy_gross_hi_j"] - row["energy_gross_lo_j"]) / 2
        if missing(joules):
            return MISSING
        if missing(half) or half <= 0:
            return f"{joules:.4g}"
        # the spread to two digits, and the mean to the same place
        places = min(max(0, 1 - int(np.floor(np.log10(half)))), 6)
        return f"{joules:.{places}f} ± {half:.{places}f}"

    spread = ", mean ± half of the 95 % t interval" if analysis.blocks["energy_gross_lo_j"].notna().any() else ""
    n = repetitions(analysis.blocks["energy_n"], "repeat")
    note = f"Gross energy of {costed(results)} in J{spread}; {n}. {_MARKS} {_energy(analysis)}"
    return _grid("energy", "Energy", analysis, value="energy_gross_j", entry=entry, note=note, lowest=True)


_STEP = "one training step on one image"


def costed(results: Results) -> str:
    """What the joules of these results are of: 'one fine-tuning', or the step of the published tables."""
    if results.published:
        return _STEP
    return "one fine-tuning" + (f" (published: {_STEP})" if PUBLISHED in results.runs else "")


_MARKS = "Bold: best single block. †: target block."


def _theory(results: Results, analysis: Analysis) -> str:
    if analysis.blocks["saving_theory"].isna().all():
        return ""
    of = "step" if results.published else "fine-tunings, validation included"
    return f"Theory: the rate of the multiply-accumulates of the same {of}. "


def _energy(analysis: Analysis) -> str:
    return f"Energy: {analysis.quality.energy}."


def _plus_minus(value: float, lo: float, hi: float, sd: float, digits: int) -> str:
    if missing(value):
        return MISSING
    half = (hi - lo) / 2 if not missing(lo) else sd
    return f"{100 * value:.{digits}f}" + ("" if missing(half) else f" ± {100 * half:.{digits}f}")


def _grid(
    name: str,
    title: str,
    analysis: Analysis,
    *,
    value: str,
    entry: Callable[[pd.Series], str],
    note: str,
    extra: tuple[tuple[str, Callable[[dict[Hashable, Any]], Entry]], ...] = (),
    drop: tuple[str, ...] = (),
    lowest: bool = False,
) -> Grid:
    blocks = analysis.blocks[~analysis.blocks["arm"].isin(drop)]
    blocks = blocks[blocks.groupby(GROUP)[value].transform("count") > 0]
    arms = arm_order(blocks)
    parts = dict(iter(blocks.groupby(GROUP, sort=False)))
    rows = []
    for shift in analysis.shifts.to_dict("records"):
        part = parts.get((shift["data"], shift["train_size"]))
        if part is None:
            continue
        singles = part.loc[part["role"] == "single", value].dropna()
        best = singles.index[singles == (singles.min() if lowest else singles.max())] if len(singles) > 1 else []
        cells = {}
        for index, row in part.iterrows():
            text = entry(row)
            cells[row["arm"]] = Entry(text, index in best, bool(row["is_target"]) and text != MISSING)
        rows.append(
            (
                Entry(shift["data"]),
                Entry(shift["level"] or MISSING),
                Entry(size_label(shift["train_size"], shift["n_train"])),
                *(cells.get(arm, Entry(MISSING)) for arm in arms),
                *(make(shift) for _, make in extra),
            )
        )
    header = ("Data", "Level", "Train size", *arms, *(head for head, _ in extra))
    return Grid(name=name, title=title, header=header, labels=3, rows=tuple(rows), note=note)
