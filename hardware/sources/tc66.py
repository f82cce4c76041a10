"""tc66: RDTech's USB meters TC66 and TC66C, over their own micro-USB port: ``tc66:/dev/ttyACM0``.

The meter sits between the supply and the board, so all that the board draws is inside. Its micro-USB port should go
to another host than the one that is measured, or the meter's own draw is inside too. Under a name in
/dev/serial/by-id it is found again after it was unplugged, whatever number it gets. The meter also counts mWh itself,
which the samples are checked against.

The Bluetooth side of the TC66C is not used.
Written against the documented protocol and a captured reply of a TC66C; not yet tried on a real meter.
"""

from __future__ import annotations

import time

from hardware.meters.asking import AskingMeter
from hardware.meters.link import SerialLink, check_port
from hardware.meters.meter import Clock
from hardware.source import Found, Probe
from hardware.wire import tc66

BAUD = 115200


class Tc66Source(AskingMeter):
    """One meter."""

    def __init__(self, port: str, *, clock: Clock = time.monotonic) -> None:
        super().__init__(
            f"tc66:{port}",
            lambda: SerialLink(port, BAUD),
            tc66.SCALE,
            tc66.Tc66Decoder(),
            tc66.REQUEST,
            clock=clock,
        )

    def _inspect(self, frame: tc66.Tc66Frame) -> None:
        self._identify({"model": frame.product, "serial": frame.serial, "firmware": frame.firmware})


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the port can be opened; whether the meter answers shows when it is."""
    barred = check_port("tc66", argument)
    return barred or Found(Tc66Source(argument), f"a TC66 should be on {argument}")
