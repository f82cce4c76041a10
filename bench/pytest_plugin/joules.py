"""The fixture `joules`: measure a function in windows with quiet around them, between idle baselines, as a cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError

import hardware
from bench.errors import RequestError, nearest, show
from bench.pytest_plugin.gate import KEYS, Check, Estimate, estimate
from bench.run.outcome import window_fields
from bench.store.record import Record
from bench.suite.suite import EnergySpec

P = ParamSpec("P")
T = TypeVar("T")

SETTINGS = ("repeats", "min_window_s", "idle_s", "guard_s")
"""What the marker `joules` may set; the defaults are those of a suite's `energy:`."""


class Joules:
    """The value of the fixture `joules`: call it with the function to measure.

    Args:
        where, name: file and name of the test; in a record they take the places of data and arm.
        sampler: returns the running sampler when a window is due, given the seconds of an idle baseline; None where
            nothing is measured.
        settings: those of SETTINGS that differ from the defaults.
        check: judges the windows once they are all measured; may raise.

    Attributes:
        enabled: False where benchmarks are disabled; then functions are called once and nothing is measured.
        records: one per window.
    """

    def __init__(
        self,
        where: str,
        name: str,
        sampler: Callable[[float], hardware.Sampler] | None,
        settings: Mapping[str, Any] | None = None,
        check: Check | None = None,
    ) -> None:
        self.enabled = sampler is not None
        self.records: list[Record] = []
        self._where = where
        self._name = name
        self._sampler = sampler
        self._energy = energy_spec(settings or {})
        self._check = check

    @property
    def estimate(self) -> Estimate | None:
        """The joules of one call with their 95 % interval; None where none were measured."""
        return estimate(self.records)

    @property
    def mean(self) -> float | None:
        """Mean gross joules of one call; None where none were measured."""
        found = self.estimate
        return None if found is None else found.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % interval of `mean`, J."""
        found = self.estimate
        return None if found is None else (found.lo, found.hi)

    @property
    def net(self) -> float | None:
        """Mean joules of one call net of the idle power before it; None also without an idle baseline."""
        found = self.estimate
        return None if found is None else found.net

    @property
    def grade(self) -> str | None:
        """Worst grade of the windows; None where nothing was measured."""
        return max((one.grade for one in self.records if one.grade is not None), default=None)

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function until a window is long enough, in as many windows as repeats; return its last result.

        Raises:
            RequestError: the energy source is not usable, or this was called before in the same test.
            JouletuneError: the source does not open.
            AssertionError: the joules are proven to exceed a limit of the marker.
        """
        __tracebackhide__ = True  # a test that fails shows its own lines
        if self._sampler is None:
            return function(*args, **kwargs)
        if self.records:
            raise RequestError("joules(...) was called before in this test; expected one function per test")
        for number in range(self._energy.repeats):
            sampler = self._sampler(self._energy.idle_s)
            result = self._window(sampler, number, function, *args, **kwargs)
        if self._check is not None:
            self._check(self.records)
        return result

    def _window(
        self,
        sampler: hardware.Sampler,
        number: int,
        function: Callable[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        __tracebackhide__ = True
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        executions = 0
        needed_s = hardware.window_needed_s(sampler.source.info, self._energy.min_window_s)
        window = sampler.open_window(self._name, self._energy.guard_s)
        try:
            t0_s = time.monotonic()
            while True:
                result = function(*args, **kwargs)
                executions += 1
                t1_s = time.monotonic()
                if t1_s > t0_s and t1_s - t0_s >= needed_s:
                    break
            energy = window.close(t0_s=t0_s, t1_s=t1_s, executions=executions, idle=sampler.idle_baseline)
        finally:
            window.cancel()  # the function may have raised
        self.records.append(
            Record(
                cell_id=f"{self._where}::{self._name}",
                repeat=number,
                status="ok",
                dataset="",
                shift="",
                level="",
                data=self._where,
                train_size=0.0,
                blocks=self._name,
                seed=0,
                method="fixed",
                arm=self._name,
                model="",
                bn_mode="",
                source=sampler.source.info.name,
                started_at=started_at,
                started_mono_s=t0_s,
                **window_fields(energy),
            )
        )
        return result


def energy_spec(settings: Mapping[str, Any]) -> EnergySpec:
    """Make the settings of a measurement from the arguments of the marker `joules`.

    Raises:
        RequestError: an argument that it does not have, or a value out of range.
    """
    for key in settings:
        if key not in SETTINGS:
            raise RequestError(f"the marker joules has no argument {show(key)}; {nearest(key, (*SETTINGS, *KEYS))}")
    try:
        return EnergySpec.model_validate(
            {key: value if key == "repeats" else _number(value) for key, value in settings.items()}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        raise RequestError(f"the marker joules: {key}={show(settings[key])}: {problem['msg'].lower()}") from None


def _number(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
