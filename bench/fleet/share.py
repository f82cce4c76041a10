"""Share: which board runs which cells, where a fleet shares them out."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import RequestError
from bench.suite.cell import Cell


def shares(cells: Sequence[Cell], boards: Sequence[str]) -> dict[str, frozenset[str]]:
    """Ids of the cells by board, the same each time.

    The arms of one group (data, train size, work, way of training, seed) stay together: an arm is set off against
    another of its group, and that must not be a difference of two boards. Groups go to the boards in turn.

    Raises:
        RequestError: there are more boards than groups.
    """
    groups: dict[tuple[str, int], list[str]] = {}
    for cell in cells:
        groups.setdefault((cell.group, cell.seed), []).append(cell.cell_id)
    if len(groups) < len(boards):
        raise RequestError(
            f"--share: {len(groups)} groups of cells for {len(boards)} boards; choose fewer boards, or let each run all"
        )
    given: dict[str, set[str]] = {name: set() for name in boards}
    for number, ids in enumerate(groups.values()):
        given[boards[number % len(boards)]].update(ids)
    return {name: frozenset(ids) for name, ids in given.items()}
