"""Make tables in the paper's form (rows data x train size, columns the arms), and format them as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from bench.analysis.accounts import accounts, best_of, facts_of
from bench.analysis.boards import BoardKind
from bench.analysis.early_exit import COVERAGE, exit_sentences, exit_table
from bench.analysis.findings import Analysis, arm_order
from bench.analysis.front import oracles
from bench.analysis.wording import MISSING, interval, missing, points, repetitions, size_label, units
from bench.catalog.paper import PUBLISHED
from bench.read.results import GROUP, UNTUNED, Results
from bench.suite.work import ADAPT
from bench.text import shown

Row = Mapping[Hashable, Any]
"""A row of a table, by column."""

MAX_ROWS, MAX_ARMS = 1000, 60
"""Rows of a table, and arms beside each other in it. More are of no use to a reader; summary.csv has them all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a table: its text, whether it is the row's best, and whether it is the target block's."""

    text: str
    best: bool = False
    target: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table, independent of its format.

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
    """Make the tables that these results can fill: accuracy, saving gross and net, joules."""
    made = [accuracy_grid(analysis)]
    if analysis.quality.has_joules:
        made += [saving_grid(results, analysis, "gross"), joule_grid(results, analysis), phase_grid(results, analysis)]
        made.append(image_grid(results, analysis))
        made.append(exit_grid(results, analysis))
        if analysis.blocks["saving_net"].notna().any():
            made.insert(2, saving_grid(results, analysis, "net"))
    made.append(microcontroller_grid(results, analysis))
    made += [board_grid(number, kind) for number, kind in enumerate(analysis.boards, start=1)]
    made += [account_grid(results), best_grid(results)]
    return [grid for grid in made if grid.rows]


def account_grid(results: Results) -> Grid:
    """Make the table of methods under a budget: savings claimed, attainable and measured, side by side."""
    table = accounts(results).head(MAX_ROWS)

    def percent(row: Row, name: str, digits: int = 1) -> Entry:
        value, lo, hi = row[name], row.get(f"{name}_lo"), row.get(f"{name}_hi")
        if missing(value):
            return Entry(MISSING)
        return Entry(f"{points(value, digits).removeprefix('+')} {interval(lo, hi, digits)}".strip())

    names = {"kept_share": "Kept", "claimed_saving": "Claimed", "attainable_saving": "Attainable",
             "measured_saving_s": "Seconds", "measured_saving_j": "Joules", "measured_saving_rss": "Peak memory",
             "stored_share": "Stored"}  # fmt: skip
    rows = [
        (*(Entry(str(row[name])) for name in ("data", "model", "arm")), *(percent(row, name) for name in names))
        for row in table.to_dict("records")
    ]
    note = (
        "Savings against `full` of the same run in %, paired by seed and repeat, mean ± half of the 95 % t interval. "
        "Claimed: the frozen share of each convolution, weighted by its forward pass, as released code prints it. "
        "Attainable: multiply-accumulates of the whole work, selection and validation included. Peak memory: of the "
        "process. Kept: share of the budget's unit. Stored: inputs that kept weight gradients need, of those of all."
    )
    header = ("Data", "Model", "Arm", *names.values())
    return Grid(name="accounts", title="Savings: claimed, attainable, measured", header=header, labels=3,
                rows=tuple(rows), note=note)  # fmt: skip


def best_grid(results: Results) -> Grid:
    """Make the table of accuracies per net, data, budget and arm; of runs in which some method has a budget."""
    table = best_of(results).head(MAX_ROWS) if len(facts_of(results)) else best_of(results).head(0)
    rows = []
    for row in table.to_dict("records"):
        spread = "" if missing(row["accuracy_sd_points"]) else f" ± {row['accuracy_sd_points']:.2f}"
        rows.append(
            (
                Entry(str(row["model"])),
                Entry(str(row["data"])),
                Entry(MISSING if missing(row["budget"]) else f"{row['budget']:.0f}"),
                Entry(str(row["arm"])),
                Entry(f"{row['accuracy_percent']:.2f}{spread}"),
                Entry(MISSING if missing(row["best_epoch"]) else f"{row['best_epoch']:.1f}"),
                Entry(str(row["seeds"])),
            )
        )
    note = "Test accuracy in % at the epoch that validates best, mean ± standard deviation (n - 1) over the seeds."
    header = ("Model", "Data", "Budget", "Arm", "Accuracy", "Best epoch", "Seeds")
    return Grid(name="best_of", title="Best validated epoch", header=header, labels=4, rows=tuple(rows), note=note)


def accuracy_grid(analysis: Analysis) -> Grid:
    """Make the table of accuracies: columns are the blocks, Block Avg, full, and the gain."""
    blocks = analysis.blocks
    digits = 2 if blocks["accuracy_sd"].notna().any() and blocks["accuracy_n"].isna().all() else 1

    def entry(row: Row) -> str:
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
        "The best is read off the test images; the target is known beforehand. Gain: target less Block Avg."
    )
    best = {(row["data"], row["train_size"]): row for row in oracles(analysis).to_dict("records")}

    def oracle(row: dict[Hashable, Any]) -> Entry:
        found = best.get((row["data"], row["train_size"]))
        return Entry(f"{100 * found['accuracy']:.{digits}f} ({found['block']})" if found else MISSING)

    extra = (("Gain", gain), *((("Oracle", oracle),) if best else ()))
    note += " Oracle: that best block, as if it had been known; no arm that runs." if best else ""
    return _grid("accuracy", "Accuracy", analysis, value="accuracy", entry=entry, note=note, extra=extra)


def board_grid(number: int, kind: BoardKind) -> Grid:
    """Make the table of a kind of board: columns are the boards, the kind with its interval, and the spread."""
    shown_boards = kind.boards[:MAX_ARMS]
    rows = []
    for index, row in zip(kind.table.index, kind.table.to_dict("records"), strict=True):
        data, size, arm = index
        half = MISSING if missing(row["lo"]) else f"{row['mean']:.4g} ± {(row['hi'] - row['lo']) / 2:.2g}"
        values = [MISSING if missing(row[board]) else f"{row[board]:.4g}" for board in shown_boards]
        spreads = [MISSING if missing(row[name]) else f"{100 * row[name]:.2g}" for name in ("between", "within")]
        rows.append(tuple(map(Entry, (str(data), size_label(size), str(arm), *values, half, *spreads))))
    odd = ", ".join(one.board for one in kind.odd)
    return Grid(
        name="boards" if number == 1 else f"boards-{number}",
        title=f"Joules by board: {kind.name}",
        header=("Data", "n", "Arm", *shown_boards, "The kind", "Between, %", "Within, %"),
        labels=3,
        rows=tuple(rows[:MAX_ROWS]),
        note="Gross J of one execution. The kind: mean over the boards ± half of its 95 % t interval, whose unit is "
        "the board; between and within: relative standard deviations between boards and between the repeats of one."
        + (f" Differs from its like: {odd}." if odd else ""),
    )


def saving_grid(results: Results, analysis: Analysis, basis: str) -> Grid:
    """Make the table of energy-saving rates (E_full - E) / E_full per block and Block Avg, in %."""
    value = f"saving_{basis}"
    digits = 2 if results.published else 1

    def entry(row: Row) -> str:
        if missing(row[value]):
            return MISSING
        lo, hi = row[f"{value}_lo"], row[f"{value}_hi"]
        if basis == "net" and (row[value] if missing(lo) else lo) < _UNTOLD:
            return "not told from 0"
        return f"{points(row[value], digits).removeprefix('+')} {interval(lo, hi, digits)}".strip()

    def theory(row: Row) -> str:
        return points(row["saving_theory"], digits).removeprefix("+")

    what = "gross: with the idle power" if basis == "gross" else "net of idle power"
    least = analysis.blocks[f"{value}_lo"].fillna(analysis.blocks[value])
    untold = (
        "Not told from 0: the net joules are too near to 0, or too few, for a rate. " if least.min() < _UNTOLD else ""
    )
    spread = ", with 95 % interval" if analysis.blocks[f"{value}_lo"].notna().any() else ""
    n = units(analysis.blocks[f"{value}_n"], analysis.blocks[f"{value}_seeds"])
    means = (
        f"from printed means of {_STEP}" if results.published else f"paired by seed and repeat; {n}; {_RELATIVE[basis]}"
    )
    note = (
        f"Energy saved against tuning everything, {what}, in %{spread}; {means}. "
        f"{untold}{_theory(results, analysis)}{_MARKS} {_energy(analysis)}"
    )
    name = "energy_saving" if basis == "gross" else "energy_saving_net"
    beside = ("by MACs", theory) if analysis.blocks["saving_theory"].notna().any() else None
    title = f"Energy-saving rate, {basis}"
    return _grid(name, title, analysis, value=value, entry=entry, note=note, drop=("full",), beside=beside)


def joule_grid(results: Results, analysis: Analysis) -> Grid:
    """Make the table of gross joules of one fine-tuning, or of the step that the published tables give."""

    def entry(row: Row) -> str:
        joules, half = row["energy_gross_j"], (row["energy_gross_hi_j"] - row["energy_gross_lo_j"]) / 2
        if missing(joules):
            return MISSING
        if missing(half) or half <= 0:
            return f"{joules:.4g}"
        # the spread to two digits, and the mean to the same place
        places = min(max(0, 1 - int(np.floor(np.log10(half)))), 6)
        return f"{joules:.{places}f} ± {half:.{places}f}"

    blocks = analysis.blocks
    spread = ""
    if blocks["energy_gross_lo_j"].notna().any():
        gain = float(blocks["energy_gain"].max())
        known = f"gain (standard uncertainty {100 * gain:.2g} %)" if gain > 0 else "gain"
        spread = (
            f", mean ± half of the 95 % interval; absolute, so {known}, zero and idle baseline of the meter are in it"
        )
    n = "n not stated" if results.published else units(blocks["energy_n"], blocks["energy_seeds"])
    note = f"Gross energy of {costed(results)} in J{spread}; {n}. {_MARKS} {_energy(analysis)}"
    return _grid("energy", "Energy", analysis, value="energy_gross_j", entry=entry, note=note, lowest=True)


_UNTOLD = -10.0
"""A saving rate, or the lower end of its interval, below this is none: the arm might cost eleven times as much."""

_RELATIVE = {
    "gross": "a ratio, so the meter's gain is not in the interval, its zero is",
    "net": "a ratio, so the meter's gain is not in the interval, the idle baseline is",
}


def phase_grid(results: Results, analysis: Analysis) -> Grid:
    """Joules and seconds of each phase, a row per arm; no rows where no arm has more than one."""
    phases = analysis.phases
    several = phases.groupby([*GROUP, "arm"], sort=False)["phase"].transform("count") > 1
    names = sorted(phases.loc[several, "phase"].unique(), key=lambda name: (name in _COSTED_PHASES, name))
    n_train = analysis.shifts.set_index(GROUP)["n_train"].to_dict()
    rows = []
    for key, part in phases[several].groupby([*GROUP, "arm"], sort=False):
        data, size, arm = cast(tuple[str, float, str], key)
        of = {row["phase"]: row for row in part.to_dict("records")}
        cells = (Entry(_phase(of[name]) if name in of else MISSING) for name in names)
        rows.append((Entry(data), Entry(size_label(size, n_train.get((data, size)))), Entry(arm), *cells))
    note = (
        f"Gross joules and seconds of each phase of {costed(results)}, means over the repeats; the phases add up to "
        f"the whole. Without joules: the source cannot resolve the phase. {_energy(analysis)}"
    )
    header = ("Data", "Train size", "Arm", *names)
    return Grid(name="phases", title="Phases", header=header, labels=3, rows=tuple(rows), note=note)


_COSTED_PHASES = ("adapt", "infer", "stream")
"""What is left of the work beside a method's own phases; it stands last."""


def _phase(row: dict[Hashable, Any]) -> str:
    joules = MISSING if missing(row["energy_gross_j"]) else f"{row['energy_gross_j']:.3g}"
    return f"{joules} J, {row['time_s']:.3g} s"


def image_grid(results: Results, analysis: Analysis) -> Grid:
    """Joules per image of streams and inferences, against those of the model that is not adapted, in the same run."""
    blocks = analysis.blocks

    def entry(row: Mapping[Hashable, Any]) -> str:
        if missing(row["image_j"]):
            return MISSING
        against = f" ({row['image_ratio']:.2f}x)" if not missing(row["image_ratio"]) else ""
        return f"{row['image_j']:.3g}{against}"

    note = (
        f"Gross joules per image, adapting included, mean over the repeats; in brackets: times those of `none` in the "
        f"same run, geometric mean paired by seed and repeat. {_energy(analysis)}"
    )
    if blocks["image_j"].isna().all():
        return Grid(name="per_image", title="Energy per image", header=(), labels=3, rows=(), note=note)
    return _grid("per_image", "Energy per image", analysis, value="image_j", entry=entry, note=note, lowest=True)


def exit_grid(results: Results, analysis: Analysis) -> Grid:
    """Accuracy and joules per image by the share that a part model answered, and what the model of energy says."""
    table = exit_table(results)
    rows = []
    for row in table.to_dict("records"):
        predicted, within = f"{row['predicted_j']:.3g} ± {COVERAGE * row['u_predicted_j']:.2g}", row["within"]
        figures = (
            f"{row['realised']:.3f}",
            f"{100 * row['accuracy']:.1f} ({100 * row['accuracy_part']:.1f}, {100 * row['accuracy_full']:.1f})",
            f"{row['image_j']:.3g} ± {COVERAGE * row['u_j']:.2g}",
            MISSING if within is None else f"{predicted} {'holds' if within else 'fails'}",
            f"{100 * row['saving']:.1f} ({100 * row['saving_macs']:.1f})",
            f"{1000 * row['image_s']:.3g}",
            f"{row['calibration_error']:.3f}",
        )
        rows.append((Entry(row["data"]), Entry(row["arm"]), *map(Entry, figures)))
    header = ("Data", "Arm", "Realised ratio", "Accuracy, % (part, full)", "J per image", "Predicted J",
              "Saved, % (by MACs)", "ms per image", "Calibration error")  # fmt: skip
    note = (
        "Means over seeds and repeats. Predicted: E(r) = E_part + (1 - r)(E_full - E_part) with those measured at the "
        "ratios 0 and 1, at the realised ratio; ± is k = 2 from the scatter over seeds and repeats; holds: both agree "
        f"within k = 2. {' '.join(exit_sentences(table))} {_energy(analysis)}"
    )
    return Grid(
        name="early_exit", title="Inference that stops early", header=header, labels=2, rows=tuple(rows), note=note
    )


def microcontroller_grid(results: Results, analysis: Analysis) -> Grid:
    """Joules, laps, instructions and memory of a microcontroller, a row for each condition."""
    records = results.records
    header = ("Data", "Arm", "J", "Laps, ms", "Instructions", "Of a step", "Flash, KiB", "SRAM, KiB")
    rows = []
    if "lap_s" in records:
        done = records[records["ok"] & records["lap_s"].notna()]
        for (data, arm), group in done.groupby(["data", "arm"], sort=False):
            means = group[["lap_s", "instructions", "step_instructions", "flash_bytes", "sram_bytes"]].mean()
            joules = group.loc[group["measured"], "energy_gross_j"].mean()
            figures = (
                (joules, "{:.4g}", 1.0), (means["lap_s"], "{:.6g}", 1e3), (means["instructions"], "{:,.0f}", 1.0),
                (means["step_instructions"], "{:,.0f}", 1.0),
                (means["flash_bytes"], "{:.1f}", 1 / 1024), (means["sram_bytes"], "{:.1f}", 1 / 1024),
            )  # fmt: skip
            cells = (Entry(MISSING if missing(value) else form.format(value * by)) for value, form, by in figures)
            rows.append((Entry(str(data)), Entry(str(arm)), *cells))
    note = (
        "Of one training (features of all images, and the epochs) or one inference; means over seeds and repeats. Laps "
        "are the board's own, memory is the account of its firmware. Published for one training on an STM32H7A3ZI with "
        "MCUNet (arXiv 2403.08040): fc 44.64 kJ, two heads 45.12 kJ, TinyTL 94.28 kJ, that is 1 : 1.01 : 2.11; of "
        f"another net on another board only ratios compare. {_energy(analysis)}"
    )
    return Grid(
        name="microcontroller", title="On the microcontroller", header=header, labels=2, rows=tuple(rows), note=note
    )


_STEP = "one training step on one image"
_COSTED = {ADAPT: "one fine-tuning", "infer": "one pass over the images", "stream": "one pass of the stream"}


def costed(results: Results) -> str:
    """Name what the joules are of: 'one fine-tuning', or the step of the published tables."""
    if results.published:
        return _STEP
    if all(manifest.commands for manifest in results.manifests):
        return "one run of the command, or one of its units"
    works = {str(work).partition("(")[0] for work in results.records["work"].fillna(ADAPT).unique()}
    what = _COSTED[works.pop()] if len(works) == 1 and works <= _COSTED.keys() else "one execution of the work"
    return what + (f" (published: {_STEP})" if PUBLISHED in results.runs else "")


_MARKS = "Bold: best single block. †: target block."


def _theory(results: Results, analysis: Analysis) -> str:
    if analysis.blocks["saving_theory"].isna().all():
        return ""
    of = "step" if results.published else "fine-tunings, validation included"
    return f"By MACs: the rate of the multiply-accumulates of the same {of}. "


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
    entry: Callable[[Row], str],
    note: str,
    extra: tuple[tuple[str, Callable[[dict[Hashable, Any]], Entry]], ...] = (),
    beside: tuple[str, Callable[[Row], str]] | None = None,
    drop: tuple[str, ...] = (),
    lowest: bool = False,
) -> Grid:
    blocks = analysis.blocks[~analysis.blocks["arm"].isin(drop)]
    blocks = blocks[(blocks["role"] != UNTUNED) | (value == "accuracy")]  # it has no joules
    blocks = blocks[blocks.groupby(GROUP)[value].transform("count") > 0]
    singles = blocks.loc[(blocks["role"] == "single") & blocks[value].notna(), [*GROUP, value]]
    values = singles.groupby(GROUP)[value]
    top = values.transform("min" if lowest else "max")
    best = (values.transform("count") > 1) & ((singles[value] - top).abs() <= 1e-12 * top.abs())
    blocks = blocks.assign(best=best.reindex(blocks.index, fill_value=False))
    arms = arm_order(blocks)
    shifts = analysis.shifts.merge(blocks[GROUP].drop_duplicates(), on=GROUP)
    note += _left_out(len(shifts) - MAX_ROWS, len(arms) - MAX_ARMS)
    shifts, arms = shifts.head(MAX_ROWS), arms[:MAX_ARMS]
    cells: dict[tuple[Any, Any], dict[str, list[Entry]]] = {}
    for row in blocks[blocks["arm"].isin(arms)].merge(shifts[GROUP], on=GROUP).to_dict("records"):
        text = entry(row)
        made = Entry(text, bool(row["best"]), bool(row["is_target"]) and text != MISSING)
        entries = [made, *([Entry(beside[1](row))] if beside else [])]
        cells.setdefault((row["data"], row["train_size"]), {})[row["arm"]] = entries
    rows = []
    for shift in shifts.to_dict("records"):
        of = cells.get((shift["data"], shift["train_size"]), {})
        rows.append(
            (
                Entry(shift["data"]),
                Entry(shift["level"] or MISSING),
                Entry(size_label(shift["train_size"], shift["n_train"])),
                *(entry for arm in arms for entry in of.get(arm, [Entry(MISSING)] * (1 + bool(beside)))),
                *(make(shift) for _, make in extra),
            )
        )
    heads = [head for arm in arms for head in (arm, *([f"{arm} {beside[0]}"] if beside else []))]
    header = ("Data", "Level", "Train size", *heads, *(head for head, _ in extra))
    return Grid(name=name, title=title, header=header, labels=3, rows=tuple(rows), note=note)


def _left_out(rows: int, arms: int) -> str:
    parts = [f"{number} more {noun}" for number, noun in ((rows, "rows"), (arms, "arms")) if number > 0]
    return f" {' and '.join(parts)}: see summary.csv." if parts else ""


# -- Markdown ------------------------------------------------------------------------------------------


def to_markdown(grid: Grid) -> str:
    """Format the grid as a heading, a pipe table and its note."""

    def cell(entry: Entry) -> str:
        text = escape_markdown(entry.text)
        return (f"**{text}**" if entry.best else text) + (" †" if entry.target else "")

    rule = ["---"] * grid.labels + ["---:"] * (len(grid.header) - grid.labels)
    lines = [_pipes([escape_markdown(head) for head in grid.header]), _pipes(rule)]
    lines += [_pipes([cell(entry) for entry in row]) for row in grid.rows]
    return f"## {grid.title}\n\n" + "\n".join(lines) + f"\n\n{escape_markdown(grid.note)}\n"


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it stands, HTML and table pipes included; on one line."""
    return re.sub(r"[\\`*_{}\[\]<>|#&~]", r"\\\g<0>", shown(" ".join(text.split())))


def _pipes(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
