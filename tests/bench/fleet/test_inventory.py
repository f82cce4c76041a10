"""An inventory: what is wrong in it is one line with file, line and key; two boards never share a meter."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import JouletuneError, RequestError
from bench.fleet.inventory import PowerSpec, load_inventory
from bench.fleet.probe import State, share_a_meter, unlike
from bench.fleet.share import shares
from bench.suite.suite import Suite

GOOD = """
boards:
  pi-a: {target: "ssh:pi-a", source: "um25c:/dev/rfcomm0", tags: [pi5, shelf-1], meter: {model: UM25C}}
  pi-b: {target: "ssh:lab@pi-b", source: "tc66:/dev/ttyACM0", tags: [pi5], power: {labgrid: pi-b}, place: "rack 2"}
  jetson: {target: "ssh:nano", source: simulated, device: cuda}
"""


def two(first: str, second: str, other: str = "ssh:y") -> str:
    """Two boards with these sources."""
    return f"{{a: {{target: 'ssh:x', source: '{first}'}}, b: {{target: '{other}', source: '{second}'}}}}"


def write(folder: Path, text: str) -> Path:
    path = folder / "inventory.yaml"
    path.write_text(text)
    return path


def test_boards_are_chosen_by_tag_or_name(tmp_path: Path) -> None:
    inventory = load_inventory(write(tmp_path, GOOD))
    assert [board.name for board in inventory.boards] == ["pi-a", "pi-b", "jetson"]
    assert [board.name for board in inventory.tagged(["pi5"]).boards] == ["pi-a", "pi-b"]
    assert [board.name for board in inventory.tagged(["jetson", "shelf-1"]).boards] == ["pi-a", "jetson"]
    assert len(inventory.tagged([]).boards) == 3
    with pytest.raises(RequestError, match="did you mean 'pi5'"):
        inventory.tagged(["pi4"])


@pytest.mark.parametrize(
    ("boards", "said"),
    [
        (two("um25c:/dev/m", "tc66:/dev/m"), "b.source: .* the meter of a too"),
        (two("joulescope", "joulescope:7"), "names no meter"),
        (two("shelly:h?x=1", "shelly:H"), "the meter of a too"),
        (two("none", "none", other="ssh:x?command=/j"), "b.target: .* the target of a too"),
        ("{a: {target: 'serial:x', source: none}}", "a.target: expected ssh:HOST"),
        ("{a: {target: 'ssh:x'}}", "a.source: is missing"),
        ("{a: {target: 'ssh:x', source: none, tag: y}}", "a.tag: unknown key; did you mean 'tags'"),
        ("{A b: {target: 'ssh:x', source: none}}", "expected a-z"),
        ("{a: {target: 'ssh:x', source: none, power: {}}}", "expected one of command and labgrid"),
        ("{a: {target: 'ssh:x', source: none, meter: {serial: 7}}}", "a.meter.serial: expected text"),
        ("{}", "expected at least one board"),
        ("[1, 2]", "expected a mapping"),
        ("{a: {target: 'ssh:x', source: none}, a: {target: 'ssh:y', source: none}}", "given twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_place(tmp_path: Path, boards: str, said: str) -> None:
    path = write(tmp_path, f"boards: {boards}\n")
    with pytest.raises(RequestError, match=said) as caught:
        load_inventory(path)
    assert str(caught.value).startswith(f"{path}:1: ")
    assert "\n" not in str(caught.value)


def test_one_port_by_two_names_is_one_meter(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("")
    (tmp_path / "by-id").symlink_to(tmp_path / "port")
    boards = two(f"um25c:{tmp_path}/port", f"um25c:{tmp_path}/by-id")
    with pytest.raises(RequestError, match="the meter of a too"):
        load_inventory(write(tmp_path, f"boards: {boards}\n"))


def test_meters_that_say_that_they_are_one_are_found(tmp_path: Path) -> None:
    a, b, c = (State(board) for board in load_inventory(write(tmp_path, GOOD)).boards)
    a.meter = b.meter = {"model": "TC66", "serial": "12"}
    c.meter = {"model": "TC66", "serial": "13"}
    assert share_a_meter([a, c]) == []
    assert share_a_meter([a, b, c]) == ["pi-b and pi-a have one meter, TC66 12; each needs its own"]


def test_boards_are_alike_by_machine_and_kind_of_meter(tmp_path: Path) -> None:
    a, b, c = (State(board, machine="Pi 5") for board in load_inventory(write(tmp_path, GOOD)).boards)
    assert unlike([a, a]) is None
    assert "has the meter tc66" in str(unlike([a, b]))
    c.machine = "Nano"
    assert "jetson is Nano, pi-a is Pi 5" in str(unlike([a, c]))


def test_a_share_keeps_the_arms_of_a_group_on_one_board(make_suite: object) -> None:
    suite: Suite = make_suite()  # type: ignore[operator]
    cells = suite.cells()
    given = shares(cells, ["a", "b", "c"])
    assert sorted(one for ids in given.values() for one in ids) == sorted(cell.cell_id for cell in cells)
    of = {one: name for name, ids in given.items() for one in ids}
    boards: dict[tuple[str, int], set[str]] = {}
    for cell in cells:
        boards.setdefault((cell.group, cell.seed), set()).add(of[cell.cell_id])
    assert all(len(names) == 1 for names in boards.values())
    assert max(map(len, given.values())) - min(map(len, given.values())) <= len(suite.arms)
    assert given == shares(cells, ["a", "b", "c"])
    with pytest.raises(RequestError, match="groups of cells for 9 boards"):
        shares(cells, list("abcdefghi"))


def test_a_power_switch_that_fails_is_told(tmp_path: Path) -> None:
    PowerSpec(command=f"touch {tmp_path}/cycled").cycle()
    assert (tmp_path / "cycled").exists()
    with pytest.raises(JouletuneError, match="exit status 3"):
        PowerSpec(command="exit 3").cycle()
