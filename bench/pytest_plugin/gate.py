"""Gate: the limits of the marker `joules`, which fail a test only where its joules prove that one is exceeded."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import RequestError, show
from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.text import joules as joules_text

KEYS = ("max_j", "against", "fail")
"""What the marker may set besides how it measures."""

FAIL = "5%"


class JoulesExceededError(AssertionError):
    """A function is proven to take more joules than its marker allows."""


class JoulesUncheckedWarning(UserWarning):
    """A limit of the marker could not be checked, and the test went on."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The joules of one call, from all windows of a test.

    Attributes:
        n: windows with joules.
        mean, lo, hi: J and the ends of its 95 % interval: the t interval over the windows and the source's own
            expanded uncertainty (k = 2), in quadrature.
        net: mean J net of the idle power before the test; None without an idle baseline.
    """

    n: int
    mean: float
    lo: float
    hi: float
    net: float | None


def estimate(records: Sequence[Record]) -> Estimate | None:
    """The joules of one call; None where no window has any."""
    from bench.analysis.statistics import t_interval

    usable = [one for one in records if one.energy_gross_j is not None and one.grade != "X"]
    if not usable:
        return None
    found = t_interval([float(one.energy_gross_j or 0.0) for one in usable])
    assert found.mean is not None
    half = 0.0 if found.hi is None else found.hi - found.mean
    u_j = sum(one.energy_u_j or 0.0 for one in usable) / len(usable)
    half = math.hypot(half, u_j)
    net = [one.energy_net_j for one in usable if one.energy_net_j is not None]
    return Estimate(found.n, found.mean, found.mean - half, found.mean + half, sum(net) / len(net) if net else None)


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits of a test.

    Attributes:
        max_j: joules of one call, at most; None: none.
        against: a run folder or a file of pytest-benchmark with an earlier measurement of the same test; None: none.
        fail: from which increase over that on the test fails, a fraction.
    """

    max_j: float | None = None
    against: Path | None = None
    fail: float = 0.05

    @classmethod
    def of(cls, given: Mapping[str, Any], base: Path) -> Gate:
        """Make it from the arguments of the marker.

        Args:
            base: where relative paths start.

        Raises:
            RequestError: a value that is none.
        """
        max_j, against, fail = given.get("max_j"), given.get("against"), given.get("fail", FAIL)
        if max_j is not None and (
            isinstance(max_j, bool) or not isinstance(max_j, int | float) or not 0 < max_j < math.inf
        ):
            raise RequestError(f"the marker joules: max_j={show(max_j)}: expected joules of one call, above 0")
        if against is not None and not isinstance(against, str | Path):
            raise RequestError(f"the marker joules: against={show(against)}: expected a path")
        if "fail" in given and against is None:
            raise RequestError("the marker joules: fail= says from when on a change fails, so it needs against=")
        limit = _percent(fail)
        return cls(None if max_j is None else float(max_j), None if against is None else base / against, limit)

    def check(self, records: Sequence[Record], manifest: Manifest) -> None:
        """Fail the test that these windows are of, if they prove that a limit is exceeded.

        A limit that cannot be checked is a warning.

        Raises:
            JoulesExceededError: they do.
        """
        __tracebackhide__ = True
        found = estimate(records)
        if found is None:
            if self.max_j is not None or self.against is not None:
                _unchecked("no window has joules that could be set against its limits")
            return
        if self.max_j is not None and found.lo > self.max_j:
            raise JoulesExceededError(
                f"{joules_text(found.mean)} a call, 95 % interval {joules_text(found.lo)} to {joules_text(found.hi)} "
                f"of {found.n} windows: more than max_j={self.max_j:g} J"
            )
        if self.against is not None:
            self._compare(self.against, records, manifest)

    def _compare(self, against: Path, records: Sequence[Record], manifest: Manifest) -> None:
        __tracebackhide__ = True
        from bench.compare import Rules, compare

        cell_id = records[0].cell_id
        try:
            base = _of_test(against, cell_id)
            run = _results([dataclasses.asdict(one) for one in records], manifest)
            rules = Rules(margins={"joules": min(0.02, self.fail), "accuracy": 0.005}, fail_on={"joules": self.fail})
            comparison = compare(run, base, rules)
        except RequestError as error:
            _unchecked(f"against={against.name}: {error}")
            return
        if comparison.failing().empty:
            return
        row = comparison.conditions.iloc[0]
        raise JoulesExceededError(
            f"{joules_text(row['joules_run'])} a call, {100 * row['joules_change']:+.1f} % "
            f"[{100 * row['joules_lo']:.1f}, {100 * row['joules_hi']:.1f}] over {joules_text(row['joules_base'])} in "
            f"{against.name}: at least fail={100 * self.fail:g}% more"
        )


def _percent(given: Any) -> float:
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not isinstance(given, str) or not text.endswith("%") or not 0 < value <= 100:
        raise RequestError(f"the marker joules: fail={show(given)}: expected a percentage, e.g. '{FAIL}'")
    return value / 100


def _of_test(against: Path, cell_id: str) -> Any:
    """Results of one test, from a run or a file that has it.

    Raises:
        RequestError: it cannot be read, or has nothing of the test.
    """
    from bench.read.results import load

    try:
        results = load(against, skip_damaged=True)
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror})") from None
    records = results.records[results.records["cell_id"] == cell_id]
    if records.empty:
        raise RequestError("holds nothing of this test")
    name = records["run"].iloc[0]
    at = results.runs.index(name)
    return dataclasses.replace(
        results, records=records[records["run"] == name], manifests=(results.manifests[at],), runs=(name,)
    )


def _results(lines: Sequence[dict[str, Any]], manifest: Manifest) -> Any:
    from bench.read.results import from_records

    return dataclasses.replace(from_records(lines, "this session"), manifests=(manifest,))


def _unchecked(why: str) -> None:
    warnings.warn(JoulesUncheckedWarning(f"the limits of the marker joules were not checked: {why}"), stacklevel=5)


Check = Callable[[Sequence[Record]], None]
"""What judges the windows of a test."""
