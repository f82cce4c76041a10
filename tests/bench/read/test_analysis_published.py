"""The published tables, through the same functions as a run."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from bench.analysis import Results, analyse, load, motivation
from bench.catalog.paper import reference_dir


@pytest.fixture(scope="module")
def paper() -> Results:
    return load("paper")


def test_headlines_are_the_published_ones(paper: Results) -> None:
    head = analyse(paper).headlines
    assert round(100 * head.gain.mean, 2) == 15.31
    assert head.gain_groups == 9
    assert round(100 * head.saving_average.mean, 2) == 41.57
    assert head.saving_groups == 2
    assert head.gain.lo is head.saving_average.lo is None  # one printed mean is no sample


def test_block_average_from_the_blocks_agrees_with_the_printed_one(paper: Results) -> None:
    printed = analyse(paper)
    ours = analyse(dataclasses.replace(paper, records=paper.records[paper.records["role"] != "average"]))
    keys = ["data", "train_size", "arm"]
    both = printed.blocks.merge(ours.blocks, on=keys, suffixes=("", "_ours"))
    both = both[(both["arm"] == "Block Avg") & both["accuracy"].notna()]
    assert len(both) == 9
    off = (
        (both["accuracy"] - both["accuracy_ours"]).abs().set_axis([*zip(both["data"], both["train_size"], strict=True)])
    )
    # the table itself is off by 0.16 points in one place; the report says so
    assert off.pop(("cifar10-flip", 0.2)) == pytest.approx(0.00155)
    # 0.01 points: the printed figure and each of its four parts are rounded to that
    assert off.max() <= 0.0001
    assert 100 * ours.headlines.gain.mean == pytest.approx(15.31, abs=0.025)


def test_savings_agree_with_the_printed_ones(paper: Results) -> None:
    table = pd.read_csv(reference_dir() / "tbft_system_cost.csv").dropna()
    blocks = analyse(paper).blocks.set_index(["data", "arm"])["saving_gross"]
    for row in table.to_dict("records"):
        arm = "Block Avg" if row["block"] == "block_avg" else row["block"]
        assert 100 * blocks[(f"one step at {row['resolution']} px", arm)] == pytest.approx(
            row["energy_saving_percent"], abs=0.005001
        )


def test_printed_spread_is_carried_and_n_is_not_invented(paper: Results) -> None:
    analysis = analyse(paper)
    blocks = analysis.blocks.set_index(["data", "train_size", "arm"])
    assert blocks.loc[("cifar10c", 0.1, "block1"), "accuracy_sd"] == pytest.approx(0.0022)
    assert blocks.loc[("cifar10c", 0.1, "Block Avg"), "accuracy_sd"] == pytest.approx(0.0010)
    assert blocks["accuracy_n"].isna().all()
    assert blocks["saving_gross_n"].isna().all()
    assert analysis.shifts["gain_n"].isna().all()


def test_the_target_wins_every_published_shift(paper: Results) -> None:
    shifts = analyse(paper).shifts
    with_level = shifts[shifts["level"] != ""]
    assert (with_level["winner_winner"] == with_level["target"]).all()
    assert {answer.clear for answer in analyse(paper).answers} == {None}  # without n nothing can be clear


def test_motivation_has_targets_but_no_headline() -> None:
    analysis = analyse(motivation())
    assert analysis.shifts["target"].tolist() == ["block1", "block2", "block3", "fc"]
    assert analysis.shifts["gain"].round(4).tolist() == [0.2370, 0.1502, 0.2083, 0.1621]
    assert analysis.headlines.gain.n == 0


def test_theory_beside_the_printed_savings(paper: Results) -> None:
    table = analyse(paper).blocks.set_index(["data", "arm"])
    for pixels in (32, 128):
        of = table.loc[f"one step at {pixels} px", "saving_step"]
        expected = {"block1": 21.62, "block2": 34.14, "block3": 44.95, "fc": 66.58, "Block Avg": 41.82}
        assert {arm: round(100 * of[arm], 2) for arm in expected} == pytest.approx(expected, abs=0.011)
    # the tables' own step is the whole of what was timed
    costs = table[table["saving_step"].notna()]
    assert (costs["saving_theory"] == costs["saving_step"]).all()
