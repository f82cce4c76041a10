"""Means over clusters: the seed is the unit of repetition, and what a meter has in common for all of them is added.

Repeats of a seed see the same images in the same order, so what an arm does to that seed is in all of them: they are
averaged first, and the interval is that of the seeds. With one seed its repeats are the unit, and the interval holds
for that seed only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.statistics import half_width

Floats = NDArray[np.float64]
Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Shared:
    """Deviations that several values have in common: the gain and the zero of their meter, their idle baseline.

    One entry per value and deviation; arrays of equal length.

    Attributes:
        row: position of the value.
        component: number of the deviation. Those of two idle baselines in a row, which have one measurement in
            common, are neighbouring numbers; others are not.
        amount: by how much one standard deviation of it moves the value, with its sign.
    """

    row: Numbers
    component: Numbers
    amount: Floats

    def moved(self, to: Numbers, factor: Floats | None = None) -> Shared:
        """The same deviations of other values: value `n` here goes into value `to[n]` there, -1 for none.

        Args:
            factor: what value `n` is multiplied by there.
        """
        rows = to[self.row]
        kept = rows >= 0
        amount = self.amount if factor is None else self.amount * factor[self.row]
        return Shared(rows[kept], self.component[kept], amount[kept])


def joined(*parts: Shared) -> Shared:
    """All entries of several, of the same values."""
    return Shared(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.component for part in parts]),
        np.concatenate([part.amount for part in parts]),
    )


def of_each(shared: Shared, rows: Numbers) -> Shared:
    """What row `rows[n]` shares, as of row n: a value may go into several others, as a full fine-tuning does."""
    order = np.argsort(shared.row, kind="stable")
    sorted_rows = shared.row[order]
    first, last = (np.searchsorted(sorted_rows, rows, side=side) for side in ("left", "right"))
    count = last - first
    to = np.repeat(np.arange(len(rows)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    entry = order[np.repeat(first, count) + within]
    return Shared(to, shared.component[entry], shared.amount[entry])


def clustered(frame: pd.DataFrame, value: str, by: list[str], shared: Shared | None = None) -> pd.DataFrame:
    """Mean of a column per group over its clusters, with its interval, indexed by `by`.

    Args:
        frame: with `by`, `value` without nan, and `seed`; one row per repeat, of both sides where they are pairs.
        shared: of the rows of the frame, by position.

    Returns:
        n: clusters: seeds, or the repeats of the only seed.
        seeds: how many seeds there are.
        mean: of the means of the clusters.
        sd: standard deviation of the latter, nan below two clusters.
        common: standard uncertainty of what is shared and does not show in `sd`, by `_hidden`; 0 without.
        lo, hi: 95 % interval by `half_width`, with n - 1 degrees of freedom; nan below two clusters.
    """
    groups = frame.groupby(by, sort=False)
    group = groups.ngroup().to_numpy()
    index = groups.size().index
    cells = pd.MultiIndex.from_arrays([group, frame["seed"].to_numpy()])
    seed, _ = pd.factorize(cells)
    group_of_seed = np.zeros(seed.max(initial=-1) + 1, dtype=np.int64)
    group_of_seed[seed] = group
    seeds = np.bincount(group_of_seed, minlength=len(index))
    alone = seeds[group] == 1
    # a seed's rows are one cluster; those of an only seed are one each
    cluster, _ = pd.factorize(np.where(alone, len(group_of_seed) + np.arange(len(frame)), seed))
    size = np.bincount(cluster).astype(float)
    of = np.zeros(len(size), dtype=np.int64)
    of[cluster] = group
    means = np.bincount(cluster, frame[value].to_numpy(dtype=float)) / size
    n = np.bincount(of, minlength=len(index))
    mean = np.bincount(of, means, minlength=len(index)) / n
    squares = np.bincount(of, (means - mean[of]) ** 2, minlength=len(index))
    sd = np.sqrt(squares / np.where(n > 1, n - 1, np.nan))
    common = np.zeros(len(index)) if shared is None else _hidden(shared, cluster, size, of, n)
    half = half_width(n, sd, common=common)
    columns = {"n": n, "seeds": seeds, "mean": mean, "sd": sd, "common": common, "lo": mean - half, "hi": mean + half}
    return pd.DataFrame(columns, index=index)


class _Sums(NamedTuple):
    """Sums of the amounts per owner and component, in their order."""

    owner: Numbers
    component: Numbers
    amount: Floats

    def squares(self, owners: int) -> Floats:
        """Variance per owner: of independent components, but for neighbours, whose correlation is 1/2."""
        last = np.append((self.owner[1:] != self.owner[:-1]) | (np.diff(self.component) != 1), True)[: len(self.owner)]
        following = np.append(self.amount[1:], 0.0)[: len(self.owner)]
        variance = self.amount**2 + np.where(last, 0.0, self.amount * following)
        return np.asarray(np.bincount(self.owner, variance, minlength=owners), dtype=float)


def _sums(owner: Numbers, component: Numbers, amount: Floats) -> _Sums:
    n = int(component.max(initial=0)) + 1
    codes, place = np.unique(owner * n + component, return_inverse=True)
    return _Sums(codes // n, codes % n, np.asarray(np.bincount(place, amount, minlength=len(codes)), dtype=float))


def _hidden(shared: Shared, cluster: Numbers, size: Floats, group: Numbers, n: Numbers) -> Floats:
    """Standard uncertainty per group of what is shared, beyond what the scatter of the clusters shows of it.

    With a_kc the amount of component c in the mean of cluster k, its mean over the n clusters has the variance
    V(mean a). The squared standard error from the scatter holds (sum V(a_k) - n V(mean a)) / (n (n - 1)) of it: nothing
    of what all clusters have alike, and all of what each has of its own.

    Args:
        cluster: of each value; size: values of each cluster; group: of each cluster; n: clusters of each group.
    """
    if not len(shared.row):
        return np.zeros(len(n))
    owner = cluster[shared.row]
    each = _sums(owner, shared.component, shared.amount / size[owner])
    whole = _sums(group[each.owner], each.component, each.amount / n[group[each.owner]])
    total = whole.squares(len(n))
    apart = np.bincount(group, each.squares(len(size)), minlength=len(n)) - n * total
    visible = np.where(n > 1, apart / np.where(n > 1, n * (n - 1.0), 1.0), 0.0)
    return np.asarray(np.sqrt(np.maximum(total - visible, 0.0)))
