"""A fleet's run in report, compare and history: per board, and for equal boards together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.analysis import analyse
from bench.cli.commands import cli
from bench.read.results import load
from bench.store.fleet_dir import FleetDir, FleetFacts, boards_below, with_boards

BOARDS = ("pi-a", "pi-b", "pi-c", "pi-d")


@pytest.fixture
def fleet(nights: Any) -> Callable[..., Path]:
    """Makes a fleet's run of a night: four boards, whose joules are each a factor times the usual ones."""

    def make(
        night: str, day: int = 0, factors: tuple[float, ...] = (1.0, 1.02, 0.98, 1.01), joules: float = 1.0
    ) -> Path:
        for board, factor in zip(BOARDS, factors, strict=True):
            nights.write(
                day, name=f"{night}/boards/{board}", joules=lambda _, by=factor: by * joules,
                manifest={"target": {"name": f"ssh:{board}?command=/j"}},
            )  # fmt: skip
        folder: Path = nights.root / night
        FleetDir(folder).write(FleetFacts("trial", BOARDS, False))
        return folder

    return make


def jouletune(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [*map(str, words)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value or 0), done.output


def test_a_report_has_a_column_per_board_and_names_the_odd_one(fleet: Callable[..., Path]) -> None:
    folder = fleet("2025-01-01", factors=(1.0, 1.02, 0.99, 1.4))
    status, said = jouletune("report", folder)
    assert status == 0
    assert "pi-d differs from its like: it takes 39" in said.replace("\n", " ")
    table = (folder / "tables" / "boards.md").read_text()
    assert all(board in table for board in BOARDS)
    page = (folder / "report.html").read_text()
    assert "Joules by board" in page
    assert "pi-d differs from its like" in page
    (kind,) = analyse(load(*with_boards([folder]))).boards
    assert kind.boards == BOARDS
    assert kind.table["n"].tolist() == [4] * 4
    assert kind.table["between"].between(0.15, 0.25).all()
    row = kind.table.iloc[0]
    assert row["lo"] < row["mean"] < row["hi"]
    assert [odd.board for odd in kind.odd] == ["pi-d"]


def test_boards_of_another_machine_are_another_kind(fleet: Callable[..., Path], nights: Any) -> None:
    folder = fleet("2025-01-01")
    for board in ("pi-e", "pi-f"):
        nights.write(0, name=f"2025-01-01/boards/{board}", joules=lambda _: 3.0, manifest={"device.cpu_model": "other"})
    FleetDir(folder).write(FleetFacts("trial", (*BOARDS, "pi-e", "pi-f"), False))
    kinds = analyse(load(*with_boards([folder]))).boards
    assert [kind.boards for kind in kinds] == [BOARDS, ("pi-e", "pi-f")]
    assert all(not kind.odd for kind in kinds)


def test_runs_that_are_no_fleets_have_no_kind(nights: Any) -> None:
    folders = [nights.write(day) for day in (0, 1)]
    assert analyse(load(*folders)).boards == ()


def test_fleets_are_compared_board_by_board(fleet: Callable[..., Path], tmp_path: Path) -> None:
    old, new = fleet("2025-01-01"), fleet("2025-01-02", day=1, joules=1.2)
    status, said = jouletune("compare", new, old, "--fail-on", "joules:5%", "--out", tmp_path / "out")
    assert [line for line in said.splitlines() if line.startswith("board ")] == [f"board {name}" for name in BOARDS]
    assert {path.parent.name for path in (tmp_path / "out").glob("*/compare.csv")} == {*BOARDS}
    assert status in (0, 1)
    with pytest.raises(Exception, match="a fleet's run is compared with another"):
        jouletune("compare", new, old / "boards" / "pi-a")
    _, across = jouletune("compare", new / "boards" / "pi-a", old / "boards" / "pi-b")
    assert "another device" in across.replace("\n", " ")


def test_a_history_is_of_each_board(fleet: Callable[..., Path], nights: Any, tmp_path: Path) -> None:
    for day in range(3):
        fleet(f"2025-01-0{day + 1}", day=day)
    assert boards_below([nights.root]) == [*BOARDS]
    status, said = jouletune("history", nights.root, "--out", tmp_path / "out")
    assert status == 0
    assert [line for line in said.splitlines() if line.startswith("board ")] == [f"board {name}" for name in BOARDS]
    assert said.count("3 runs") + said.count("3 nights") >= 4
    assert {path.parent.name for path in (tmp_path / "out").glob("*/history.csv")} == {*BOARDS}


def test_a_damaged_list_of_boards_is_one_line(fleet: Callable[..., Path]) -> None:
    folder = fleet("2025-01-01")
    for text in ("{}", "[1]", '{"suite": 1, "boards": ["../x"], "shared": true}', "{"):
        (folder / "fleet.json").write_text(text)
        with pytest.raises(Exception, match=r"fleet\.json"):
            jouletune("report", folder)
