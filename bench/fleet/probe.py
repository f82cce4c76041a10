"""Probe: whether each board of an inventory is fit to run, found out at all of them at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeVar

import hardware
from bench.errors import JouletuneError, RequestError
from bench.fleet.inventory import MADE_UP, Board
from bench.run.metering import hardware_errors
from bench.store.manifest import Device, part
from bench.targets.ssh import Ssh, make

Found = TypeVar("Found")

AT_ONCE = 16
"""Boards that are probed at the same time."""


@dataclasses.dataclass(slots=True)
class State:
    """What was found of a board; None where it was not found out.

    Attributes:
        round_trip_s: of one exchange with it.
        machine: facts by which boards are alike.
        meter: what its meter says of itself.
        problem: the first thing that is wrong with it.
    """

    board: Board
    round_trip_s: float | None = None
    version: str | None = None
    machine: str | None = None
    meter: dict[str, object] | None = None
    idle_w: float | None = None
    temperature_c: float | None = None
    free_bytes: int | None = None
    problem: str | None = None


def target_of(board: Board) -> Ssh:
    """The target of a board, not yet connected."""
    return make(board.spec.target.removeprefix("ssh:"))


def each(boards: Iterable[Board], act: Callable[[Board], Found]) -> list[Found]:
    """Do something with all boards at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, boards))


def probe(board: Board, *, idle_s: float = 0.0) -> State:
    """Look at a board and its meter. Never raises because of them.

    Args:
        idle_s: length of an idle baseline; 0 for none.
    """
    state = State(board)
    target = target_of(board)
    try:
        told = target.connect()
        state.version, state.free_bytes = told["jouletune"], told["free_bytes"]
        state.machine = part(Device, target.facts).machine
        target.check()
        started_s = time.monotonic()
        state.temperature_c = target.look().temperature_c
        state.round_trip_s = time.monotonic() - started_s
        state.meter, state.idle_w = look_at_meter(board, target, idle_s)
    except JouletuneError as error:
        state.problem = str(error)
    finally:
        target.close()
    return state


def look_at_meter(board: Board, target: Ssh, idle_s: float) -> tuple[dict[str, object], float | None]:
    """What a board's meter says of itself, and the idle power.

    Raises:
        RequestError: the source is none that a board can hang on, or another meter than the inventory says.
        JouletuneError: it does not answer.
    """
    name = board.spec.source
    if name.partition("?")[0] == "auto" or hardware.registry.is_of_this_machine(name):
        raise RequestError(f"{board.name}: its source {name} measures this machine; name the meter that it hangs on")
    with hardware_errors():
        choice = hardware.choose(name, device=board.spec.device)
        sampler = hardware.Sampler(choice.source, look=target.look, cpu_times=lambda: None)
        sampler.start()
        try:
            told = dict(sampler.source.info.device)
            measures = sampler.source.info.kind != "none"
            idle_w = sampler.measure_idle(idle_s).power_w if idle_s and measures else None
            if idle_s and measures and idle_w is None:
                raise JouletuneError(f"{board.name}: no idle power from {name}: {sampler.error or 'too few samples'}")
        finally:
            sampler.stop()
    for key, wanted in board.spec.meter.model_dump().items():
        if wanted is not None and str(told.get(key)) != wanted:
            raise RequestError(
                f"{board.name}: the meter at {name} is another board's: its {key} is {told.get(key)}, "
                f"the inventory says {wanted}"
            )
    return told, idle_w


def share_a_meter(states: Iterable[State]) -> list[str]:
    """Sentences on boards whose meters say that they are one and the same."""
    seen: dict[tuple[str, str], str] = {}
    found = []
    for state in states:
        serial = (state.meter or {}).get("serial")
        if serial is None or state.board.spec.source.partition(":")[0].partition("?")[0] in MADE_UP:
            continue
        key = (str((state.meter or {}).get("model")), str(serial))
        if key in seen:
            found.append(f"{state.board.name} and {seen[key]} have one meter, {key[0]} {key[1]}; each needs its own")
        seen.setdefault(key, state.board.name)
    return found


def unlike(states: list[State]) -> str | None:
    """Which board is not like the first, in words; None where all are alike.

    Boards are alike whose machine and kind of meter are.
    """
    first = states[0]
    for state in states[1:]:
        if state.machine != first.machine:
            return f"{state.board.name} is {state.machine}, {first.board.name} is {first.machine}"
        if _kind(state) != _kind(first):
            return f"{state.board.name} has the meter {_kind(state)}, {first.board.name} has {_kind(first)}"
    return None


def _kind(state: State) -> str:
    return state.board.spec.source.partition("?")[0].partition(":")[0]


def usual_w(states: Iterable[State]) -> float | None:
    """The median idle power; None where none was measured."""
    known = [state.idle_w for state in states if state.idle_w is not None]
    return median(known) if known else None
