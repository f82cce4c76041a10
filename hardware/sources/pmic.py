"""pmic: the power chip of the Raspberry Pi 5, read by ``vcgencmd pmic_read_adc``.

The chip measures current and voltage of 12 rails; the figure is the plain sum of V x A over the rails that have both.
Not in it: what these rails do not feed (USB devices, fan, 5 V of the GPIO header) and the loss of the regulators. Two
people fitted the power at the plug to this sum and found 1.13 x sum + 0.64 W and 1.15 x sum + 0.59 W; the measured sum
is reported without correction. Differences between runs are more certain than the absolute figure.

The listing is one entry a line, in no order; current and voltage belong together by name:

    VDD_CORE_A current(7)=1.87674000A
    VDD_CORE_V volt(15)=0.89745940V

Older models have no such chip: the firmware knows no such command there. How often the values change is not
documented; the period is assumed. Tried with a recorded listing, not on a Raspberry Pi.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from hardware.device import vcgencmd
from hardware.errors import SourceError
from hardware.source import Found, Health, NoPermission, NotFound, PowerSource, Probe, Sample, SourceInfo

COMMAND = "pmic_read_adc"
ENTRY = re.compile(
    r"(?<!\w)([A-Z0-9_]{1,40})_([AV])\s+(?:current|volt)\([0-9]{1,3}\)=([0-9]{1,4}(?:\.[0-9]{1,12})?)\2(?!\w)",
    re.ASCII,
)

PERIOD_S = 0.5
"""Each poll is a process: 2 a second cost about 1 % of one core; 10 would disturb the measurement."""

GAIN_U = 0.07
HOW_TO_FIX = "only the group 'video' may ask the firmware: sudo usermod -aG video $USER, then log in again"


class PmicSource(PowerSource):
    """The sum of the rails. A reading that fails is a sample that is missing."""

    def __init__(self, names: tuple[str, ...], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._names = names
        self._clock = clock
        self._lost = 0
        self._problem: str | None = None
        self._info = SourceInfo(
            name="pmic",
            kind="power",
            scope="rail",
            covers=self._names,
            excludes=("USB devices", "fan", "5 V header", "regulators", "power supply"),
            period_s=PERIOD_S,
            gain_u=GAIN_U,
            params={"command": f"vcgencmd {COMMAND}"},
        )

    @property
    def health(self) -> Health:
        return Health(lost=self._lost, problem=self._problem)

    def open(self) -> None:
        if not self.poll():
            raise SourceError("pmic: the power chip does not answer any more")

    def poll(self) -> list[Sample]:
        before_s = self._clock()
        try:
            rails_w = rail_powers_w(vcgencmd.ask(COMMAND))
            if tuple(sorted(rails_w)) != self._names:
                # the sum of half a listing would be a smaller figure, not a gap
                raise SourceError(f"{len(rails_w)} rails instead of {len(self._names)}")
        except (vcgencmd.VcgencmdError, SourceError) as error:
            self._lost += 1
            self._problem = str(error)
            return []
        return [((before_s + self._clock()) / 2, sum(rails_w.values()))]


def rail_powers_w(listing: str) -> dict[str, float]:
    """The power of each rail that the listing gives voltage and current of, W.

    Raises:
        SourceError: it gives no such pair, or one value twice.
    """
    values: dict[tuple[str, str], float] = {}
    for name, unit, number in ENTRY.findall(listing):
        if (name, unit) in values:
            raise SourceError(f"pmic: the listing gives {name}_{unit} twice")
        values[name, unit] = float(number)
    powers_w = {
        name: amps * values[name, "V"] for (name, unit), amps in values.items() if unit == "A" and (name, "V") in values
    }
    if not powers_w:
        # BATT_V and EXT5V_V are voltages without a current: no power, which is not a power of 0
        raise SourceError("pmic: the listing gives no rail's current and voltage")
    return powers_w


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found on a Raspberry Pi 5 whose user may ask the firmware."""
    if not vcgencmd.is_here():
        return NotFound("no vcgencmd: this is no Raspberry Pi, or its tools are not installed")
    try:
        listing = vcgencmd.ask(COMMAND)
    except vcgencmd.VcgencmdError as error:
        # /dev/vcio is the interface to the firmware
        barred = any(hint in str(error) for hint in ("/dev/vc", "ermission"))
        return NoPermission(HOW_TO_FIX) if barred else NotFound(f"{error}; only the Raspberry Pi 5 has this chip")
    try:
        rails_w = rail_powers_w(listing)
    except SourceError:
        return NotFound("no current of any rail: only the Raspberry Pi 5 measures them")
    names = tuple(sorted(rails_w))
    return Found(
        PmicSource(names), f"{len(names)} rails show {sum(rails_w.values()):.2f} W; USB and fan are not among them"
    )
