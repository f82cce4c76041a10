"""Work: something of a fixed duration that windows can be put around, to compare them with each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from hardware.clock import Clock
from hardware.errors import HardwareError

Go = Callable[[], tuple[float, float]]
"""Do the work; returns its start and end on this host's monotonic clock."""

Work = Callable[[float], AbstractContextManager[Go]]
"""Make work of so many seconds ready, so that it starts at once when it is told to."""

WORKER = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic()
end = start + float(sys.argv[1])
while time.monotonic() < end:
    pass
print(start, time.monotonic(), flush=True)
"""


@contextmanager
def busy_core(seconds: float) -> Iterator[Go]:
    """One core of this device, busy for so long in a process of its own, while this one sleeps.

    Raises:
        HardwareError: the process did not start, or was killed.
    """
    command = [sys.executable, "-I", "-S", "-c", WORKER, repr(seconds)]
    child = subprocess.Popen(
        # a Ctrl-C reaches it too; what it says then is of no interest
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    tell, hear = child.stdin, child.stdout

    def go() -> tuple[float, float]:
        try:
            tell.write("go\n")
            tell.flush()
            start, end = hear.readline().split()
        except (OSError, ValueError):
            raise HardwareError("the process that was to keep a core busy has ended") from None
        return float(start), float(end)

    try:
        if hear.readline().strip() != "ready":
            raise HardwareError("the process that is to keep a core busy does not start")
        yield go
    finally:
        child.kill()
        child.communicate()


def quiet(clock: Clock) -> Work:
    """No work at all."""

    @contextmanager
    def nothing(seconds: float) -> Iterator[Go]:
        def go() -> tuple[float, float]:
            start_s = clock.monotonic()
            clock.sleep(seconds)
            return start_s, clock.monotonic()

        yield go

    return nothing
