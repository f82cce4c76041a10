"""tc66: RDTech's USB meters TC66 and TC66C, over their own micro-USB port: ``tc66:/dev/ttyACM0``.

The meter sits between the supply and the board, so all that the board draws is inside. Its micro-USB port should go
to another host than the one that is measured, or the meter's own draw is inside too. Under a name in
/dev/serial/by-id it is found again after it was unplugged, whatever number it gets. The meter also counts mWh itself,
which the samples are checked against.

Its accuracy is assumed to be 1 %: no certificate was at hand. The Bluetooth side of the TC66C is not used.
Written against the documented protocol and a captured reply of a TC66C; not yet tried on a real meter.
"""

from __future__ import annotations

import time
from typing import Any

from hardware.meters.asking import LATENCY_S, REFRESH_S, AskingMeter, Frame
from hardware.meters.link import SerialLink, check_port
from hardware.meters.meter import Clock
from hardware.source import Found, Probe, SourceInfo
from hardware.sources.parameters import numbers
from hardware.wire import tc66
from hardware.wire.reading import Reading

BAUD = 115200
GAIN_U = 0.01
NOMINAL = Reading(volts=5.0, amps=1.0, watts=5.0)
"""For the resolution before the meter has been heard."""


class Tc66Source(AskingMeter):
    """One meter."""

    def __init__(self, port: str, *, clock: Clock = time.monotonic) -> None:
        self._device: dict[str, Any] = {}
        super().__init__(
            f"tc66:{port}",
            lambda: SerialLink(port, BAUD),
            tc66.SCALE,
            tc66.Tc66Decoder(),
            tc66.REQUEST,
            clock=clock,
        )

    @property
    def info(self) -> SourceInfo:
        resolution_w = tc66.SCALE.resolution_w(self.first or NOMINAL)
        return SourceInfo(
            name=self.name,
            kind="power",
            scope="board",
            covers=("everything behind the meter",),
            excludes=("power supply",),
            resolution=resolution_w,
            period_s=REFRESH_S,
            latency_s=LATENCY_S,
            gain_u=GAIN_U,
            offset_u=resolution_w,
            device=dict(self._device),
        )

    def _inspect(self, frame: Frame) -> None:
        if isinstance(frame, tc66.Tc66Frame) and not self._device:
            self._device = {"model": frame.product, "serial": frame.serial, "firmware": frame.firmware}


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the port can be opened; whether the meter answers shows when it is."""
    numbers("tc66", params, {})
    barred = check_port("tc66", argument)
    return barred or Found(Tc66Source(argument), f"a TC66 is to be on {argument}")
