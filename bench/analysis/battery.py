"""Battery life: how long a battery carries a device that senses, infers, adapts and transmits, as an interval.

    I_avg = I_sleep + sum of currents x shares + sum over events of n E / (V eta 24 h)
    Q = capacity x usable share x temperature factor
    T = ln(1 + s Q / I_avg) / s,  and Q / I_avg without self-discharge (s = 0)

with n events of E joules a day, a converter of efficiency eta, and a self-discharge of s per hour: what is left loses
s x Q an hour besides the load. An average hides that batteries dislike peaks and that days differ (Barboni and Valle
2014), so no life is ever one date: each figure is the span between the worst and the best that all ranges allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.savings import measured
from bench.analysis.statistics import t_interval
from bench.read.results import Results
from bench.suite.battery import BatterySpec, Range
from bench.suite.work import ADAPT
from bench.text import joules as joules_text

DAY_H = 24.0
MONTH_H = 730.0
YEAR_H = 8766.0
"""Hours of a month and a year, as battery lives are commonly given in (365 / 12 and 365.25 days)."""

SECONDS_PER_H = 3600.0
_EVENTS = ("sense", "infer", "transmit")


def life_h(average_a: float, charge_ah: float, loss_per_h: float = 0.0) -> float:
    """Hours that a charge carries a current; infinite where nothing flows.

    Args:
        average_a: mean current, A.
        charge_ah: usable charge at the beginning, Ah.
        loss_per_h: self-discharge, share of what is left per hour.
    """
    if average_a <= 0:
        return math.inf
    if loss_per_h <= 0:
        return charge_ah / average_a
    return math.log1p(loss_per_h * charge_ah / average_a) / loss_per_h


def current_for(life_hours: float, charge_ah: float, loss_per_h: float = 0.0) -> float:
    """Mean current in A with which a charge lasts so many hours; the inverse of `life_h`."""
    if loss_per_h <= 0:
        return charge_ah / life_hours
    return loss_per_h * charge_ah / math.expm1(loss_per_h * life_hours)


def duty_a(parts: Mapping[str, tuple[float, float]]) -> float:
    """Mean current of parts that each draw a current (A) for a share of the time."""
    return sum(current_a * share for current_a, share in parts.values())


def event_a(per_day: float, energy_j: float, voltage_v: float, efficiency: float = 1.0) -> float:
    """Mean current in A of events: n E / (V eta 24 h)."""
    return per_day * energy_j / (voltage_v * efficiency * DAY_H * SECONDS_PER_H)


@dataclass(frozen=True, kw_only=True)
class Life:
    """What a battery does with one way of adapting. Each figure is the lowest and the highest that the ranges allow.

    Attributes:
        tuning_j: joules of one tuning; None for a device that never adapts.
        share: of the battery that one tuning takes.
        average_a: mean current in A.
        adapting: share of the mean current that adapting takes.
        days: life.
    """

    tuning_j: Range | None
    share: Range | None
    average_a: Range
    adapting: Range
    days: Range


def life(battery: BatterySpec, tuning_j: Range | None = None) -> Life:
    """The life of a battery whose device adapts with so many joules a time.

    Args:
        tuning_j: of one tuning; None where the device does not adapt.
    """
    ends = [_end(battery, tuning_j, worst) for worst in (True, False)]
    (worst_a, worst_adapt_a, worst_ah, worst_loss), (best_a, best_adapt_a, best_ah, best_loss) = ends
    share: Range | None = None
    if tuning_j is not None:
        low_v, high_v = battery.voltage
        least, most = battery.efficiency
        share = (
            tuning_j[0] / (high_v * most * best_ah * SECONDS_PER_H),
            tuning_j[1] / (low_v * least * worst_ah * SECONDS_PER_H),
        )
    rest = (best_a - best_adapt_a, worst_a - worst_adapt_a)
    return Life(
        tuning_j=tuning_j,
        share=share,
        average_a=(best_a, worst_a),
        adapting=(_part(best_adapt_a, rest[1]), _part(worst_adapt_a, rest[0])),
        days=(life_h(worst_a, worst_ah, worst_loss) / DAY_H, life_h(best_a, best_ah, best_loss) / DAY_H),
    )


def _end(battery: BatterySpec, tuning_j: Range | None, worst: bool) -> tuple[float, float, float, float]:
    """Mean current, that of adapting (A), usable charge (Ah) and self-discharge per hour at one end of all ranges."""
    much, little = (1, 0) if worst else (0, 1)
    voltage_v, efficiency = battery.voltage[little], battery.efficiency[little]
    base_a = battery.sleep[much] + duty_a(
        {name: (draw.current[much], draw.share[much]) for name, draw in battery.draws.items()}
    )
    for event in filter(None, (getattr(battery, name) for name in _EVENTS)):
        base_a += event_a(event.per_day, event.energy[much], voltage_v, efficiency)
    adapt_a = 0.0 if tuning_j is None else event_a(battery.adapt, tuning_j[much], voltage_v, efficiency)
    charge_ah = battery.capacity[little] * battery.usable[little] * battery.cold_factor[little]
    return base_a + adapt_a, adapt_a, charge_ah, battery.monthly_loss[much] / MONTH_H


def _part(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else 0.0


CONDITION = ["data", "train_size", "arm"]
SPANS = ("tuning_j", "share", "average_a", "adapting", "days")


def lives(results: Results, battery: BatterySpec, *, net: bool = False) -> pd.DataFrame:
    """The battery's life with each condition of a run whose work is to adapt.

    The joules of a condition are the mean over its repeats, and their range the 95 % t interval of that mean and the
    meter's expanded uncertainty, in quadrature; of one repeat the uncertainty alone.

    Args:
        net: joules net of idle power; for a device that is as busy while it does not adapt.

    Returns:
        Columns CONDITION, n, grade, source, and the lowest and highest (`_lo`, `_hi`) of each of SPANS.
    """
    name = "net" if net else "gross"
    column, spread = f"energy_{name}_j", "energy_net_u_j" if net else "energy_u_j"
    rows = []
    records = measured(results.records)
    records = records[records["work"].fillna(ADAPT) == ADAPT]  # what classifies images is no tuning
    for condition, part in records[records["ok"]].groupby(CONDITION, sort=False):
        found = t_interval(part[column].to_numpy(float))
        if found.mean is None:
            continue
        half = 0.0 if found.hi is None else found.hi - found.mean
        u_j = part[spread].mean()
        half = math.hypot(half, 0.0 if math.isnan(u_j) else float(u_j))
        one = life(battery, (max(0.0, found.mean - half), found.mean + half))
        facts = dict(zip(CONDITION, condition, strict=True)) | {
            "n": found.n,
            "grade": max(part["grade"].dropna(), default=""),
            "source": "+".join(sorted(set(part["source"].dropna()))),
        }
        spans = {key: getattr(one, key) for key in SPANS}
        ends = {f"{key}_{end}": span[at] for key, span in spans.items() if span for at, end in enumerate(("lo", "hi"))}
        rows.append(facts | ends)
    columns = [*CONDITION, "n", "grade", "source"]
    columns += [
        f"{key}_{end}" for key in ("tuning_j", "share", "average_a", "adapting", "days") for end in ("lo", "hi")
    ]
    return pd.DataFrame(rows, columns=columns)


def span(low: float, high: float, digits: int = 3) -> str:
    """Write a range; one number where both ends print alike."""
    ends = [_plain(low, digits), _plain(high, digits)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _plain(value: float, digits: int) -> str:
    if math.isinf(value):
        return "\N{INFINITY}"
    places = max(0, digits - 1 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{min(places, 9)}f}"


def life_text(days: Range) -> str:
    """A life in days, months of 730 h or years of 8766 h, whichever suits its upper end."""
    for hours, unit in ((YEAR_H, "years"), (MONTH_H, "months")):
        size = hours / DAY_H
        if days[1] >= 2 * size:
            return f"{span(days[0] / size, days[1] / size)} {unit}"
    return f"{span(*days)} days"


def sentence(row: Mapping[Any, Any]) -> str:
    """One condition's life in a sentence."""
    share = span(100 * row["share_lo"], 100 * row["share_hi"], 2)
    return (
        f"one tuning is {share} % of this battery; it lasts {life_text((row['days_lo'], row['days_hi']))} "
        f"({span(row['days_lo'], row['days_hi'])} days)"
    )


def _scaled(ends: Range, factor: float, digits: int) -> str:
    return span(ends[0] * factor, ends[1] * factor, digits)


def assumptions(battery: BatterySpec) -> str:
    """What a life was computed from."""
    facts = [
        f"capacity {_scaled(battery.capacity, 1000, 4)} mAh at {span(*battery.voltage)} V",
        f"usable share {_scaled(battery.usable, 1, 2)}",
        f"self-discharge {_scaled(battery.monthly_loss, 100, 2)} % a month",
        *([f"temperature factor {_scaled(battery.cold_factor, 1, 2)}"] if battery.cold_factor != (1.0, 1.0) else []),
        *([f"converter {_scaled(battery.efficiency, 1, 2)}"] if battery.efficiency != (1.0, 1.0) else []),
        f"asleep {_scaled(battery.sleep, 1e6, 4)} \N{MICRO SIGN}A",
        *(
            f"{name} {draw.current[1] * 1000:.3g} mA for {100 * draw.share[1]:.3g} %"
            for name, draw in battery.draws.items()
        ),
        *(
            f"{name} {event.per_day:g} a day of {joules_text(event.energy[1])}"
            for name in _EVENTS
            if (event := getattr(battery, name)) is not None
        ),
        f"{battery.adapt:.3g} tunings a day",
    ]
    return "; ".join(facts)
