"""Several ways of training in one suite: the cells that come of it, and what they are said to save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.analysis import from_records
from bench.analysis import load as load_results
from bench.analysis.terminal import terminal_table
from bench.analysis.variants import share_sentences, shares, sides, variant_grids
from bench.errors import RequestError
from bench.store.record import Record
from bench.suite.load import load_suite

SUITE = """\
name: trial
model: {name: resnet8}
data: [{dataset: digits, shift: flip}]
train_size: [0.2]
blocks: [block1, fc, full]
seeds: [0]
train: {epochs: 2, TRAIN}
"""


def load(tmp_path: Path, train: str, more: str = "") -> Any:
    path = tmp_path / "s.yaml"
    path.write_text(SUITE.replace("TRAIN", train) + more)
    return load_suite(str(path)).suite


def test_an_axis_multiplies_the_cells_and_stands_in_their_ids(tmp_path: Path) -> None:
    suite = load(tmp_path, "engine: [truncated, fast], channels_last: [null, true]")
    ids = [cell.cell_id for cell in suite.cells()]
    assert len(ids) == len(set(ids)) == 3 * 4
    assert ids[0] == "digits-flip/n=0.2/engine=truncated,channels_last=null/block1/s=0"
    assert ids[-1] == "digits-flip/n=0.2/engine=fast,channels_last=true/full/s=0"


def test_a_single_value_is_no_axis(tmp_path: Path) -> None:
    suite = load(tmp_path, "engine: fast")
    assert suite.axes == {}
    assert suite.cells()[0].cell_id == "digits-flip/n=0.2/block1/s=0"
    assert suite.tuning(suite.cells()[0]).engine == "fast"


def test_every_cell_is_tuned_as_its_id_says(tmp_path: Path) -> None:
    suite = load(tmp_path, "engine: [reference, fast], bn_mode: [train, eval], per_block: {fc: {lr: 0.5}}")
    for cell in suite.cells():
        spec = suite.tuning(cell)
        assert f"engine={spec.engine},bn_mode={spec.bn_mode}" in cell.cell_id
        assert spec.lr == (0.5 if cell.blocks == ("fc",) else 0.001)


def test_a_variant_can_be_excluded(tmp_path: Path) -> None:
    suite = load(tmp_path, "engine: [reference, fast]", "exclude: [{engine: fast, blocks: full}]\n")
    assert [cell.cell_id for cell in suite.cells() if cell.blocks == ("full",)] == [
        "digits-flip/n=0.2/engine=reference/full/s=0"
    ]


def test_what_is_no_axis_cannot_be_excluded(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"s.yaml:8: exclude\[0\].engine: train.engine is no axis of this suite"):
        load(tmp_path, "engine: fast", "exclude: [{engine: fast}]\n")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("engine: []", "train.engine: empty"),
        ("engine: [fast, fast]", "'fast' is given twice"),
        ("engine: [fast, quick]", "'quick' is not valid; choose from reference, truncated, fast"),
        ("engine: slow", "train.engine: 'slow' is not valid"),
        ("threads: [1, 0]", "train.threads"),
        ("lr: [0.1, 0.2]", "train.lr: expected a number"),
        ("cache: memory", "train.cache: 'memory' with bn_mode 'train'"),
        ("cache: [auto, memory], bn_mode: [eval, train]", "cell digits-flip/n=0.2/bn_mode=train,cache=memory/block1"),
        ("head: closed_form, bn_mode: eval", "train.head: 'closed_form' solves the model's last block"),
        ("cache_mb: -1, bn_mode: eval", "train.cache_mb"),
        ("views: 2", "train.views: 2 with nothing to vary"),
    ],
)
def test_a_way_of_training_that_cannot_be_is_one_clear_line(train: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as raised:
        load(tmp_path, train)
    assert said in str(raised.value)
    assert "s.yaml:7: " in str(raised.value)


def line(
    blocks: str, variant: str, joules: float | None, time_s: float, *, seed: int = 0, **more: Any
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "cell_id": f"d/n=0.1/{variant}/{blocks}/s={seed}", "repeat": 0, "status": "ok", "dataset": "digits",
        "shift": "flip", "level": "output", "data": "d", "train_size": 0.1, "blocks": blocks, "seed": seed,
        "method": "fixed", "model": "resnet8", "bn_mode": "train", "started_at": "2025-01-01T00:00:00+00:00",
        "accuracy_after": 0.5, "train_time_s": time_s, "variant": variant, "n_train": 64, "peak_rss_mb": 100.0,
        "energy_gross_j": joules, "source": "meter", "source_kind": "power", "grade": "A" if joules else None,
    }  # fmt: skip
    made: dict[str, Any] = json.loads(Record(**fields | more).to_json())
    return made


def two_engines(**more: Any) -> list[dict[str, Any]]:
    return [
        line(blocks, f"engine={engine}", joules and joules * scale, joules * scale / 5, seed=seed, **more)
        for seed, scale in ((0, 1.0), (1, 2.0))
        for engine, blocks, joules in (
            ("reference", "full", 100.0),
            ("reference", "fc", 80.0),
            ("truncated", "full", 90.0),
            ("truncated", "fc", 10.0),
        )
    ]


def test_shares_by_hand() -> None:
    (share,) = shares(from_records(two_engines()))
    assert (share.arm, share.variant, share.of) == ("fc", "engine=truncated", "energy")
    # 90 of 100 J saved; the choice brings 20 before and 80 after the engine is changed: 50 on average
    assert (share.saved.mean, share.choice.mean) == pytest.approx((0.9, 50 / 90))
    assert (share.choice.n, share.choice.lo) == (2, pytest.approx(50 / 90))  # both seeds agree


def test_without_joules_the_shares_are_of_time() -> None:
    lines = [{**made, "energy_gross_j": None, "grade": None} for made in two_engines()]
    (share,) = shares(from_records(lines))
    assert (share.of, share.saved.mean) == ("time", pytest.approx(0.9))


def test_ratios_are_to_the_first_way_and_paired() -> None:
    found = {(side.arm, side.variant): side for side in sides(from_records(two_engines()))}
    fast = found["fc", "engine=truncated"]
    assert (fast.speedup.mean, fast.speedup.lo, fast.speedup.n) == (pytest.approx(8), pytest.approx(8), 2)
    assert fast.energy_ratio.mean == pytest.approx(8)
    assert (fast.time_s, fast.energy_j, fast.peak_rss_mb) == (pytest.approx(3), pytest.approx(15), 100)


def test_blocks_are_compared_within_one_way_of_training_only() -> None:
    results = from_records(two_engines())
    assert set(results.records["data"]) == {"d, engine=reference", "d, engine=truncated"}


def test_repeats_of_two_runs_are_never_paired(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(made) + "\n" for made in two_engines())
        (tmp_path / name / "cells.jsonl").write_text(lines)
    found = load_results(tmp_path / "one", tmp_path / "two")
    assert {side.data for side in sides(found)} == {"one: d", "two: d"}
    assert {side.speedup.n for side in sides(found)} == {2}


def test_tables_and_sentence_say_it() -> None:
    results = from_records(two_engines())
    cost, share = variant_grids(results)
    texts = [[entry.text for entry in row] for row in cost.rows]
    assert ["d, 10 %", "fc", "engine=truncated", "3 s", "8 [8, 8]", "15.0 J", "8 [8, 8]", "100 MB"] in [
        row[:8] for row in texts
    ]
    assert [entry.text for entry in share.rows[0]][3:] == ["90.0 [90.0, 90.0]", "56 [56, 56]", "44.4"]
    (said,) = share_sentences(results)
    assert "saves 90.0 % of the energy" in said
    assert "56 % of that comes from the choice of what to tune, 44 % from the way of training" in said
    terminal_table(results)


def test_one_way_of_training_has_no_such_table() -> None:
    results = from_records([line("fc", "", 1.0, 1.0), line("full", "", 2.0, 2.0)])
    assert (sides(results), shares(results), variant_grids(results)) == ([], [], [])
