"""Target: where a cell runs. Each speaks the handshake of `bench.process.messages`: ready, go, done, release.

One module of this package is one kind of target: `KIND.py` with a function `make(address)`, imported when a run names
it as `KIND:ADDRESS`. The sampler and its clock stay on the machine that starts the run. A target whose own clock marks
the work says with `Trained.edge_u_s` how well that is known on this one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bench.errors import RequestError, nearest, show
from bench.process.launcher import Launcher
from bench.process.messages import CellJob, Message, PrepareDone
from bench.suite.suite import Suite
from hardware.device.machine import DeviceFacts, Snapshot

Kind = TypeVar("Kind", bound=Message)

KINDS = ("local", "serial", "ssh")
"""Kinds of target: the modules of this package that make one."""

UNKNOWN = Snapshot(temperature_c=None, frequency_hz=None, governor=None)
"""State of a machine that does not tell it."""


class Running(Protocol):
    """One repeat under way, as the session that measures it sees it; `bench.process.launcher.Child` is one.

    Attributes:
        started_s: CLOCK_MONOTONIC of this machine when its start began.
    """

    started_s: float

    def send(self, word: str, /) -> None:
        """Send GO or RELEASE."""

    def receive(
        self,
        kind: type[Kind],
        *,
        deadline_s: float | None = None,
        on_other: Callable[[Message], None] = lambda _: None,
    ) -> Kind:
        """Wait for a message of this kind; times in it are on this machine's clock. Raises as `Child.receive`."""

    def signal(self, number: int, /) -> None:
        """Send a signal to whatever runs."""

    def close(self) -> None:
        """Let it end; kill it if it does not. Nothing of it is left afterwards."""

    def kill(self) -> None:
        """End it at once."""


class Target(Protocol):
    """A place where cells run.

    Attributes:
        name: as the user gives it, e.g. `local` or `serial:/dev/ttyACM0`.
    """

    name: str

    def check(self, suite: Suite) -> dict[str, Any]:
        """Check that the target is there and can do what a suite asks for.

        Returns:
            Facts about it for the manifest, plain values for JSON; a run goes on only where they are equal.

        Raises:
            RequestError: it is not, or cannot; nothing was changed.
        """

    def start(self, launcher: Launcher, job: CellJob) -> Running:
        """Start one repeat, in a process of its own.

        Raises:
            CellFailedError: it cannot be started.
            JouletuneError: the target is gone for good.
        """

    @property
    def facts(self) -> DeviceFacts | None:
        """The machine that does the work; None where nothing is known of it but what `check` returns."""
        return None

    @property
    def versions(self) -> dict[str, str | None] | None:
        """Of the packages there; None where they are those of this machine."""
        return None

    def prepare(self, done: PrepareDone, suite: Suite, base: Path, device: str) -> PrepareDone:
        """Bring there what was prepared on this machine.

        Args:
            base: the suite's folder.
            device: torch device that is to train.

        Returns:
            What was prepared, with the name of the device there.

        Raises:
            RequestError: the target cannot do what the suite asks for.
        """
        return done

    def look(self) -> Snapshot:
        """State of the machine that does the work. Never raises."""
        return UNKNOWN

    def load_s(self) -> tuple[float, float, float] | None:
        """Processor time there, s: used by all programs, that there was on all cores, and used by the work.

        None where it is not known. Never raises.
        """
        return None

    def stop(self) -> None:
        """Let a thread that waits for the target get a KeyboardInterrupt, now or at its next wait."""
        return

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        return


def target_of(name: str) -> Target:
    """The target of a name.

    Args:
        name: `local`, or `KIND:ADDRESS`.

    Raises:
        RequestError: there is no such kind, or the address is none of that kind.
    """
    kind, _, address = name.partition(":")
    if kind not in KINDS:
        raise RequestError(f"--target {show(name)}: no such kind of target; {nearest(kind, KINDS)}")
    made: Target = importlib.import_module(f"bench.targets.{kind}").make(address)
    return made
