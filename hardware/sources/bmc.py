"""ipmi, redfish: the power of a server's supplies as its management controller shows it.

``ipmi`` asks the controller of this machine with ``ipmitool dcmi power reading`` (root, or a group that may open
/dev/ipmi0). ``redfish:HOST/CHASSIS`` asks one over the network with ``curl``, which takes the password from ~/.netrc
and what else it needs, e.g. a certificate, from ~/.curlrc, so that neither stands in a record.

Controllers round to a watt or more, average over a time of their own, and are new every second or less often: for
windows of minutes. Written against the documents of DCMI 1.5 and of Redfish's Power schema; untried on a server.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable

from hardware.source import Found, NoPermission, NotFound, Probe, SourceInfo
from hardware.sources.polled import PolledSource

GAIN_U = 0.05
COUNT_W = 1.0
PERIOD_S = {"ipmi": 1.0, "redfish": 5.0}
"""Longer than many controllers take for a new value; assumed."""

ZERO_W = 2.0
TIMEOUT_S = 4.0
MAX_BYTES = 1_000_000
WATTS = re.compile(r"Instantaneous power reading:\s*([0-9]{1,6})\s*Watts")
IN_USE = re.compile(r"Power reading state is:\s*activated")
TARGET = re.compile(r"([A-Za-z0-9.-]+(?::[0-9]{1,5})?)/([A-Za-z0-9._-]+)")


def answer(command: list[str]) -> str:
    """What a program prints.

    Raises:
        OSError: it cannot be started, takes too long, or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} took more than {TIMEOUT_S:g} s") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"{command[0]}: {why[-1][:200] if why else f'exit status {done.returncode}'}")
    return done.stdout[:MAX_BYTES].decode(errors="replace")


def dcmi_w(text: str) -> float:
    """The power in what ``ipmitool dcmi power reading`` prints, W.

    Raises:
        ValueError: it shows none, or its measuring is off.
    """
    match = WATTS.search(text)
    if match is None or not IN_USE.search(text):
        raise ValueError("the controller shows no power reading")
    return float(match[1])


def redfish_w(text: str) -> float:
    """The power of a chassis in Redfish's Power resource, W.

    Raises:
        ValueError: it has none.
    """
    found = json.loads(text)
    controls = found.get("PowerControl") if isinstance(found, dict) else None
    controls = controls if isinstance(controls, list) else []
    watts = [one.get("PowerConsumedWatts") for one in controls if isinstance(one, dict)]
    known = [one for one in watts if isinstance(one, int | float) and not isinstance(one, bool)]
    if not known:
        raise ValueError("the chassis shows no PowerConsumedWatts")
    return float(known[0])  # the first is the chassis as a whole, further ones are parts of it


def probe_ipmi(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the controller of this machine shows a power."""
    program = shutil.which("ipmitool")
    if program is None:
        return NotFound("ipmitool is not installed")
    return _probe("ipmi", lambda: dcmi_w(answer([program, "dcmi", "power", "reading"])))


def probe_redfish(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the controller named shows a power."""
    target = TARGET.fullmatch(argument)
    if target is None:
        return NotFound("name the controller and the chassis: redfish:HOST/CHASSIS, e.g. redfish:bmc.lab/1")
    program = shutil.which("curl")
    if program is None:
        return NotFound("curl is not installed")
    url = f"https://{target[1]}/redfish/v1/Chassis/{target[2]}/Power"
    command = [program, "--silent", "--show-error", "--fail", "--netrc-optional", "--max-time", "3", url]
    return _probe(f"redfish:{argument}", lambda: redfish_w(answer(command)))


def _probe(name: str, ask: Callable[[], float]) -> Probe:
    try:
        power_w = ask()
    except (OSError, ValueError) as error:
        if "ermission" in str(error) or "Could not open device" in str(error):
            return NoPermission("its controller may not be asked: run as root, or allow this user to open /dev/ipmi0")
        return NotFound(str(error))
    base = name.partition(":")[0]
    info = SourceInfo(
        name=name,
        kind="power",
        scope="board",
        covers=("the server with its power supplies",),
        resolution=COUNT_W,
        period_s=PERIOD_S[base],
        latency_s=PERIOD_S[base],
        gain_u=GAIN_U,
        offset_u=COUNT_W,
        zero_w=ZERO_W,
    )
    return Found(PolledSource(info, ask), f"the controller shows {power_w:.0f} W")
