"""Arms in what is read: two option sets of one method are never pooled, in any table, comparison, history or export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bench
from bench.analysis import analyse, load
from bench.analysis.export import export, load_every_field
from bench.analysis.tables import grids
from bench.compare import compare, load_run
from bench.errors import RequestError
from bench.history.summary import summarise
from bench.store.run_dir import RunDir

JOULES = {0.2: 10.0, 0.25: 30.0}
NAMED = {budget: f"neq(budget={budget})" for budget in JOULES}


@pytest.fixture
def write(tmp_path: Path, make_record: Any, nights: Any) -> Any:
    """Writes a run of budgets of a method; fields are added to each record, None takes one away."""

    def write(name: str, budgets: dict[float, dict[str, Any]]) -> Path:
        folder = nights.write(len(list(tmp_path.rglob("cells.jsonl"))), name=name)
        lines = []
        for budget, more in budgets.items():
            for seed in range(4):
                record = make_record(
                    cell_id=f"d/n=0.1/{budget}/s={seed}", data="d", blocks="block1", seed=seed, method="neq",
                    arm=NAMED[budget], options={"budget": budget}, accuracy_after=0.5 + seed / 100, grade="A",
                    energy_gross_j=JOULES[budget] * (1 + seed / 1000), source="m", source_kind="power",
                )  # fmt: skip
                line = json.loads(record.to_json()) | more
                lines.append({key: value for key, value in line.items() if value is not None})
        (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return Path(folder)

    return write


@pytest.mark.parametrize("more", [{}, {"arm": None}], ids=["named", "of a record without the field"])
def test_two_option_sets_are_two_arms_everywhere(write: Any, tmp_path: Path, more: dict[str, Any]) -> None:
    run = write("run", dict.fromkeys(JOULES, more))
    arms = [NAMED[budget] for budget in JOULES]
    results = load(run)
    analysis = analyse(results)
    assert analysis.blocks.set_index("arm")["energy_gross_j"].dropna().to_dict() == pytest.approx(
        dict(zip(arms, JOULES.values(), strict=True)), rel=0.01
    )
    for grid in grids(results, analysis):
        assert set(arms) <= set(grid.header) or grid.name.startswith("energy_saving")
    assert bench.load(run).groupby("arm")["energy_gross_j"].mean().tolist() == pytest.approx([10, 30], rel=0.01)
    export(load_every_field(run), tmp_path / "x.csv", cells=False)
    assert set(pd.read_csv(tmp_path / "x.csv")["arm"]) == set(arms)
    assert set(summarise(RunDir(run)).rows["arm"]) == set(arms)
    assert set(compare(load_run(run), load_run(run)).conditions["arm"]) == set(arms)


@pytest.mark.parametrize("more", [{}, {"arm": None}, {"arm": "neq"}])
def test_other_options_in_another_run_are_not_compared(write: Any, more: dict[str, Any]) -> None:
    run, base = (write(str(budget), {budget: more}) for budget in JOULES)
    with pytest.raises(RequestError, match=r"no condition in common; RUN has d 10 % neq\(budget=0.2\), BASE has"):
        compare(load_run(run), load_run(base))


def test_options_that_share_a_label_are_told_apart(write: Any) -> None:
    run = write("run", {budget: {"arm": "best"} for budget in JOULES})
    assert set(load(run).records["arm"]) == {f"best {NAMED[budget]}" for budget in JOULES}


@pytest.mark.parametrize("options", [{}, {"blocks": None}, {"x": [["a"], {"b": "\ud800"}]}, {"x": "\ud800"}])
def test_any_options_of_a_method_give_it_a_name(write: Any, options: dict[str, Any]) -> None:
    for method in ("fixed", "random", "theirs"):
        run = write(
            f"{method}{len(options)}{len(str(options))}",
            {
                0.2: {"method": method, "arm": method, "options": options},
                0.25: {"arm": method, "method": method, "options": {"y": 1}},
            },
        )
        assert bench.load(run)["arm"].nunique() == 2
