"""A run beside the published tables of MicroT: the tables' own ratios, verdicts, and nothing in common."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.catalog.paper import reference_dir
from bench.compare.with_microt import beside_microt, lines
from bench.errors import RequestError
from bench.read.results import Results, from_records


def results(joules: dict[str, float], accuracy: dict[str, float]) -> Results:
    lines_: list[dict[str, Any]] = []
    for arm, mean_j in joules.items():
        for seed in range(3):
            lines_.append(
                {
                    "schema": 1, "cell_id": f"x/n=9/{arm}/s={seed}", "repeat": 0, "status": "ok", "data": "x",
                    "dataset": "x", "shift": "none", "level": "", "train_size": 9, "arm": arm, "seed": seed,
                    "blocks": arm if arm in ("fc", "full") else "", "method": "fixed" if arm in ("fc", "full") else arm,
                    "grade": "B", "energy_gross_j": mean_j * (1 + 0.01 * seed), "train_time_s": 10.0,
                    "accuracy_after": accuracy[arm] + 0.01 * seed, "accuracy_before": 0.1, "model": "m",
                    "bn_mode": "eval", "started_at": "2026-01-01T00:00:00", "source": "simulated",
                }
            )  # fmt: skip
    return from_records(lines_)


def test_the_tables_hold_the_printed_ratios() -> None:
    training = pd.read_csv(reference_dir() / "microt_training.csv")
    wide = training.pivot_table(index=["board", "model"], columns="method", values="energy_kj")
    assert [f"{one:.2f}" for one in wide["tinytl"] / wide["microt"]] == ["2.09", "2.15", "2.03", "2.28"]
    accuracy = pd.read_csv(reference_dir() / "microt_accuracy.csv")
    means = accuracy.set_index(["model", "method"]).mean(axis=1).round(2)
    assert means["mcunet", "microt"] == 62.33
    assert means["proxyless", "tinytl"] == 58.15


def test_a_run_that_does_as_published_agrees_and_another_differs() -> None:
    run = results(
        {"heads": 10, "fc": 9.8, "tinytl": 21, "full": 30}, {"heads": 0.8, "fc": 0.72, "tinytl": 0.5, "full": 0.7}
    )
    found = {one.what: one for one in beside_microt(run)}
    assert found["training joules of tinytl / heads"].value == pytest.approx(2.1)
    assert found["training joules of tinytl / heads"].verdict == "agrees"
    assert found["training joules of fc / heads"].verdict == "agrees"
    assert found["training joules of full / heads"].verdict == "not published"
    assert found["accuracy of heads less fc, points"].verdict == "agrees"
    assert found["accuracy of heads less tinytl, points"].verdict == "differs"
    assert len(lines(found.values())) == len(found)
    assert found["training joules of tinytl / heads"].published == pytest.approx((2.031, 2.279), abs=1e-3)


def test_a_run_with_nothing_in_common_is_refused() -> None:
    with pytest.raises(RequestError, match="nothing in common"):
        beside_microt(results({"fc": 1.0}, {"fc": 0.5}))
