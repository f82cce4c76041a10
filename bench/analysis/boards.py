"""Boards: joules of a kind of board, from several like ones, with the spread between them.

The board is the unit of repetition: its seeds and repeats are averaged first, so that the interval of the mean holds
for the next board of the kind too. Each board has a meter of its own, whose gain is in the spread between boards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr

from bench.analysis.statistics import half_width, holm
from bench.read.results import GROUP, Results
from bench.store.fleet_dir import FleetDir
from bench.store.manifest import Manifest

USUAL_SPREAD, USUAL_DEGREES = 0.02, 4.0
"""What is taken for known of the spread of like boards beforehand, and as how many degrees of freedom it counts: three
boards alone cannot tell one that is odd (one degree of freedom)."""

MIN_ODD = 0.05
"""Least distance from the others of a board that is named."""

ODD_P = 0.05


@dataclass(frozen=True, kw_only=True)
class Odd:
    """A board that differs from its like.

    Attributes:
        by: its joules over those of the others, less 1.
        p: corrected for the number of boards (Holm).
    """

    board: str
    by: float
    p: float


@dataclass(frozen=True, kw_only=True)
class BoardKind:
    """Like boards.

    Attributes:
        name: of their kind, e.g. `Raspberry Pi 5 Model B Rev 1.0`.
        boards: their names.
        table: one row per (data, train_size, arm): gross J of each board (its name), and `mean`, `lo`, `hi` of the
            kind (95 %), `between` and `within`: relative standard deviations between boards and between the repeats of
            one; `n`: boards.
        odd: boards that differ from the others.
    """

    name: str
    boards: tuple[str, ...]
    table: pd.DataFrame
    odd: tuple[Odd, ...]


def board_kinds(results: Results) -> tuple[BoardKind, ...]:
    """The kinds of boards with at least two boards; () where the results are of no fleet."""
    found: dict[tuple[str, ...], list[str]] = {}
    for run, manifest in zip(results.runs, results.manifests, strict=True):
        folder = results.folders.get(run)
        if folder is not None and folder.path.parent.name == "boards" and FleetDir(folder.path.parents[1]).is_one:
            found.setdefault(_likeness(manifest), []).append(run)
    return tuple(_kind(results, key[0], runs) for key, runs in found.items() if len(runs) > 1)


def _likeness(manifest: Manifest) -> tuple[str, ...]:
    """Name of the kind, and what like boards have alike: machine, torch device, kind of meter, suite."""
    device, source = manifest.device, manifest.source
    name = (device and (device.board or device.cpu_model)) or "unknown board"
    meter = (source.name or "").partition("?")[0].partition(":")[0] if source else ""
    scope = (source.scope or "") if source else ""
    suite = (manifest.suite and manifest.suite.sha256) or ""
    return name, device.machine if device else "", str(manifest.torch_device), meter, scope, suite


def _kind(results: Results, name: str, runs: Sequence[str]) -> BoardKind:
    records = results.records
    mine = records[records["run"].isin(runs) & records["measured"]].copy()
    for run in runs:  # several runs' data are told apart by the run's name
        of_run = mine["run"] == run
        mine.loc[of_run, "data"] = mine.loc[of_run, "data"].str.removeprefix(f"{run}: ")
    table = of_boards(mine, list(runs))
    return BoardKind(name=name, boards=tuple(runs), table=table, odd=odd_boards(table, list(runs)))


def of_boards(records: pd.DataFrame, boards: Sequence[str]) -> pd.DataFrame:
    """The table of a `BoardKind`.

    The interval is the t interval of the boards' means. Between boards: the variance of these means, less what the
    repeats of a board leave of theirs (one-way random effects, Searle, Casella and McCulloch 1992, 3.6), at least 0.

    Args:
        records: with GROUP, `arm`, `seed`, `run` (the board) and `energy_gross_j`.
    """
    keys = [*GROUP, "arm"]
    seeds = records.groupby([*keys, "run", "seed"], sort=False)["energy_gross_j"].agg(["mean", "var", "count"])
    grouped = seeds.groupby([*keys, "run"], sort=False)
    each = pd.DataFrame({"mean": grouped["mean"].mean(), "seeds": grouped["mean"].count()})
    # of one seed its repeats are what scatters; of several the seeds do, and the repeats with them
    alone = grouped["var"].mean() / grouped["count"].mean()
    scatter = (grouped["mean"].var() / each["seeds"]).where(each["seeds"] > 1, alone)
    each["error2"] = scatter
    each["within2"] = grouped["var"].mean() / each["mean"] ** 2
    by = each.groupby(keys, sort=False)
    n, mean, sd = by["mean"].count(), by["mean"].mean(), by["mean"].std()
    half = half_width(np.asarray(n, dtype=float), np.asarray(sd, dtype=float))
    between = np.sqrt(np.maximum(sd**2 - by["error2"].mean().fillna(0.0), 0.0)) / mean
    table = each["mean"].unstack("run").reindex(columns=list(boards)).reindex(mean.index)
    table.columns.name = None
    return table.assign(
        n=n, mean=mean, lo=mean - half, hi=mean + half, between=between, within=np.sqrt(by["within2"].mean())
    )


def odd_boards(table: pd.DataFrame, boards: Sequence[str]) -> tuple[Odd, ...]:
    """Boards whose joules differ from those of the others by more than like boards do.

    The distance of a board's logarithm from the mean of the others, over all conditions that all have, against their
    spread, which is moderated by the usual one (Smyth 2004): t with USUAL_DEGREES and one for each of the others
    beyond the first, corrected by Holm for the number of boards.
    """
    logs = np.log(table[list(boards)].to_numpy(dtype=float))
    logs = logs[np.isfinite(logs).all(axis=1)]
    count = len(boards)
    if count < 3 or not len(logs):
        return ()
    effects: NDArray[np.float64] = (logs - logs.mean(axis=1, keepdims=True)).mean(axis=0)
    away, p = np.empty(count), np.empty(count)
    for index in range(count):
        others = np.delete(effects, index)
        degrees = USUAL_DEGREES + count - 2
        variance = (USUAL_DEGREES * USUAL_SPREAD**2 + (count - 2) * float(others.var(ddof=1))) / degrees
        away[index] = effects[index] - others.mean()
        t = away[index] / math.sqrt(variance * (1 + 1 / (count - 1)))
        p[index] = 2 * stdtr(degrees, -abs(t))
    adjusted = holm(p)
    return tuple(
        Odd(board=board, by=math.expm1(by), p=float(p_value))
        for board, by, p_value in zip(boards, away, adjusted, strict=True)
        if p_value < ODD_P and abs(math.expm1(by)) > MIN_ODD
    )


def board_sentences(kinds: Sequence[BoardKind], limit: int = 20) -> list[str]:
    """What a reader must know of the boards of a fleet."""
    found = []
    for kind in kinds:
        between, within = (float(kind.table[name].median()) for name in ("between", "within"))
        spread = "" if math.isnan(between) else f": joules differ by {between:.1%} between boards (standard deviation)"
        noise = "" if math.isnan(within) else f", by {within:.1%} between the repeats of one"
        found.append(f"{len(kind.boards)} boards of the kind {kind.name}{spread}{noise}.")
        for odd in kind.odd:
            word = "more" if odd.by > 0 else "less"
            found.append(
                f"{odd.board} differs from its like: it takes {abs(odd.by):.1%} {word} than the others "
                f"(p = {odd.p:.2g}). Look at its cooling, supply and meter before its joules are used."
            )
    return found[:limit]
