"""Rules: from when on a difference counts, what fails a check, and how a user says so on the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.errors import RequestError, nearest, show

MARGINS = {"joules": 0.02, "accuracy": 0.005}
"""Practical margins: a difference within them is none. 2 % of joules; 0.5 points of accuracy, as a fraction."""

_EXAMPLE = "e.g. joules:5%,accuracy:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a comparison goes by. All limits are fractions: 0.05 is 5 % of joules, 0.01 is 1 point of accuracy.

    Attributes:
        margins: practical margin of `joules` and `accuracy`; a coarse meter or few test images raise it.
        fail_on: what is at least this much worse fails the check; empty where nothing does.
        basis: which joules, gross, or net of idle power.
        across: compare joules even where device, source or grade differ.
    """

    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    fail_on: Mapping[str, float] = field(default_factory=dict)
    basis: Literal["gross", "net"] = "gross"
    across: bool = False


def make_rules(*, fail_on: str | None, margin: str | None, net: bool, across: bool) -> Rules:
    """Rules from the words of a command line.

    Raises:
        RequestError: words that are not limits, or a limit to fail on that lies below the practical margin.
    """
    margins = MARGINS | (parse_limits(margin, "--margin") if margin is not None else {})
    limits = parse_limits(fail_on, "--fail-on") if fail_on is not None else {}
    for name, limit in limits.items():
        if limit < margins[name]:
            least = limit_text(name, margins[name])
            raise RequestError(
                f"--fail-on {limit_text(name, limit)} lies below the practical margin, within which nothing counts as "
                f"worse; use {least} or more, or lower it with --margin"
            )
    return Rules(margins=margins, fail_on=limits, basis="net" if net else "gross", across=across)


def parse_limits(text: str, option: str) -> dict[str, float]:
    """'joules:5%,accuracy:1' -> {"joules": 0.05, "accuracy": 0.01}. Joules are in %, accuracy in points.

    Raises:
        RequestError: names the part, what is wrong with it and the nearest valid one.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        if not name:
            raise RequestError(f"{option} {show(text)}: a limit is missing; expected name:limit, {_EXAMPLE}")
        if name not in MARGINS:
            raise RequestError(f"{option}: no limit is called {show(name)}; {nearest(name, MARGINS)}")
        if name in limits:
            raise RequestError(f"{option}: {name} is given twice; expected each at most once, {_EXAMPLE}")
        if not colon or not number:
            raise RequestError(f"{option}: {name} has no limit; expected {_default(name)}")
        limits[name] = _limit(name, number, option)
    return limits


def _limit(name: str, number: str, option: str) -> float:
    bare = number.removesuffix("%").strip()
    try:
        value = float(bare)
    except ValueError:
        raise RequestError(
            f"{option}: {name}:{show(number)[1:-1]} is not a number; expected {_default(name)}"
        ) from None
    if not math.isfinite(value) or not 0 < value <= 100:
        raise RequestError(f"{option}: {name} must be above 0 and at most 100, not {show(number)[1:-1]}")
    if name == "accuracy" and number.endswith("%"):
        raise RequestError(f"{option}: accuracy is in points, not in %; did you mean 'accuracy:{bare}'?")
    return value / 100


def _default(name: str) -> str:
    return f"a number, e.g. {limit_text(name, MARGINS[name])}"


def limit_text(name: str, limit: float) -> str:
    """A limit as it is written on the command line: 'joules:5%', 'accuracy:1'."""
    return f"{name}:{100 * limit:.6g}{'%' if name == 'joules' else ''}"
