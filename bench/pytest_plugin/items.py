"""A suite and its cells as nodes of a test session: their ids, groups and keywords, and how a cell runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import CellFailedError, JouletuneError
from bench.run.plan import select_cells
from bench.suite.cell import Cell
from bench.suite.load import LoadedSuite

PLUGIN = "jouletune-session"
"""Name under which JoulesPlugin is registered."""


class SuiteFile(pytest.File):
    """A suite; its children are cells. Its node id is the suite's name, wherever the file lies."""

    loaded: LoadedSuite

    @classmethod
    def of(cls, session: pytest.Session, loaded: LoadedSuite) -> SuiteFile:
        name = loaded.suite.name
        node: SuiteFile = cls.from_parent(session, path=session.path / name, name=name, nodeid=name)
        node.loaded = loaded
        return node

    def collect(self) -> Iterator[CellItem]:
        for cell in select_cells(self.loaded.suite, self.config.getoption("suite_cells")):
            item: CellItem = CellItem.from_parent(self, name=cell.cell_id, callobj=_run_cell)
            item.describe(cell)
            yield item


class RecordedTime:
    """A timer for pytest-benchmark that shows times measured elsewhere: it moves only when `now_s` is changed."""

    __name__ = "train_time_s"

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def replay_times(benchmark: Any, records: list[dict[str, Any]]) -> None:
    """Give pytest-benchmark the times of records, a round each, of a test that did not use its fixture."""
    rounds = iter(records)
    # set directly: what the fixture offers publicly, its marker, must be there before it is made
    benchmark._timer = clock = RecordedTime()

    def window() -> None:
        clock.now_s += next(rounds)["train_time_s"]

    benchmark.pedantic(window, rounds=len(records))


class CellItem(pytest.Function):
    """A cell. It is a Function so that fixtures and pytest-benchmark work with it."""

    cell: Cell
    clock: RecordedTime

    def describe(self, cell: Cell) -> None:
        """Set the cell, its group in pytest-benchmark's table and the keywords that `-k` matches."""
        self.cell = cell
        self.clock = RecordedTime()
        self.add_marker(pytest.mark.benchmark(group=cell.group, timer=self.clock))
        words = (cell.data.dataset, cell.data.level, f"n{cell.train_size!r}", f"s{cell.seed}")
        self.extra_keyword_matches.update(words)  # -k takes no '='

    def reportinfo(self) -> tuple[Path, int, str]:
        # a skipped test must have a line; a text that ends the node id would have its dots shown as '::'
        return self.path, 0, f"cell {self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, JouletuneError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


def _run_cell(request: pytest.FixtureRequest, benchmark: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run a cell: get its records, then give pytest-benchmark their times."""
    item = request.node
    plugin: Any = request.config.pluginmanager.get_plugin(PLUGIN)
    records: list[dict[str, Any]] = []
    failure: JouletuneError | None = None
    try:
        records = plugin.finish(item) if benchmark.enabled else plugin.execute(item, tmp_path_factory.getbasetemp())
        failure = next((_failure(item.name, record) for record in records if record["status"] != "ok"), None)
    except JouletuneError as error:
        failure = error
    rounds = iter(records)

    def fine_tuning() -> dict[str, Any] | None:
        if failure is not None:  # raised here, so that pytest-benchmark counts the test as one without a result
            raise failure
        record = next(rounds, None)
        item.clock.now_s += record["train_time_s"] if record else 0.0
        return record

    cell = item.cell
    benchmark.param = cell.cell_id
    benchmark.params = {
        "data": cell.data.label,
        "train_size": cell.train_size,
        "arm": cell.arm.label,
        "variant": cell.variant_label,
        "seed": cell.seed,
    }
    benchmark.pedantic(fine_tuning, rounds=max(1, len(records)))
    if benchmark.enabled:
        plugin.note(item.nodeid, item.parent.name, records, benchmark.extra_info)


def _failure(name: str, record: dict[str, Any]) -> CellFailedError:
    return CellFailedError(f"{name} #{record['repeat']}: {record['status']}: {record['error']}")
