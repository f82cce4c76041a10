"""Accounts of methods with a budget, the best-of table, workbooks, and published tables of chosen neurons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.analysis.accounts import accounts, best_of
from bench.analysis.export import export
from bench.analysis.findings import analyse
from bench.analysis.tables import grids
from bench.compare import compare_named
from bench.compare.rules import Rules
from bench.compare.with_table import compare_with_table
from bench.errors import RequestError
from bench.read.columns import EVERY_FIELD, make_frame, row
from bench.read.results import Results, from_records
from bench.store.manifest import Manifest

ARM = "neq(select=random,budget=192311)"
FACTS = {"budget": 192311, "budget_of": 2189760, "kept": 192300, "claimed_saving": 0.9, "stored_share": 0.5}


def line(arm: str, seed: int, accuracy: float, seconds: float, **more: Any) -> dict[str, Any]:
    method = arm.partition("(")[0]
    own = (
        {"method": method, "options": {"select": "random", "budget": 192311}, "facts": FACTS, "blocks": ""}
        if method != "full"
        else {"method": "fixed", "options": {"blocks": ["full"]}, "blocks": "full"}
    )
    return {
        "schema": 1, "cell_id": f"pets37/n=100/{arm}/s={seed}", "dataset": "folder", "data": "pets37", "shift": "none",
        "level": "", "train_size": 100, "n_train": 100, "arm": arm, "model": "mobilenet_v2", "seed": seed, "repeat": 0,
        "status": "ok", "accuracy_after": accuracy, "best_epoch": 3 + seed, "train_time_s": seconds,
        "energy_gross_j": 10 * seconds, "grade": "B", "source": "rapl", "source_kind": "counter",
        "train_macs": 600 if arm != "full" else 1000, "peak_rss_mb": 700.0 if arm != "full" else 1000.0,
    } | own | more  # fmt: skip


def results(more: list[dict[str, Any]] | None = None) -> Results:
    lines = [
        *(line("full", seed, 0.85 + 0.01 * seed, 10.0 + seed) for seed in range(3)),
        *(line(ARM, seed, 0.84 + 0.01 * seed, 0.8 * (10.0 + seed)) for seed in range(3)),
        *(more or []),
    ]
    rows = [row(one, EVERY_FIELD) for one in lines]
    return Results(make_frame(rows, "mine", EVERY_FIELD), (Manifest(),), "mine", ("mine",))


def test_savings_are_against_full_paired_by_seed() -> None:
    table = accounts(results())
    assert len(table) == 1
    found = table.iloc[0]
    assert found["claimed_saving"] == 0.9
    assert found["attainable_saving"] == pytest.approx(0.4)
    for name in ("measured_saving_s", "measured_saving_j"):
        assert [found[f"{name}{end}"] for end in ("", "_lo", "_hi")] == pytest.approx([0.2] * 3)
    assert found["measured_saving_rss"] == pytest.approx(0.3)
    assert found["kept_share"] == pytest.approx(192300 / 2189760)
    assert found["pairs"] == 3


def test_best_of_has_mean_and_deviation_over_seeds() -> None:
    found = best_of(results()).set_index("arm")
    assert found.loc[ARM, "accuracy_percent"] == pytest.approx(85.0)
    assert found.loc[ARM, "accuracy_sd_points"] == pytest.approx(1.0)
    assert found.loc[ARM, "best_epoch"] == pytest.approx(4.0)
    assert found.loc[ARM, "budget"] == 192311
    assert found.loc[ARM, "seeds"] == 3


def test_the_report_has_both_tables_where_a_method_has_a_budget_and_neither_elsewhere() -> None:
    mine = results()
    made = {grid.name: grid for grid in grids(mine, analyse(mine))}
    assert [entry.text for entry in made["accounts"].rows[0][:6]] == [
        "pets37", "mobilenet_v2", made["accounts"].rows[0][2].text, "8.8", "90.0", "40.0"
    ]  # fmt: skip
    assert made["best_of"].rows[1][4].text == "85.00 ± 1.00"
    plain = from_records([line("full", seed, 0.8, 1.0) for seed in range(2)])
    assert not {"accounts", "best_of"} & {grid.name for grid in grids(plain, analyse(plain))}


def test_a_workbook_has_the_tables_as_sheets_and_no_formula(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    mine = results([line("full", 3, 0.8, 1.0, error="=1+1", status="failed")])
    assert export(mine, tmp_path / "a.xlsx", cells=False) == 7
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    assert book.sheetnames == ["repeats", "best of", "accounts"]
    values = [[cell.value for cell in one] for one in book["repeats"].iter_rows()]
    assert len(values) == 8
    errors = [one[values[0].index("error")] for one in values[1:]]
    assert "'=1+1" in errors
    assert all(cell.data_type != "f" for sheet in book for one in sheet.iter_rows() for cell in one)
    again = pd.read_excel(tmp_path / "a.xlsx", sheet_name="best of")
    assert again["accuracy_percent"].tolist() == pytest.approx(best_of(mine)["accuracy_percent"].tolist())


def test_a_run_stands_beside_the_published_table_at_its_net_data_and_budget() -> None:
    comparison = compare_with_table(results(), "neq-wacv24", Rules())
    found = {row["arm"].partition(" ")[0]: row for row in comparison.conditions.to_dict("records")}
    assert len(found) == 2
    random = next(row for arm, row in found.items() if arm.startswith("neq"))
    assert random["accuracy_base"] == pytest.approx(0.8516)  # of the table that starts from random channels
    assert random["accuracy_run"] == pytest.approx(0.85)
    assert random["accuracy_verdict"] == "agrees"
    assert comparison.base == "neq-wacv24"


def test_another_budget_has_nothing_in_common() -> None:
    only = [line(ARM, seed, 0.8, 1.0, facts=FACTS | {"budget": 99_999}) for seed in range(3)]
    rows = [row(one, EVERY_FIELD) for one in only]
    mine = Results(make_frame(rows, "mine", EVERY_FIELD), (Manifest(),), "mine", ("mine",))
    with pytest.raises(RequestError, match="nothing in common with neq-wacv24"):
        compare_with_table(mine, "neq-wacv24", Rules())
    with pytest.raises(RequestError, match="nothing in common with trady"):
        compare_with_table(mine, "trady", Rules())


def test_the_word_is_taken_for_a_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.compare.load_run", lambda *_: results())
    assert len(compare_named("mine", "neq-wacv24", Rules()).conditions) == 2
