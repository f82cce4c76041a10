"""What a person is told of a repeat as it ends, and figures that are not finite."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.errors import JouletuneError
from bench.run.outcome import window_fields
from bench.run.progress import ALIKE, Notice
from bench.store.record import Record
from hardware import EnergyResult

Make = Callable[..., Record]


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def notice(said: io.StringIO) -> Notice:
    return Notice(Console(file=said, width=200), Path("results/odd/worker.log"))


def failed(make_record: Make, cell: int, error: str = "no luck", status: str = "failed") -> Record:
    return make_record(cell_id=f"c{cell}", status=status, error=error, accuracy_after=None)


def test_a_failure_is_told_once_with_its_reason_and_the_log(
    notice: Notice, said: io.StringIO, make_record: Make
) -> None:
    notice.show(make_record())
    for cell in range(2 * ALIKE):
        notice.show(failed(make_record, cell))
    notice.show(failed(make_record, 0, "other\x1b[2J", "timeout"))
    assert said.getvalue().splitlines() == [
        "c0 #0 failed: no luck; see results/odd/worker.log",
        "c0 #0 timeout: other\\x1b[2J; see results/odd/worker.log",
    ]


def test_the_first_cells_that_all_fail_alike_end_the_run(notice: Notice, make_record: Make) -> None:
    for cell in range(ALIKE - 1):
        notice.show(failed(make_record, cell))
        notice.show(failed(make_record, cell))
    with pytest.raises(JouletuneError, match=rf"first {ALIKE} cells all failed alike: no luck.*worker\.log.*--retry"):
        notice.show(failed(make_record, ALIKE))


def test_different_failures_do_not(notice: Notice, make_record: Make) -> None:
    for cell in range(2 * ALIKE):
        notice.show(failed(make_record, cell, f"no luck {cell % 2}"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_costs_the_joules_and_not_the_run(value: float, make_record: Make) -> None:
    result = EnergyResult(
        energy_gross_j=value, energy_net_j=1.0, duration_s=1.0, window_s=1.0, executions=1, source="simulated",
        source_kind="power", grade="A",
    )  # fmt: skip
    record = make_record(**window_fields(result))
    assert (record.energy_gross_j, record.grade, record.error) == (None, "X", "not finite: energy_gross_j")
