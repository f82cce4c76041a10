"""Battery: the profile of a battery and of a device's day, from a suite's `battery:` or a command line, checked.

Quantities are texts with a unit, `6700mAh` or `70uA`; a range is two numbers, `[0.7, 0.9]` or `2..3`. A fuller
description, with the formula: `bench.analysis.battery`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from bench.errors import RequestError, show
from bench.suite.spec import Spec, explained, wrong

Range = tuple[float, float]
"""Lowest and highest value; both the same where it is known exactly."""

_PREFIX = {
    "k": 1e3,
    "": 1.0,
    "m": 1e-3,
    "u": 1e-6,
    "\N{MICRO SIGN}": 1e-6,
    "\N{GREEK SMALL LETTER MU}": 1e-6,
    "n": 1e-9,
}
_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"
_QUANTITY = re.compile(rf"({_NUMBER})(?:\.\.({_NUMBER}))?\s*(\S*)")
MAX = 1e12

Chemistry = Literal["li-ion", "nimh", "nimh-low-discharge", "lithium-primary", "alkaline"]

SELF_DISCHARGE: dict[str, Range] = {
    "li-ion": (0.02, 0.03),
    "nimh": (0.30, 0.30),
    "nimh-low-discharge": (0.02, 0.03),
    "lithium-primary": (0.0, 0.005),
    "alkaline": (0.02 / 12, 0.03 / 12),
}
"""Share of what is left that a month takes, by chemistry: makers' data sheets, as commonly given."""

COLD: dict[str, tuple[tuple[float, float], ...]] = {
    "alkaline": ((-16.1, 0.54), (3.4, 0.97), (20.5, 1.0)),
    "lithium-primary": ((-16.1, 1.0), (20.5, 1.0)),
}
"""Temperature in degC -> share of the capacity, straight lines between: AudioMoth recorders of the Kitzes lab
(ARU_battery_longevity). Of other chemistries no such measurement is at hand."""


def quantity(given: Any, unit: str, *, least: float = 0.0, most: float = MAX, bare: bool = True) -> Range:
    """Read a range of a unit: `70uA`, `2..3mA`, a list of two of these, or (in a list, or where bare) a number.

    Raises:
        PydanticCustomError: anything else, or out of range.
    """
    if isinstance(given, list | tuple) and len(given) == 2:
        ends = [quantity(one, unit, least=least, most=most) for one in given]  # bare, as a manifest has them
        return _ordered(ends[0][0], ends[1][1], given)
    expected = f"a number of {unit}, e.g. 5{unit} or 5..6{unit}" if unit else "a number, or a range such as 0.7..0.9"
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise wrong(f"expected {expected}, got {show(given)}")
    match = _QUANTITY.fullmatch(str(given).strip())
    known = {prefix + unit: factor for prefix, factor in _PREFIX.items()} if unit else {}
    known |= ({"": 1.0} if bare else {}) | ({"%": 0.01} if not unit else {})
    if match is None or match[3] not in known:
        raise wrong(f"expected {expected}, got {show(given)}")
    low, high = (float(match[group] or match[1]) * known[match[3]] for group in (1, 2))
    if not (least <= low <= most and least <= high <= most):
        raise wrong(f"{show(given)} is out of range; expected {expected}, from {least:g} to {most:g}")
    return _ordered(low, high, given)


def _ordered(low: float, high: float, given: Any) -> Range:
    if low > high:
        raise wrong(f"{show(given)}: a range goes from the lower to the higher value")
    return low, high


def per_day(given: Any) -> float:
    """Read how often something happens a day: `24`, or `1/30` for once in 30 days.

    Raises:
        PydanticCustomError: it is no number from 0 to 1e9.
    """
    match = re.fullmatch(rf"({_NUMBER})(?:/({_NUMBER}))?", str(given).strip())
    days = float(match[2] or 1) if match else 0.0
    if match is None or days == 0 or float(match[1]) / days > 1e9:
        raise wrong(f"expected how often a day, e.g. 24 or 1/30, got {show(given)}")
    return float(match[1]) / days


def _two_in_one(separator: str, first: str, second: str, expected: str) -> Callable[[Any], Any]:
    """A validator that takes a text of two values apart, into the fields of these names."""

    def apart(given: Any) -> Any:
        if not isinstance(given, str):
            return given
        one, found, other = given.partition(separator)
        if not found:
            raise wrong(f"expected {expected}, got {show(given)}")
        return {first: one, second: other}

    return apart


_event = _two_in_one("x", "per_day", "energy", "how often a day and the energy of one, e.g. 24x0.5J")
_draw = _two_in_one(":", "current", "share", "a current and its share of the time, e.g. 8mA:1%")


PerDay = Annotated[float, BeforeValidator(per_day)]
Joules = Annotated[Range, BeforeValidator(lambda given: quantity(given, "J"))]
Amperes = Annotated[Range, BeforeValidator(lambda given: quantity(given, "A", bare=given == 0))]
Share = Annotated[Range, BeforeValidator(lambda given: quantity(given, "", most=1.0))]
PositiveShare = Annotated[Range, BeforeValidator(lambda given: quantity(given, "", least=1e-3, most=1.0))]
AmpereHours = Annotated[Range, BeforeValidator(lambda given: quantity(given, "Ah", least=1e-6, bare=False))]
Volts = Annotated[Range, BeforeValidator(lambda given: quantity(given, "V", least=1e-3))]


class Event(Spec):
    """What a device does so many times a day, and the energy of one in J."""

    per_day: PerDay
    energy: Joules


class Draw(Spec):
    """A current in A that flows for a share of the time."""

    current: Amperes
    share: Share


class BatterySpec(Spec):
    """A battery and a day of the device.

    Attributes:
        capacity: as printed on it, Ah; `voltage` in V.
        usable: share of it that a device can use before its supply gives way. Recorders that were to last 18.3 days
            lasted 14, which is 0.76.
        chemistry: gives the self-discharge, and what cold costs, where these are not given.
        self_discharge: share a month.
        temperature_c: where the device is.
        temperature_factor: share of the capacity at that temperature.
        efficiency: of the converter between battery and device.
        sleep: current that always flows, A.
        draws: name -> current for a share of the time, besides.
        sense, infer, transmit: events a day.
        adapt: tunings a day; their joules are those of a run.
    """

    capacity: AmpereHours
    voltage: Volts
    usable: PositiveShare = (0.76, 1.0)
    chemistry: Chemistry | None = None
    self_discharge: Share | None = None
    temperature_c: Annotated[float, Field(ge=-60, le=100)] | None = None
    temperature_factor: PositiveShare | None = None
    efficiency: PositiveShare = (1.0, 1.0)
    sleep: Amperes = (0.0, 0.0)
    draws: dict[str, Annotated[Draw, BeforeValidator(_draw)]] = Field(default_factory=dict)
    sense: Annotated[Event, BeforeValidator(_event)] | None = None
    infer: Annotated[Event, BeforeValidator(_event)] | None = None
    transmit: Annotated[Event, BeforeValidator(_event)] | None = None
    adapt: PerDay = 1.0

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.temperature_c is not None and self.temperature_factor is None:
            if self.chemistry not in COLD:
                raise wrong(
                    f"is measured for {' and '.join(COLD)} batteries only; give temperature_factor, the share of the "
                    "capacity that is left there",
                    "temperature_c",
                )
            if self.temperature_c < COLD[self.chemistry][0][0]:
                raise wrong(f"below {COLD[self.chemistry][0][0]:g} degC nothing was measured", "temperature_c")
        return self

    @property
    def monthly_loss(self) -> Range:
        """Share that self-discharge takes a month."""
        if self.self_discharge is not None:
            return self.self_discharge
        return SELF_DISCHARGE[self.chemistry] if self.chemistry is not None else (0.0, 0.0)

    @property
    def cold_factor(self) -> Range:
        """Share of the capacity at the temperature."""
        if self.temperature_factor is not None:
            return self.temperature_factor
        if self.temperature_c is None or self.chemistry is None:
            return 1.0, 1.0
        points = COLD[self.chemistry]
        for (left_c, left), (right_c, right) in pairwise(points):
            if self.temperature_c <= right_c:
                share = left + (right - left) * (self.temperature_c - left_c) / (right_c - left_c)
                return share, share
        return points[-1][1], points[-1][1]

    @classmethod
    def of(cls, given: dict[str, Any], name: str = "battery") -> Self:
        """Make it from keys and values as in a suite.

        Args:
            name: what the error names as the place.

        Raises:
            RequestError: a value that is wrong, or one that is missing.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            loc, message = explained(error, cls)
            place = ".".join(map(str, loc))
            raise RequestError(f"{name}{f'.{place}' if place else ''}: {message}") from None
