"""The energy model of inference that stops early: from the two ends, checked in between, and by arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from bench.analysis.early_exit import EnergyModel, exit_sentences, exit_table
from bench.analysis.findings import analyse
from bench.analysis.tables import exit_grid
from bench.read.results import Results, from_records

RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)


def results(bend_j: float = 0.0, runtime: str = "") -> Results:
    """100 images at 2 J for the full model and 1.4 J for the part, 1 % of scatter; more in the middle by `bend_j`."""
    lines: list[dict[str, Any]] = []
    for ratio in RATIOS:
        for seed in range(3):
            work = f"infer({runtime}ratio={ratio})"
            realised = min(1.0, max(0.0, ratio + (0.02 * (seed - 1) if 0 < ratio < 1 else 0.0)))
            one_j = (1.4 + (1 - realised) * 0.6 + bend_j * realised * (1 - realised)) * (1 + 0.01 * (seed - 1))
            exits = {
                "ratio": ratio, "realised": realised, "realised_of_window": realised, "threshold": 0.5,
                "accuracy_part": 0.6, "accuracy_full": 0.9, "calibration_error": 0.1, "cut": "blocks.8",
            }  # fmt: skip
            lines.append(
                {
                    "schema": 1, "cell_id": f"x/n=9/{work}/heads/s={seed}", "repeat": 0, "status": "ok", "data": "x",
                    "dataset": "x", "shift": "none", "level": "", "train_size": 9, "blocks": "", "method": "heads",
                    "arm": "heads", "seed": seed, "work": work, "exits": exits, "n_images": 100, "grade": "B",
                    "energy_gross_j": 100 * one_j, "train_time_s": 10.0, "accuracy_after": 0.6 + 0.3 * (1 - realised),
                    "accuracy_before": 0.1, "train_macs": round(1e6 * (0.62 + 0.38 * (1 - realised))),
                    "model": "m", "bn_mode": "eval", "started_at": "2026-01-01T00:00:00", "source": "simulated",
                }
            )  # fmt: skip
    return from_records(lines)


def test_the_model_by_hand() -> None:
    model = EnergyModel(10.0, 7.0, u_full=0.3, u_part=0.4)
    assert model.at(0.5) == 8.5
    assert model.saving(0.5) == pytest.approx(0.15)
    assert model.u_at(0.5) == pytest.approx(0.25)
    assert model.ratio_for(8.5) == pytest.approx(0.5)
    assert model.ratio_for(6.9) is None


def test_it_holds_where_joules_follow_it_and_says_what_macs_let_expect() -> None:
    table = exit_table(results())
    assert list(table["ratio"]) == [*RATIOS]
    inner = table[table["within"].notna()]
    assert list(inner["ratio"]) == [0.25, 0.5, 0.75]
    assert inner["within"].all()
    at_half = table.set_index("ratio").loc[0.5]
    assert at_half["saving"] == pytest.approx(0.15, abs=0.005)
    assert at_half["saving_macs"] == pytest.approx(0.19, abs=0.001)
    said = " ".join(exit_sentences(table))
    assert "3 of 3" in said
    assert "points more than it did" in said


def test_it_fails_where_they_do_not() -> None:
    table = exit_table(results(bend_j=0.5))
    assert not table["within"].dropna().any()
    assert "0 of 3" in exit_sentences(table)[0]


@pytest.mark.parametrize("make", [results, lambda: results(runtime="runtime=onnx-int8,")])
def test_the_table_of_the_report_has_a_row_for_each_ratio(make: Callable[[], Results]) -> None:
    found = make()
    grid = exit_grid(found, analyse(found))
    assert len(grid.rows) == 5
    assert [row[5].text.rpartition(" ")[2] for row in grid.rows[1:4]] == ["holds"] * 3


def test_without_both_ends_there_is_no_model() -> None:
    found = results()
    part = found.records[~found.records["work"].str.contains("ratio=1.0")]
    assert exit_table(dataclasses.replace(found, records=part)).empty
