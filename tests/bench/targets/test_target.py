"""Targets by name, and a run that goes on only where it began."""

from __future__ import annotations

import pytest

from bench.errors import RequestError
from bench.run.resume import _target_changes
from bench.targets.target import target_of


@pytest.mark.parametrize("name", ["locl", "", "tty:/dev/x", "local:somewhere"])
def test_a_target_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="--target"):
        target_of(name)


def test_local_is_this_machine_and_says_nothing_more() -> None:
    assert target_of("local").name == "local"


def test_a_run_that_moves_to_another_board_says_what_is_another() -> None:
    here = {"name": "serial:/dev/a", "net": "12"}
    assert _target_changes(here, dict(here)) == []
    assert _target_changes(here, {"name": "local"}) == ["target was serial:/dev/a, now local"]
    assert _target_changes(here, here | {"net": "13"}) == ["target's net was 12, now 13"]
