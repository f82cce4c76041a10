"""Gains, savings and winners on records small enough to compute by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.analysis import Analysis, analyse, from_records, load
from bench.analysis.sentences import headline_sentences
from bench.errors import RequestError
from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir


def line(
    blocks: str,
    accuracy: float | None = None,
    joules: float | None = None,
    *,
    seed: int = 0,
    repeat: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """A line of cells.jsonl; joules bring a source with them."""
    size, data, level = more.pop("train_size", 0.1), more.pop("data", "digits-noise"), more.pop("level", "input")
    fields: dict[str, Any] = {
        "cell_id": f"{data}/n={size:g}/{blocks}/s={seed}",
        "repeat": repeat,
        "status": "ok",
        "dataset": "digits",
        "shift": "noise",
        "level": level,
        "data": data,
        "train_size": size,
        "blocks": blocks,
        "seed": seed,
        "method": "fixed",
        "model": "resnet8",
        "bn_mode": "train",
        "started_at": "2025-01-01T00:00:00+00:00",
        "accuracy_after": accuracy,
        "energy_gross_j": joules,
    }
    if joules is not None:
        fields |= {"source": "meter", "source_kind": "power", "grade": "A"}
    result: dict[str, Any] = json.loads(Record(**fields | more).to_json())
    return result


def analysed(*lines: dict[str, Any]) -> Analysis:
    return analyse(from_records(lines))


def arm(analysis: Analysis, name: str) -> pd.Series:
    rows = analysis.blocks[analysis.blocks["arm"] == name]
    assert len(rows) == 1
    return rows.iloc[0]


def test_gain_by_hand() -> None:
    analysis = analysed(
        line("block1", 0.9), line("block2", 0.6), line("fc", 0.3), line("full", 0.99), line("block1+fc", 0.1)
    )
    assert arm(analysis, "Block Avg")["accuracy"] == pytest.approx(0.6)  # neither full nor a set is in it
    assert analysis.shifts.loc[0, "gain"] == pytest.approx(0.3)
    assert math.isnan(analysis.shifts.loc[0, "gain_lo"])
    assert analysis.headlines.gain.mean == pytest.approx(0.3)
    assert analysis.headlines.gain.lo is None


def test_gain_is_paired_by_seed() -> None:
    # the seeds differ by 40 points, block1 and block2 by 10 in each: paired, the gain has no spread at all
    analysis = analysed(
        *(line("block1", value, seed=seed) for seed, value in enumerate((0.5, 0.9))),
        *(line("block2", value, seed=seed) for seed, value in enumerate((0.4, 0.8))),
    )
    row = analysis.shifts.iloc[0]
    assert (row["gain"], row["gain_lo"], row["gain_hi"]) == pytest.approx((0.05, 0.05, 0.05))
    assert analysis.answers[0].clear is True
    assert arm(analysis, "block1")["accuracy_hi"] > 1.5  # what an unpaired interval would have to live with


def test_a_seed_without_every_block_is_in_no_average() -> None:
    # unpaired, Block Avg would be the mean of 0.7 and 0.4, and the gain 0.15
    analysis = analysed(
        line("block1", 0.5, seed=0),
        line("block1", 0.9, seed=1),
        line("block2", 0.4, seed=0),
        line("block2", seed=1, status="failed"),
    )
    assert arm(analysis, "block1")["accuracy"] == pytest.approx(0.7)
    assert arm(analysis, "Block Avg")["accuracy"] == pytest.approx(0.45)
    assert analysis.shifts.loc[0, "gain"] == pytest.approx(0.05)
    assert analysis.shifts.loc[0, "gain_n"] == 1


def test_a_block_that_never_finished_leaves_no_average() -> None:
    analysis = analysed(line("block1", 0.5), line("block2", 0.4), line("fc", status="timeout"))
    assert "Block Avg" not in set(analysis.blocks["arm"])
    assert math.isnan(analysis.shifts.loc[0, "gain"])
    assert analysis.headlines.gain.mean is None


def test_one_block_is_no_average() -> None:
    analysis = analysed(line("block1", 0.5), line("full", 0.4))
    assert "Block Avg" not in set(analysis.blocks["arm"])


def test_repeats_are_averaged_within_their_seed_first() -> None:
    analysis = analysed(*(line("fc", 0.6, repeat=n) for n in range(3)), line("fc", 0.9, seed=1))
    row = arm(analysis, "fc")
    assert row["accuracy"] == pytest.approx(0.75)  # pooled it would be 0.675
    assert row["accuracy_n"] == 2


def test_saving_is_the_geometric_mean_of_pairs() -> None:
    analysis = analysed(
        line("fc", joules=10.0, repeat=0), line("full", joules=20.0, repeat=0),
        line("fc", joules=40.0, repeat=1), line("full", joules=100.0, repeat=1),
        line("fc", joules=7.0, repeat=2),  # no full to pair with
    )  # fmt: skip
    row = arm(analysis, "fc")
    assert row["saving_gross"] == pytest.approx(1 - math.sqrt(0.5 * 0.4))  # unpaired: 1 - 19 / 60
    assert row["saving_gross_n"] == 2
    half = 12.706205 * math.log(0.5 / 0.4) / 2
    assert row["saving_gross_lo"] == pytest.approx(1 - math.sqrt(0.2) * math.exp(half), rel=1e-6)
    assert row["saving_gross_hi"] == pytest.approx(1 - math.sqrt(0.2) * math.exp(-half), rel=1e-6)
    assert math.isnan(row["saving_net"])


def test_pairs_need_the_same_seed_and_the_same_repeat() -> None:
    analysis = analysed(line("fc", joules=10.0, seed=0, repeat=1), line("full", joules=20.0, seed=0, repeat=0))
    assert arm(analysis, "fc").get("saving_gross_n", 0) != 1
    assert analysis.headlines.saving_average.n == 0


def test_average_of_savings_is_the_mean_of_the_blocks_rates() -> None:
    lines = [line(name, joules=value, repeat=n) for n, row in enumerate(((30.0, 60.0, 100.0), (20.0, 70.0, 110.0)))
             for name, value in zip(("fc", "block1", "full"), row, strict=True)]  # fmt: skip
    analysis = analysed(*lines)
    rates = [arm(analysis, name)["saving_gross"] for name in ("fc", "block1")]
    average = arm(analysis, "Block Avg")
    assert average["saving_gross"] == pytest.approx(sum(rates) / 2, rel=1e-12)
    assert average["saving_gross_lo"] < average["saving_gross"] < average["saving_gross_hi"]
    assert analysis.headlines.saving_average.mean == pytest.approx(sum(rates) / 2)
    assert analysis.headlines.saving_target.mean == pytest.approx(rates[1])
    assert average["energy_gross_j"] == pytest.approx(45.0)


def test_net_that_is_not_positive_has_no_rate_and_is_counted() -> None:
    analysis = analysed(line("fc", joules=10.0, energy_net_j=-1.0), line("full", joules=20.0, energy_net_j=10.0))
    row = arm(analysis, "fc")
    assert row["saving_gross"] == pytest.approx(0.5)
    assert math.isnan(row["saving_net"])
    assert analysis.quality.net_not_positive == 1


def test_null_joules_stay_null() -> None:
    analysis = analysed(line("block1", 0.9), line("fc", 0.5), line("full", 0.7))
    assert analysis.blocks[["energy_gross_j", "energy_net_j", "saving_gross"]].isna().all(axis=None)
    assert analysis.cells[["energy_gross_j:mean", "energy_u_j"]].isna().all(axis=None)
    assert not analysis.quality.has_joules
    assert analysis.quality.without_joules == 3
    assert analysis.shifts.loc[0, "gain"] == pytest.approx(0.2)


def test_failed_repeats_are_counted_and_never_averaged() -> None:
    analysis = analysed(
        line("fc", 0.8, 10.0),
        line("fc", 0.0, 999.0, repeat=1, status="failed", error="out of memory"),
        line("fc", 0.0, repeat=2, status="timeout"),
    )
    row = arm(analysis, "fc")
    assert (row["accuracy"], row["energy_gross_j"], row["ok"]) == (0.8, 10.0, 1)
    assert analysis.quality.statuses == {"ok": 1, "failed": 1, "timeout": 1}
    assert [(lost.repeat, lost.status, lost.error) for lost in analysis.quality.failures] == [
        (1, "failed", "out of memory"),
        (2, "timeout", ""),
    ]
    cell = analysis.cells.iloc[0]
    assert (cell["repeats"], cell["ok"], cell["failed"], cell["timeout"]) == (3, 1, 1, 1)


def test_a_run_where_everything_failed() -> None:
    analysis = analysed(line("fc", status="failed", error="no"), line("full", status="failed"))
    assert analysis.blocks["accuracy"].isna().all()
    assert analysis.headlines.gain.n == 0
    assert analysis.quality.statuses == {"failed": 2}


def test_grade_x_has_no_joules_but_keeps_its_accuracy() -> None:
    analysis = analysed(
        line("fc", 0.8, 10.0),
        line("fc", 0.6, 1e6, seed=1, grade="X"),
        line("full", 0.5, 20.0),
        line("full", 0.5, 20.0, seed=1),
    )
    row = arm(analysis, "fc")
    assert row["energy_gross_j"] == 10.0
    assert row["saving_gross_n"] == 1
    assert row["accuracy"] == pytest.approx(0.7)
    assert analysis.quality.excluded_x == 1
    assert analysis.quality.grades == {"A": 3, "X": 1}


def test_a_lead_within_the_noise_is_not_clear() -> None:
    analysis = analysed(
        *(line("block1", value, seed=seed) for seed, value in enumerate((0.60, 0.90))),
        *(line("fc", value, seed=seed) for seed, value in enumerate((0.65, 0.80))),
    )
    answer = analysis.answers[0]
    assert (analysis.shifts.loc[0, "winner_winner"], answer.second, answer.clear) == ("block1", "fc", False)


def test_the_most_frugal_block() -> None:
    analysis = analysed(
        *(
            line(name, 0.5, value * (1 + n), repeat=n)
            for n in range(3)
            for name, value in (("fc", 1.0), ("block1", 2.0))
        )
    )
    assert analysis.shifts.loc[0, "frugal_winner"] == "fc"


def test_a_method_that_chooses_stands_under_its_own_name() -> None:
    analysis = analysed(line("block1", 0.9), line("fc", 0.5), line("block1", 0.1, method="auto", repeat=1))
    assert arm(analysis, "auto")["accuracy"] == 0.1
    assert arm(analysis, "block1")["accuracy"] == 0.9
    assert arm(analysis, "Block Avg")["accuracy"] == pytest.approx(0.7)


def test_order_of_rows_and_columns() -> None:
    names = ["full", "block1+fc", "fc", "block10", "block2"]
    analysis = analysed(*(line(name, 0.5, data=data) for data in ("z", "a") for name in names))
    assert analysis.blocks["data"].drop_duplicates().tolist() == ["z", "a"]
    expected = ["block2", "block10", "fc", "Block Avg", "full", "block1+fc"]
    assert analysis.blocks.loc[analysis.blocks["data"] == "z", "arm"].tolist() == expected


def test_headline_averages_shifts_within_a_seed_first() -> None:
    # the gains of the two shifts move against each other: their mean per seed does not move at all
    gains = {"a": (0.1, 0.3), "b": (0.3, 0.1)}
    analysis = analysed(
        *(
            line("block1", 0.5 + gain, seed=seed, data=data)
            for data, row in gains.items()
            for seed, gain in enumerate(row)
        ),
        *(line("fc", 0.5 - gain, seed=seed, data=data) for data, row in gains.items() for seed, gain in enumerate(row)),
    )
    head = analysis.headlines
    assert (head.gain.mean, head.gain.lo, head.gain.n, head.gain_groups) == (
        pytest.approx(0.2),
        pytest.approx(0.2),
        2,
        2,
    )


def test_wilson_interval_of_a_cell() -> None:
    analysis = analysed(line("fc", 0.8, n_test=10))
    cell = analysis.cells.iloc[0]
    assert (cell["wilson_lo"], cell["wilson_hi"]) == (
        pytest.approx(0.490162, abs=1e-6),
        pytest.approx(0.943318, abs=1e-6),
    )


# -- reading -----------------------------------------------------------------------------------------


def write(path: Path, *lines: dict[str, Any], manifest: dict[str, Any] | None = None) -> RunDir:
    path.mkdir(parents=True)
    run = RunDir(path)
    run.cells_path.write_text("".join(json.dumps(entry) + "\n" for entry in lines), encoding="utf-8")
    if manifest is not None:
        run.write_manifest(Manifest.of(manifest, []))
    return run


def test_load_takes_title_and_records(tmp_path: Path) -> None:
    run = write(tmp_path / "r", line("fc", 0.5), manifest={"suite": {"name": "n", "title": "A title"}})
    for given in (run, run.path, str(run.path)):
        results = load(given)
        assert (results.title, results.runs, len(results.records)) == ("A title", ("r",), 1)
    assert load(write(tmp_path / "bare", line("fc", 0.5))).title == "bare"


def test_runs_are_never_paired_with_each_other(tmp_path: Path) -> None:
    one = write(tmp_path / "one", line("fc", 0.9, 10.0), line("block1", 0.8, 10.0, data="only-here"))
    two = write(tmp_path / "two", line("full", 0.8, 20.0), line("block1", 0.1))
    analysis = analyse(load(one, two))
    assert set(analysis.blocks["data"]) == {"one: digits-noise", "two: digits-noise", "only-here"}
    assert analysis.blocks["saving_gross"].dropna().empty
    assert analysis.shifts["gain"].isna().all()


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [write(tmp_path / place / "run", line("fc", 0.5)) for place in ("a", "b")]
    assert load(*runs).runs == ("run", "run (2)")


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no run given"):
        load()
    with pytest.raises(RequestError, match="not a run folder"):
        load(tmp_path / "nothing")
    with pytest.raises(RequestError, match="no finished repeat"):
        load(write(tmp_path / "empty"))
    with pytest.raises(RequestError, match="has energy_gross_j 'many'"):
        load(write(tmp_path / "odd", line("fc", 0.5) | {"energy_gross_j": "many"}))


@pytest.mark.long
def test_a_hundred_thousand_records(tmp_path: Path) -> None:
    lines = [json.dumps(line(name, 0.5 + n / 100, 10.0 + n, seed=0)) for n, name in enumerate(("block1", "fc", "full"))]
    run = RunDir(tmp_path)
    with run.cells_path.open("w", encoding="utf-8") as file:
        for seed in range(33_334):
            file.writelines(
                entry.replace("s=0", f"s={seed}").replace('"seed": 0', f'"seed": {seed}') + "\n" for entry in lines
            )
    analysis = analyse(load(run))
    assert len(analysis.cells) == analysis.quality.records == 100_002
    assert analysis.shifts.loc[0, "gain_n"] == 33_334
    assert analysis.headlines.saving_average.mean == pytest.approx(1 - 10.5 / 12)


def test_two_runs_of_one_suite_are_two_results(tmp_path: Path) -> None:
    blocks = {"block1": 0.9, "fc": 0.5, "full": 0.95}
    for name, lost in (("a", 0.0), ("b", 0.2)):
        RunDir(tmp_path / name).path.mkdir()
        lines = [
            line(block, value - (lost if block == "block1" else 0), 10.0, seed=seed, target_block="block1")
            for block, value in blocks.items()
            for seed in range(2)
        ]
        (tmp_path / name / "cells.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    analysis = analyse(load(tmp_path / "a", tmp_path / "b"))
    assert analysis.headlines.gain.mean is None
    assert [head.run for head in analysis.apart] == ["a", "b"]
    assert [head.gain.mean for head in analysis.apart] == pytest.approx([0.2, 0.1])
    assert [head.gain_groups for head in analysis.apart] == [1, 1]
    told = headline_sentences(analysis)
    assert len(told) == 4
    assert told[0].startswith(
        "a: The paper's gain: the target block is 20.0 [20.0, 20.0] points more accurate than Block Avg"
    )
    assert told[2].startswith("b: The paper's gain: the target block is 10.0 [10.0, 10.0] points more accurate")
    assert all("over 1 case of shift" in sentence for sentence in (told[0], told[2]))
    alone = analyse(load(tmp_path / "a"))
    assert (alone.apart, alone.headlines.gain.mean) == ((), pytest.approx(0.2))
