"""Tables and sentences of the variants: what each way of training costs, and where a saving comes from."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from bench.analysis.statistics import Estimate
from bench.analysis.tables import Entry, Grid
from bench.analysis.variants import Share, Side, shares, sides, variant_order
from bench.analysis.wording import MISSING, interval, joules, missing, percent, repetitions, size_label
from bench.read.results import Results


def variant_grids(results: Results) -> list[Grid]:
    """Both tables; none where a run trained in one way only."""
    made = [_cost_grid(results, sides(results)), _share_grid(shares(results))]
    return [grid for grid in made if grid.rows]


def share_sentences(results: Results) -> list[str]:
    """One sentence per variant: what tuning single blocks saves, and how much of that is the choice."""
    found = shares(results)
    said = []
    for variant in dict.fromkeys(share.variant for share in found):
        part = [share for share in found if share.variant == variant]
        saved, choice = _mean(part, lambda share: share.saved), _mean(part, lambda share: share.choice)
        if saved is None or choice is None:
            continue
        said.append(
            f"Tuning part of the net with {variant} saves {percent(saved)} of the {part[0].of} of tuning all of it "
            f"with {variant_order(results)[0]}, on average over {len(part)} cases: {percent(choice, 0)} of that comes "
            f"from the choice of what to tune, {percent(1 - choice, 0)} from the way of training."
        )
    return said


def _cost_grid(results: Results, found: list[Side]) -> Grid:
    first = variant_order(results)[0] if found else ""
    unit = "J, gross" if any(side.energy_j is not None for side in found) else "J: not measured"
    rows = tuple(
        (
            Entry(f"{side.data}, {size_label(side.size, side.n_train)}"),
            Entry(side.arm),
            Entry(side.variant or MISSING),
            Entry(_plain(side.time_s, " s")),
            Entry(_times(side.speedup) if side.variant != first else "1"),
            Entry(joules(side.energy_j)),
            Entry(_times(side.energy_ratio) if side.variant != first else "1"),
            Entry(_plain(side.peak_rss_mb, " MB")),
            Entry(_share(side.accuracy, 1)),
        )
        for side in found
    )
    pairs = pd.Series([side.speedup.n for side in found if side.variant != first], dtype=float)
    return Grid(
        name="variants",
        title="Ways of training",
        header=("Data", "Tuned", "Training", "Time", "Faster by", "Energy", "Less by", "Peak memory", "Accuracy"),
        labels=3,
        rows=rows,
        note=(
            f"One fine-tuning, validation included; energy in {unit}; accuracy in %. `Faster by` and `less by` are "
            f"ratios of {first} to the row, geometric means with 95 % interval, paired by seed and repeat; "
            f"{repetitions(pairs, 'pair')}."
        ),
    )


def _share_grid(found: list[Share]) -> Grid:
    of = found[0].of if found else "energy"
    rows = tuple(
        (
            Entry(f"{share.data}, {size_label(share.size, share.n_train)}"),
            Entry(share.arm),
            Entry(share.variant),
            Entry(_share(share.saved, 1)),
            Entry(_share(share.choice, 0)),
            Entry(MISSING if share.choice.mean is None else _plain(100 * (1 - share.choice.mean), "")),
        )
        for share in found
    )
    return Grid(
        name="shares",
        title="Where the saving comes from",
        header=("Data", "Tuned", "Training", f"{of.capitalize()} saved", "by the choice", "by the training"),
        labels=3,
        rows=rows,
        note=(
            f"{of.capitalize()} saved against tuning everything in the first way of training, in %, with 95 % "
            "interval, paired by seed and repeat; and what percentage of it comes from the choice of what to tune and "
            "from the way of training: the mean over both orders of changing one after the other."
        ),
    )


def _times(ratio: Estimate) -> str:
    if ratio.mean is None:
        return MISSING
    if ratio.lo is None or ratio.hi is None:
        return f"{ratio.mean:.3g}"
    return f"{ratio.mean:.3g} [{ratio.lo:.3g}, {ratio.hi:.3g}]"


def _share(estimate: Estimate, digits: int) -> str:
    if estimate.mean is None or missing(estimate.mean):
        return MISSING
    return f"{100 * estimate.mean:.{digits}f} {interval(estimate.lo, estimate.hi, digits)}".strip()


def _plain(value: float | None, unit: str) -> str:
    return MISSING if value is None else f"{value:.3g}{unit}"


def _mean(part: list[Share], of: Callable[[Share], Estimate]) -> float | None:
    values = [mean for share in part if (mean := of(share).mean) is not None]
    return sum(values) / len(values) if values else None
