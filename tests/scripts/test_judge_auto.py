"""The stored probe values give the figures that docs/auto.md and the README show."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def judge() -> Any:
    spec = importlib.util.spec_from_file_location("judge_auto", ROOT / "scripts" / "judge_auto.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["judge_auto"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(judge: Any) -> Any:
    return judge.read(ROOT / "results" / "reference" / "shift_grid.jsonl.gz")


def test_the_documented_regret_is_that_of_the_stored_answers(judge: Any, rows: Any) -> None:
    reporting = [row for row in rows if row.facts["half"] == "report"]
    found = judge.regrets(reporting, judge.auto, judge.DEFAULT)
    line = next(x for x in (ROOT / "docs" / "auto.md").read_text().splitlines() if x.startswith("| rule 3 auto, as"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == str(len(found))
    assert cells[2].startswith(f"{found.mean():.1f} (")
    assert cells[3] == f"{np.quantile(found, 0.9):.1f}"


def test_no_family_is_in_both_halves_and_no_seed_of_the_reporting_one_was_chosen_on(rows: Any) -> None:
    halves: dict[str, set[str]] = {"choose": set(), "report": set()}
    seeds: dict[str, set[int]] = {"choose": set(), "report": set()}
    for row in rows:
        halves[row.facts["half"]].add(row.facts["family"])
        seeds[row.facts["half"]].add(row.facts["seed"])
    assert not halves["choose"] & halves["report"]
    assert not seeds["choose"] & seeds["report"]


def test_thresholds_are_chosen_by_regret(judge: Any, rows: Any) -> None:
    some = [row for row in rows if row.facts["net"] == "digits" and row.facts["train_size"] == 100]
    at = judge.choose(some, judge.auto, 20)
    default = judge.regrets(some, judge.auto, judge.DEFAULT)
    chosen = judge.regrets(some, judge.auto, at)
    score = [values.mean() + 0.2 * np.quantile(values, 0.9) for values in (chosen, default)]
    assert score[0] <= score[1]
