"""local: the work runs in a fresh process of this machine."""

from __future__ import annotations

from typing import Any

from bench.errors import RequestError, show
from bench.process.launcher import Child, Launcher
from bench.process.messages import CellJob
from bench.process.worker import run_cell
from bench.suite.suite import Suite
from bench.targets.target import Target
from hardware.device.machine import Snapshot, snapshot

LOCAL = "local"


class Local(Target):
    """This machine."""

    name = LOCAL

    def check(self, suite: Suite) -> dict[str, Any]:
        """Nothing to be checked beside what each run is."""
        return {}

    def start(self, launcher: Launcher, job: CellJob) -> Child:
        """Fork a process for one repeat."""
        return launcher.start(run_cell, job)

    def look(self) -> Snapshot:
        """State of this machine."""
        return snapshot()


def make(address: str) -> Local:
    """This machine has no address.

    Raises:
        RequestError: one was given.
    """
    if address:
        raise RequestError(f"--target local:{show(address)}: expected local, without an address")
    return Local()
