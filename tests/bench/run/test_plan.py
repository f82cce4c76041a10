"""The plan of a run: interleaved, reproducible, and without what has a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.errors import RequestError
from bench.run.plan import Plan, make_plan, select_cells
from bench.suite.suite import Suite


def plan_of(
    suite: Suite,
    records: Any = (),
    *,
    cells: str | None = None,
    repeats: int | None = None,
    retry: bool = False,
) -> Plan:
    return make_plan(suite, records, cells=cells, repeats=repeats, retry=retry)


def done(plan: Plan, count: int, status: str = "ok") -> list[dict[str, Any]]:
    return [
        {"cell_id": repeat.cell.cell_id, "repeat": repeat.number, "status": status} for repeat in plan.pending[:count]
    ]


def ids(plan: Plan) -> list[tuple[str, int]]:
    return [(repeat.cell.cell_id, repeat.number) for repeat in plan.pending]


@pytest.fixture
def suite(make_suite: Callable[..., Suite]) -> Suite:
    return make_suite(energy={"repeats": 3})


def test_every_repeat_of_every_cell_once(suite: Suite) -> None:
    plan = plan_of(suite)
    assert plan.wanted == len(plan.pending) == len(set(ids(plan))) == 3 * 32
    assert plan.failed_before == 0
    assert {cell for cell, _ in ids(plan)} == {cell.cell_id for cell in suite.cells()}


def test_a_round_of_all_cells_before_the_next(suite: Suite) -> None:
    numbers = [number for _, number in ids(plan_of(suite))]
    assert numbers == [0] * 32 + [1] * 32 + [2] * 32


def test_each_round_is_shuffled_for_itself(suite: Suite) -> None:
    order = [cell for cell, _ in ids(plan_of(suite))]
    rounds = [order[:32], order[32:64], order[64:]]
    assert rounds[0] != [cell.cell_id for cell in suite.cells()]
    assert rounds[0] != rounds[1] != rounds[2]


def test_no_block_set_comes_first_or_last_as_a_whole(suite: Suite) -> None:
    """What drifts in time (heat) must not look like what a block costs."""
    order = [repeat.cell.blocks_label for repeat in plan_of(suite).pending]
    places = {label: [place for place, name in enumerate(order) if name == label] for label in set(order)}
    for where in places.values():
        assert abs(sum(where) / len(where) - len(order) / 2) < len(order) / 6


def test_the_order_is_the_suites_and_of_no_other_draw(suite: Suite, make_suite: Callable[..., Suite]) -> None:
    assert ids(plan_of(suite)) == ids(plan_of(make_suite(energy={"repeats": 3}, title="Another title")))
    assert ids(plan_of(suite)) != ids(plan_of(make_suite(energy={"repeats": 3, "guard_s": 1})))


@pytest.mark.parametrize("count", [1, 31, 32, 40, 95, 96])
def test_a_resumed_run_goes_on_in_the_order_it_began(suite: Suite, count: int) -> None:
    whole = plan_of(suite)
    rest = plan_of(suite, done(whole, count))
    assert ids(rest) == ids(whole)[count:]
    assert (rest.wanted, rest.failed_before) == (96, 0)


def test_what_is_missing_in_the_middle_is_done(suite: Suite) -> None:
    whole = plan_of(suite)
    records = done(whole, 50)
    lost = records.pop(10)
    assert ids(plan_of(suite, records)) == [(lost["cell_id"], lost["repeat"]), *ids(whole)[50:]]


def test_records_of_other_cells_do_not_count(suite: Suite) -> None:
    strangers = [{"cell_id": "digits-blur/n=0.1/fc/s=0", "repeat": 0, "status": "ok"}]
    assert plan_of(suite, strangers) == plan_of(suite)


@pytest.mark.parametrize("status", ["failed", "timeout"])
def test_what_failed_is_left_unless_asked_for(suite: Suite, status: str) -> None:
    whole = plan_of(suite)
    records = [*done(whole, 2, status), *done(whole, 6)[2:]]
    left = plan_of(suite, records)
    assert ids(left) == ids(whole)[6:]
    assert left.failed_before == 2
    again = plan_of(suite, records, retry=True)
    assert ids(again) == ids(whole)[:2] + ids(whole)[6:]


def test_joules_that_are_not_usable_are_measured_again_where_asked_for(suite: Suite) -> None:
    whole = plan_of(suite)
    records = [{**record, "grade": "X" if i == 1 else "C"} for i, record in enumerate(done(whole, 3))]
    assert ids(plan_of(suite, records)) == ids(whole)[3:]
    again = plan_of(suite, records, retry=True)
    assert (ids(again), again.failed_before) == ([ids(whole)[1], *ids(whole)[3:]], 0)


def test_the_last_record_of_a_repeat_decides(suite: Suite) -> None:
    whole = plan_of(suite)
    mended = plan_of(suite, [*done(whole, 1, "failed"), *done(whole, 1)], retry=True)
    assert (ids(mended), mended.failed_before) == (ids(whole)[1:], 0)


def test_fewer_repeats_are_the_first_ones(suite: Suite) -> None:
    look = plan_of(suite, repeats=1)
    assert (look.wanted, ids(look)) == (32, ids(plan_of(suite))[:32])
    # and they count towards the whole
    assert ids(plan_of(suite, done(look, 32))) == ids(plan_of(suite))[32:]
    assert plan_of(suite, repeats=9).wanted == 96


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("*", 32), ("digits-noise/*", 16), ("*/fc/*", 8), ("*/s=1", 16), ("digits-*/n=40/full/s=?", 4),
        ("*/block2+block3/s=0", 4), ("digits-noise/n=0.1/block1/s=0", 1), ("*/[bf]*/s=0", 16),
    ],
)  # fmt: skip
def test_cells_by_glob(suite: Suite, pattern: str, count: int) -> None:
    assert len(select_cells(suite, pattern)) == count
    assert plan_of(suite, cells=pattern, repeats=1).wanted == count


def test_glob_keeps_to_the_cells_it_names(suite: Suite) -> None:
    records = done(plan_of(suite, cells="*/fc/*"), 24)
    assert plan_of(suite, records, cells="*/fc/*").pending == ()
    assert len(plan_of(suite, records).pending) == 96 - 24


@pytest.mark.parametrize("pattern", ["digits-noise", "*/FC/*", "", "*/block4/*"])
def test_a_glob_that_matches_nothing_is_an_error(suite: Suite, pattern: str) -> None:
    with pytest.raises(RequestError, match="none of the suite's 32 cells"):
        select_cells(suite, pattern)


def test_a_near_miss_is_named(suite: Suite) -> None:
    with pytest.raises(RequestError, match=r"did you mean 'digits-noise/n=0\.1/fc/s=0'"):
        select_cells(suite, "digits-noise/n=0.1/fc/s=00")
