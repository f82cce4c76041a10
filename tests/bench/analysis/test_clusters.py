"""Means over seeds with what a meter has in common for all of them, by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.analysis import analyse, from_records
from bench.analysis.clusters import Shared, clustered
from bench.analysis.sentences import headline_sentences, shift_sentences
from bench.analysis.statistics import SHRINK, t_interval
from bench.analysis.tables import grids
from bench.store.manifest import Manifest

T2 = 4.302653
"""Quantile of two degrees of freedom at 97.5 %."""


def frame(values: list[list[float]]) -> pd.DataFrame:
    """One list per seed."""
    rows = [(0, seed, value) for seed, repeats in enumerate(values) for value in repeats]
    return pd.DataFrame(rows, columns=["key", "seed", "x"])


def shared(entries: list[tuple[int, int, float]]) -> Shared:
    row, component, amount = zip(*entries, strict=True)
    return Shared(np.array(row), np.array(component), np.array(amount, dtype=float))


def test_repeats_of_a_seed_are_one_value() -> None:
    table = clustered(frame([[1.0, 3.0], [4.0, 4.0, 4.0], [6.0]]), "x", ["key"]).loc[0]
    alone = t_interval([2.0, 4.0, 6.0])
    assert (table["n"], table["seeds"], table["mean"], table["sd"]) == (3, 3, 4.0, 2.0)
    assert (table["lo"], table["hi"]) == pytest.approx((alone.lo, alone.hi))


def test_repeats_of_an_only_seed_are_the_unit() -> None:
    table = clustered(frame([[1.0, 2.0, 3.0]]), "x", ["key"]).loc[0]
    assert (table["n"], table["seeds"], table["hi"]) == (3, 1, pytest.approx(2 + T2 / math.sqrt(3)))


def test_what_all_seeds_have_in_common_is_added_whole() -> None:
    table = clustered(frame([[1.0], [2.0], [3.0]]), "x", ["key"], shared([(n, 5, 0.5) for n in range(3)])).loc[0]
    error = 1 / math.sqrt(3)
    drawn_in = error**2 / (error**2 + SHRINK * 0.25)
    assert table["common"] == pytest.approx(0.5)
    assert table["hi"] - table["mean"] == pytest.approx(math.hypot(1.959964 * 0.5, T2 * error * drawn_in), rel=1e-6)


def test_what_each_seed_has_of_its_own_is_in_their_scatter_already() -> None:
    table = clustered(frame([[1.0], [2.0], [3.0]]), "x", ["key"], shared([(n, 5 * n, 0.5) for n in range(3)])).loc[0]
    assert table["common"] == pytest.approx(0.0, abs=1e-12)


def test_baselines_in_a_row_have_one_measurement_in_common() -> None:
    one_seed = frame([[1.0, 1.0]])
    apart = clustered(one_seed.assign(seed=[0, 0]).head(1), "x", ["key"], shared([(0, 2, 0.5), (0, 4, 0.5)])).loc[0]
    beside = clustered(one_seed.head(1), "x", ["key"], shared([(0, 2, 0.5), (0, 3, 0.5)])).loc[0]
    assert apart["common"] == pytest.approx(math.sqrt(0.5))
    assert beside["common"] == pytest.approx(math.sqrt(0.75))


# -- through analyse -----------------------------------------------------------------------------------


def line(arm: str, seed: int, joules: float | None = None, accuracy: float = 0.5, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "cell_id": f"d/{arm}/s={seed}", "repeat": 0, "status": "ok", "dataset": "d", "shift": "n", "level": "input",
        "data": "d", "train_size": 0.1, "blocks": arm, "seed": seed, "method": "fixed", "model": "m",
        "bn_mode": "train", "started_at": "2025", "accuracy_after": accuracy, "target_block": "block1",
    }  # fmt: skip
    if joules is not None:
        fields |= {"energy_gross_j": joules, "energy_net_j": joules / 2, "train_time_s": joules / 4}
        fields |= {"source": "m", "source_kind": "power", "grade": "A", "idle_power_w": 2.0}
    return fields | more


def budget(gain: float = 0.0, offset: float = 0.0, idle: float = 0.0, gross: float = 0.0) -> dict[str, Any]:
    """Terms of a record: what a gain of so much makes of `gross`, and joules of the others."""
    return {
        "energy_terms": [
            {"name": "gain", "gross_j": gain * gross, "net_j": gain * gross / 2, "basis": "b", "common": "source"},
            {"name": "offset", "gross_j": offset, "net_j": 0.0, "basis": "b", "common": "source"},
            {"name": "edge", "gross_j": 9.0, "net_j": 9.0, "basis": "b", "common": None},
            {"name": "idle", "gross_j": 0.0, "net_j": idle, "basis": "b"},
        ]
    }


def run(**terms: float) -> list[dict[str, Any]]:
    """Three seeds whose ratios differ by 1 %."""
    made = []
    for seed, change in enumerate((0.99, 1.0, 1.01)):
        for arm, joules in (("block1", 60 * change), ("fc", 30 * change), ("full", 100.0)):
            made.append(line(arm, seed, joules, **budget(gross=joules, **terms)))
    return made


def arm(records: list[dict[str, Any]], name: str) -> pd.Series:
    blocks = analyse(from_records(records)).blocks
    row: pd.Series = blocks[blocks["arm"] == name].iloc[0]
    return row


def test_the_gain_is_in_joules_and_cancels_in_savings() -> None:
    exact, off = arm(run(), "fc"), arm(run(gain=0.05), "fc")
    assert off["saving_gross_hi"] == pytest.approx(exact["saving_gross_hi"])
    assert off["saving_net_hi"] == pytest.approx(exact["saving_net_hi"])
    half = off["energy_gross_hi_j"] - off["energy_gross_j"]
    scatter = exact["energy_gross_hi_j"] - exact["energy_gross_j"]
    assert half > 1.96 * 0.05 * 30
    assert half < math.hypot(1.96 * 0.05 * 30, scatter) + 1e-9
    assert off["energy_gain"] == pytest.approx(0.05)


def test_the_idle_baseline_does_not_cancel_in_net_savings() -> None:
    # 0.3 J of 15 J of fc and 0.3 J of 50 J of full: 2 % less 0.6 %
    exact, off = arm(run(), "fc"), arm(run(idle=0.3), "fc")
    assert off["saving_gross_hi"] == pytest.approx(exact["saving_gross_hi"])
    low, high = (math.log(1 - off[f"saving_net_{end}"]) for end in ("hi", "lo"))
    assert (high - low) / 2 >= 1.96 * (0.02 - 0.006)
    apart = [one | {"idle_power_w": 2 + 0.001 * one["seed"], "session": one["seed"]} for one in run(idle=0.3)]
    own = arm(apart, "fc")  # a baseline of its own for each seed is in the scatter of the seeds
    assert own["saving_net_hi"] == pytest.approx(exact["saving_net_hi"], rel=1e-3)


def test_a_run_without_budgets_has_the_terms_of_its_manifest() -> None:
    records = [{key: value for key, value in one.items() if key != "energy_terms"} for one in run()]
    records = [one | {"train_time_s": 10.0} for one in records]
    idle = {"power_w": 2.0, "u_power_w": 0.1, "duration_s": 30.0, "n_samples": 9, "started_at": "2025"}
    manifest = Manifest.of(
        {"source": {"name": "m", "kind": "power", "gain_u": 0.05}, "sessions": [{"idle": [idle]}]}, []
    )
    made = dataclasses.replace(from_records(records), manifests=(manifest,))
    blocks = analyse(made).blocks.set_index("arm")
    exact = arm(run(), "fc")
    assert blocks.loc["fc", "energy_gross_hi_j"] > exact["energy_gross_hi_j"] + 1
    assert blocks.loc["fc", "saving_net_hi"] > exact["saving_net_hi"]
    assert blocks.loc["fc", "saving_gross_hi"] == pytest.approx(exact["saving_gross_hi"])


def test_a_table_and_a_headline_of_one_rate_print_one_interval() -> None:
    rng = np.random.default_rng(0)
    records = [one | {"energy_gross_j": one["energy_gross_j"] * rng.uniform(0.7, 1.3)} for one in run()]
    analysis = analyse(from_records(records))
    rows, head = analysis.blocks.set_index("arm"), analysis.headlines
    for name, estimate in (("Block Avg", head.saving_average), ("block1", head.saving_target)):
        row = rows.loc[name]
        printed = (row["saving_gross"], row["saving_gross_lo"], row["saving_gross_hi"])
        assert (estimate.mean, estimate.lo, estimate.hi) == pytest.approx(printed)
        assert (estimate.n, estimate.degrees, row["saving_gross_n"]) == (3, 2, 3)


def test_what_an_interval_is_of_is_said_with_it() -> None:
    results = from_records(run(gain=0.05))
    analysis = analyse(results)
    notes = {grid.name: grid.note for grid in grids(results, analysis)}
    assert "n = 3 seeds, 2 degrees of freedom" in notes["energy"]
    assert (
        "absolute, so gain (standard uncertainty 5 %), zero and idle baseline of the meter are in it" in notes["energy"]
    )
    assert "a ratio, so the meter's gain is not in the interval" in notes["energy_saving"]
    assert "95 % interval of this mean over 3 seeds, 2 degrees of freedom" in headline_sentences(analysis)[1]
    one = [
        line(name, 0, joules + n, repeat=n)
        for name, joules in (("block1", 60.0), ("fc", 30.0), ("full", 100.0))
        for n in range(3)
    ]
    results = from_records(one)
    notes = {grid.name: grid.note for grid in grids(results, analyse(results))}
    assert "n = 3 repeats of one seed, so the intervals hold for that seed only" in notes["energy_saving"]
    assert "over 3 repeats of one seed, for that seed only" in headline_sentences(analyse(results))[1]


# -- ties -----------------------------------------------------------------------------------------------


def test_a_tie_is_called_a_tie() -> None:
    tie = [
        line(name, seed, accuracy=value)
        for name, value in (("block1", 0.9), ("fc", 0.9), ("block2", 0.4))
        for seed in range(3)
    ]
    analysis = analyse(from_records(tie))
    assert analysis.shifts["winner_tied"].tolist() == ["block1 and fc"]
    assert "block1 and fc tie" in shift_sentences(analysis)[0]
    two = [*tie, *(one | {"train_size": 0.2} for one in tie)]
    assert "block1 and fc tie" in shift_sentences(analyse(from_records(two)))[0]
    led = [one | {"accuracy_after": 0.95} if one["train_size"] == 0.2 and one["blocks"] == "fc" else one for one in two]
    assert "fc alone is clearly better" in shift_sentences(analyse(from_records(led)))[0]
