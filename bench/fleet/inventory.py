"""Inventory: the boards of a lab in a file, each with its target, meter and tags; checked like a suite."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from bench.errors import JouletuneError, RequestError, nearest, show
from bench.suite.spec import Name, Spec, explained, wrong
from bench.suite.yaml_file import read_yaml

MADE_UP = ("none", "simulated")
"""Sources that are no meter: every board may have one of its own."""

POWER_S = 60.0
"""Longest time that switching a board off and on may take."""


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _over_ssh(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith("ssh:"):
        raise wrong(f"expected ssh:HOST, got {show(value)}")
    return value


Tags = Annotated[tuple[Name, ...], BeforeValidator(_tuple)]


class MeterSpec(Spec):
    """What a meter says of itself, so that another one in its place is noticed.

    Attributes:
        model, serial: as `jouletune meter SOURCE` shows them; null: any.
    """

    model: str | None = None
    serial: str | None = None


class PowerSpec(Spec):
    """A switch by which a board that hangs is restarted.

    Attributes:
        command: switches the board off and on again.
        labgrid: place of labgrid whose power is cycled.
    """

    command: str | None = None
    labgrid: str | None = None

    @model_validator(mode="after")
    def _one(self) -> PowerSpec:
        if (self.command is None) == (self.labgrid is None):
            raise wrong("expected one of command and labgrid")
        return self

    def cycle(self) -> None:
        """Switch off and on.

        Raises:
            JouletuneError: it did not work.
        """
        words: list[str] | str = self.command or ["labgrid-client", "-p", self.labgrid or "", "power", "cycle"]
        try:
            done = subprocess.run(
                words, shell=isinstance(words, str), stdin=subprocess.DEVNULL, capture_output=True, timeout=POWER_S,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise JouletuneError(f"the power switch does not work: {error}") from None
        if done.returncode:
            raise JouletuneError(f"the power switch ended with exit status {done.returncode}")


class BoardSpec(Spec):
    """A board.

    Attributes:
        target: where its cells run, `ssh:HOST`.
        source: its meter, as of `--source`, on the machine that runs the fleet.
        device: torch device that trains.
        tags: words to choose boards by.
        meter: what its meter says of itself.
        power: how to restart it.
        place: where it stands, for people.
    """

    target: Annotated[str, BeforeValidator(_over_ssh)]
    source: Annotated[str, Field(min_length=1)]
    device: str = "cpu"
    tags: Tags = ()
    meter: MeterSpec = MeterSpec()
    power: PowerSpec | None = None
    place: str | None = None


class InventorySpec(Spec):
    """The file."""

    boards: dict[Name, BoardSpec]

    @model_validator(mode="after")
    def _apart(self) -> InventorySpec:
        """Refuse a board that is named twice, and a meter that two boards share."""
        if not self.boards:
            raise wrong("empty; expected at least one board", "boards")
        hosts: dict[str, str] = {}
        meters: dict[str, str] = {}
        for name, board in self.boards.items():
            host = board.target.partition("?")[0]
            if host in hosts:
                raise wrong(
                    f"{host} is the target of {hosts[host]} too; each board is named once", "boards", name, "target"
                )
            hosts[host] = name
            for key in _meter_keys(board.source):
                if key in meters:
                    raise wrong(
                        f"{board.source} is the meter of {meters[key]} too; each board has its own",
                        "boards",
                        name,
                        "source",
                    )
                meters[key] = name
        for name, board in self.boards.items():
            base, _, argument = board.source.partition("?")[0].partition(":")
            others = [key for key, other in meters.items() if key.startswith(f"{base}:") and other != name]
            if not argument and base not in MADE_UP and others:
                # the first that is found may be the other's
                raise wrong(
                    f"{board.source} names no meter, and {meters[others[0]]} has one of its kind",
                    "boards",
                    name,
                    "source",
                )
        return self


def _meter_keys(source: str) -> list[str]:
    """What no other board's source may have as well: the meter's port or address.

    A port has several names; they are followed to the device.
    """
    base, _, argument = source.partition("?")[0].partition(":")
    if base in MADE_UP:
        return []
    if Path(argument).is_absolute():
        return [os.path.realpath(argument)]
    return [f"{base}:{argument.lower()}"]


@dataclass(frozen=True, slots=True)
class Board:
    """A board of an inventory."""

    name: str
    spec: BoardSpec


@dataclass(frozen=True, slots=True)
class Inventory:
    """The boards that a command is about.

    Attributes:
        origin: the file.
    """

    origin: str
    boards: tuple[Board, ...]

    def tagged(self, wanted: Iterable[str]) -> Inventory:
        """The boards that are called so, or have such a tag; all where nothing is wanted.

        Raises:
            RequestError: a word is neither.
        """
        words = list(wanted)
        known = {word for board in self.boards for word in (board.name, *board.spec.tags)}
        for word in words:
            if word not in known:
                raise RequestError(
                    f"{self.origin}: no board is called or tagged {word!r}; {nearest(word, sorted(known))}"
                )
        chosen = [board for board in self.boards if not words or {board.name, *board.spec.tags} & {*words}]
        return Inventory(self.origin, tuple(chosen))


def load_inventory(path: Path | str) -> Inventory:
    """Read and check a file.

    Raises:
        RequestError: it is not there, or something in it is wrong; one line with file, line and key.
    """
    file = read_yaml(Path(path), str(path))
    if "boards" not in file.content:
        raise file.error((), "no boards; expected boards: {NAME: {target: ssh:HOST, source: METER}}")
    try:
        spec = InventorySpec.model_validate(file.content)
    except ValidationError as error:
        raise file.error(*explained(error, InventorySpec)) from None
    return Inventory(str(path), tuple(Board(name, board) for name, board in spec.boards.items()))
