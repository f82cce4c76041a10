"""Compare a run with the published tables of MicroT (arXiv 2403.08040): rates of joules, and gains of accuracy.

Its boards, data and extractor are others, so what is compared are ratios and differences between arms of one run. The
published values of a measure are a range, over two nets and two boards or three sets of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from bench.analysis.early_exit import exit_table
from bench.catalog.paper import reference_dir
from bench.errors import RequestError
from bench.read.results import GROUP, Results

NAME = "microt"
"""Stands for these tables as BASE of `jouletune compare`."""

ARMS = {"ttl": ("fc",), "tinytl": ("tinytl",), "full": ("full",)}
"""The paper's word for a method -> the arm of a run: its transfer learning trains the last layer."""

PAIR = [*GROUP, "seed", "repeat"]


@dataclass(frozen=True, slots=True)
class Beside:
    """A measure of a run beside the published one.

    Attributes:
        what: in words.
        value, lo, hi: of the run, with its 95 % t interval over seeds; nan where there are too few.
        n: seeds.
        published: smallest and largest published value; None: there is none.
    """

    what: str
    value: float
    lo: float
    hi: float
    n: int
    published: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """agrees: the interval meets the published range; differs; or not enough data."""
        if self.published is None:
            return "not published"
        if not np.isfinite([self.lo, self.hi]).all():
            return "not enough data"
        return "agrees" if self.lo <= self.published[1] and self.hi >= self.published[0] else "differs"


def beside_microt(run: Results) -> list[Beside]:
    """Every measure that a run shares with the published tables.

    Raises:
        RequestError: it has none: neither the arm `heads` beside another, nor inference at the ratios 0 and 1.
    """
    records = run.records[run.records["ok"]]
    adapts = records[records["work"].fillna("adapt") == "adapt"]
    found = [*_training(adapts), *_accuracy(adapts), *_inference(run)]
    if not found:
        raise RequestError(
            f"{run.runs[0]}: nothing in common with the tables of MicroT: they compare heads with fc and tinytl, and "
            "inference at ratios from 0 to 1"
        )
    return found


def _training(records: pd.DataFrame) -> Iterable[Beside]:
    table = pd.read_csv(reference_dir() / "microt_training.csv").pivot_table(
        index=["board", "model"], columns="method", values="energy_kj"
    )
    for name, arms in ARMS.items():
        pairs = _pairs(records[records["measured"]], arms, "energy_gross_j")
        if not pairs.empty:
            logs = _by_seed((pairs["other"] / pairs["heads"]).map(math.log), pairs)
            known = table[name] / table["microt"] if name in table else None
            yield _beside(f"training joules of {arms[0]} / heads", logs, known, math.exp)


def _accuracy(records: pd.DataFrame) -> Iterable[Beside]:
    table = pd.read_csv(reference_dir() / "microt_accuracy.csv").set_index(["model", "method"])
    for name, arms in ARMS.items():
        pairs = _pairs(records, arms, "accuracy_after")
        if not pairs.empty:
            gains = _by_seed(100 * (pairs["heads"] - pairs["other"]), pairs)
            known: pd.Series | None = None
            if name in table.index.get_level_values("method"):
                gaps = table.xs("microt", level="method") - table.xs(name, level="method")
                known = pd.Series(gaps.to_numpy().ravel())
            yield _beside(f"accuracy of heads less {arms[0]}, points", gains, known, None)


def _inference(run: Results) -> Iterable[Beside]:
    table = pd.read_csv(reference_dir() / "microt_inference.csv")
    saved = 100 * (1 - table["microt"] / table["ttl"])
    exits = exit_table(run)
    for at in (0.5, 1.0):
        rows = exits[exits["ratio"] == at] if len(exits) else exits
        if len(rows):
            known = saved if at == 0.5 else 2 * saved  # by E(r), which these joules follow
            yield _beside(f"inference joules saved at ratio {at:g}, % (over data)", 100 * rows["saving"], known, None)


def _pairs(records: pd.DataFrame, arms: tuple[str, ...], value: str) -> pd.DataFrame:
    """Values of `heads` and of another arm for the same data, seed and repeat."""
    heads, other = (records[records["arm"].isin(names)].set_index(PAIR)[value] for names in (("heads",), arms))
    return pd.DataFrame({"heads": heads, "other": other}).dropna()


def _by_seed(values: pd.Series, pairs: pd.DataFrame) -> pd.Series:
    return values.groupby([pairs.index.get_level_values(key) for key in (*GROUP, "seed")]).mean()


def _beside(what: str, values: pd.Series, known: pd.Series | None, back: Callable[[float], float] | None) -> Beside:
    n, mean = len(values), float(values.mean())
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    figures = [mean, mean - half, mean + half]
    value, lo, hi = (float(back(one)) if back is not None else one for one in figures)
    return Beside(what, value, lo, hi, n, None if known is None else (float(known.min()), float(known.max())))


def lines(found: Iterable[Beside]) -> list[str]:
    """A line of text for each."""
    said = []
    for one in found:
        interval = f" [{one.lo:.2f}, {one.hi:.2f}]" if np.isfinite(one.lo) else ""
        printed = f"published {one.published[0]:.2f} to {one.published[1]:.2f}: " if one.published else ""
        said.append(f"{one.what}: {one.value:.2f}{interval}, n = {one.n}; {printed}{one.verdict}")
    return said
