"""shelly: a Shelly plug or relay with a power meter, by its local HTTP interface: ``shelly:HOST?channel=0``.

It sits between the wall and the power supply, whose losses are inside. The first generation answers at ``/meter/N``,
later ones at ``/rpc/Switch.GetStatus`` (``PM1.GetStatus`` where there is no switch). A password is not supported.
Its energy counter is not used: how often it is updated is not documented.

Written against the maker's documents of both interfaces; not yet tried on a real plug.
"""

from __future__ import annotations

import http.client
import json
import re
from typing import Any

from hardware.source import Found, NotFound, Probe, SourceInfo
from hardware.sources.parameters import full_name, numbers
from hardware.sources.polled import PolledSource

GAIN_U = 0.02
PERIOD_S = 1.0
"""How often the power is new is not documented; assumed."""

ZERO_W = 0.5
"""What a plug for 2,500 W may show off at no load; assumed."""

COUNT_W = 0.1
TIMEOUT_S = 2.0
MAX_BYTES = 65_536
HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")


class Shelly:
    """The interface of one device.

    Args:
        host: name or address, with a port where it is not 80.
        channel: number of the relay or meter.
    """

    def __init__(self, host: str, channel: int) -> None:
        self._host = host
        self._channel = channel
        self._path = ""

    def identity(self) -> dict[str, Any]:
        """Model, serial number and firmware, and how the power is asked for from now on.

        Raises:
            OSError, ValueError: no answer, or not from a Shelly.
        """
        facts = self._get("/shelly")
        if "gen" in facts:
            self._path = f"/rpc/Switch.GetStatus?id={self._channel}"
            try:
                self._get(self._path)
            except ValueError:  # a meter without a switch
                self._path = f"/rpc/PM1.GetStatus?id={self._channel}"
            named = {"model": facts.get("model"), "firmware": facts.get("fw_id") or facts.get("ver")}
        else:
            self._path = f"/meter/{self._channel}"
            named = {"model": facts.get("type"), "firmware": facts.get("fw")}
        return {**named, "serial": facts.get("mac")}

    def power_w(self) -> float:
        """The power now, W.

        Raises:
            OSError, ValueError: no answer, or none with a power.
        """
        status = self._get(self._path)
        power = status.get("power") if self._path.startswith("/meter") else status.get("apower")
        if isinstance(power, bool) or not isinstance(power, int | float) or status.get("is_valid") is False:
            raise ValueError("it shows no power; is this a model with a meter?")
        return float(power)

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read(MAX_BYTES)
        except http.client.HTTPException as error:
            raise ValueError(f"no HTTP: {error!r}") from None
        finally:
            connection.close()
        if answer.status != 200:
            hint = "; a password is not supported" if answer.status == 401 else ""
            raise ValueError(f"{path}: HTTP status {answer.status}{hint}")
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError(f"{path}: no object")
        return found


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the device answers and shows a power."""
    channel = int(numbers("shelly", params, {"channel": 0})["channel"])
    if not argument or not HOST.fullmatch(argument):
        return NotFound("name the plug: shelly:HOST, its name or address in the local network")
    plug = Shelly(argument, channel)
    try:
        named = plug.identity()
        power_w = plug.power_w()
    except (OSError, ValueError) as error:
        return NotFound(f"{argument} does not answer as a Shelly with a meter: {error}")
    info = SourceInfo(
        name=full_name("shelly", argument, params),
        kind="power",
        scope="board",
        covers=("all behind the plug, its power supply too",),
        resolution=COUNT_W,
        period_s=PERIOD_S,
        latency_s=PERIOD_S,
        gain_u=GAIN_U,
        offset_u=COUNT_W,
        zero_w=ZERO_W,
    )
    return Found(PolledSource(info, plug.power_w, plug.identity), f"a {named['model']} shows {power_w:.1f} W")
