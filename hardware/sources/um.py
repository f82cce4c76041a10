"""um24c, um25c, um34c: RDTech's USB meters over Bluetooth or a serial port.

``um25c:/dev/rfcomm0`` is a port, as ``rfcomm bind 0 ADDRESS`` makes it; ``um25c:AA:BB:CC:DD:EE:FF`` an address,
reached without that. Pair the meter first, its PIN is 1234. It sits between the supply and the board, so all that the
board draws is inside. The meter also counts mWh itself, which the samples are checked against.

The baud rate has no effect over Bluetooth.
Written against the documented protocol and a captured reply of a UM24C; not yet tried on a real meter.
"""

from __future__ import annotations

import functools
import time

from hardware.errors import SourceError
from hardware.meters.asking import AskingMeter
from hardware.meters.link import ADDRESS, Link, RfcommLink, SerialLink, check_address, check_port
from hardware.meters.meter import Clock
from hardware.source import Found, NotFound, Probe
from hardware.wire import um

BAUD = 9600


class UmSource(AskingMeter):
    """One meter of the three models."""

    def __init__(self, model: str, argument: str, *, clock: Clock = time.monotonic) -> None:
        self.model = next(known for known in um.MODELS.values() if known.name == model)
        self._argument = argument
        super().__init__(
            f"{model}:{argument}",
            self._connect,
            self.model.scale,
            um.UmDecoder(),
            um.REQUEST,
            clock=clock,
            device={"model": model.upper()},
        )

    def _connect(self) -> Link:
        if ADDRESS.fullmatch(self._argument):
            return RfcommLink(self._argument)
        return SerialLink(self._argument, BAUD)

    def _inspect(self, frame: um.UmFrame) -> None:
        found = frame.model.name
        if found != self.model.name:
            # its volts or amperes have another scale; the name in the record would be wrong
            raise SourceError(f"the meter there is a {found.upper()}; ask for {found}:{self._argument}")


def _probe(model: str, argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the port can be opened; whether the meter answers shows when it is."""
    if ADDRESS.fullmatch(argument):
        barred = check_address(argument)
        return barred or Found(UmSource(model, argument), f"a {model.upper()} should be at {argument}")
    if argument and not argument.startswith("/") and ":" in argument:
        return NotFound(f"{argument} is neither a port nor a Bluetooth address such as AA:BB:CC:DD:EE:FF")
    return check_port(model, argument) or Found(UmSource(model, argument), f"a {model.upper()} should be on {argument}")


probe_um24c, probe_um25c, probe_um34c = (functools.partial(_probe, model) for model in ("um24c", "um25c", "um34c"))
