"""Limits of the marker joules: simulated rounds fail when a limit is proven to be exceeded, and only then."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.pytest_plugin.gate import Gate, JoulesExceededError, JoulesUncheckedWarning, estimate
from bench.store.manifest import Device, EnergySource, Manifest, Session
from bench.store.record import Record
from bench.store.run_dir import RunDir

TESTS = 200
ROUNDS = 5
NOISE = 0.01
MANIFEST = Manifest(
    schema=1,
    device=Device(board="b", cpu_model="c", logical_cores=4, memory_bytes=1),
    source=EnergySource(name="um25c", kind="power", scope="board"),
    sessions=[Session(started_at="2026-01-01T00:00:00")],
)


def record(test: int, repeat: int, joules: float, **more: Any) -> Record:
    fields: dict[str, Any] = {
        "cell_id": f"test_x.py::test_{test}", "repeat": repeat, "status": "ok", "dataset": "", "shift": "",
        "level": "", "data": "test_x.py", "train_size": 0.0, "blocks": f"test_{test}", "seed": 0, "method": "fixed",
        "arm": f"test_{test}", "model": "", "bn_mode": "", "source": "um25c", "source_kind": "power", "grade": "A",
        "started_at": "2026-01-01T00:00:00", "energy_gross_j": joules, "energy_u_j": 0.01 * joules, "executions": 100,
        "train_time_s": 1.0,
    } | more  # fmt: skip
    return Record(**fields)


def rounds(test: int, rng: random.Random, joules: float = 1.0, **more: Any) -> list[Record]:
    return [record(test, number, joules * rng.gauss(1.0, NOISE), **more) for number in range(ROUNDS)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An earlier run of all the tests."""
    folder, rng = RunDir(tmp_path / "base"), random.Random(1)
    with folder.locked():
        folder.write_manifest(MANIFEST)
    lines = [one.to_json() for test in range(TESTS) for one in rounds(test, rng)]
    folder.cells_path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder.path


def failures(check: Callable[[int], None], tests: int = TESTS) -> int:
    found = 0
    for test in range(tests):
        try:
            check(test)
        except JoulesExceededError:
            found += 1
    return found


@pytest.mark.parametrize("tests", [10, pytest.param(TESTS, marks=pytest.mark.long)])
def test_false_failures_and_true_ones(base: Path, tests: int) -> None:
    rng = random.Random(2)
    gate = Gate.of({"against": base, "fail": "5%"}, base)
    false = failures(lambda test: gate.check(rounds(test, rng), MANIFEST), tests)
    true = failures(lambda test: gate.check(rounds(test, rng, 1.10), MANIFEST), tests)
    print(f"false failures {false}, a true 10 % found {true} of {tests}")
    assert false <= 0.05 * tests
    assert true >= 0.90 * tests


def test_a_limit_in_joules_fails_when_proven(base: Path) -> None:
    rng = random.Random(3)
    assert failures(lambda test: Gate(max_j=1.0).check(rounds(test, rng), MANIFEST)) <= 0.05 * TESTS
    assert failures(lambda test: Gate(max_j=1.0).check(rounds(test, rng, 1.10), MANIFEST)) >= 0.90 * TESTS


def test_message_names_figures_and_limit(base: Path) -> None:
    with pytest.raises(JoulesExceededError, match=r"[0-9.]+ J a call, \+\d+\.\d % \[.*\] over .* in base: .*fail=5%"):
        Gate.of({"against": str(base)}, base).check(rounds(0, random.Random(4), 1.5), MANIFEST)
    with pytest.raises(JoulesExceededError, match=r"1\.5\d* J a call, 95 % interval .* more than max_j=1 J"):
        Gate(max_j=1).check(rounds(0, random.Random(4), 1.5), MANIFEST)


@pytest.mark.parametrize(
    ("gate", "records", "manifest", "why"),
    [
        ({"against": "nowhere"}, [], MANIFEST, "no window has joules"),
        ({"against": "nowhere"}, None, MANIFEST, "nowhere: not a run folder"),
        ({"max_j": 1e-9}, [record(0, 0, 1.0, grade="X")], MANIFEST, "no window has joules"),
        ({"against": "base"}, [record(TESTS + 1, 0, 1.0)], MANIFEST, "holds nothing of this test"),
        ({"against": "base"}, None, Manifest(schema=1), "the device of RUN is not known"),
    ],
)
def test_what_cannot_be_checked_is_a_warning(
    base: Path, gate: dict[str, Any], records: list[Record] | None, manifest: Manifest, why: str
) -> None:
    windows = rounds(0, random.Random(5), 2.0) if records is None else records
    with pytest.warns(JoulesUncheckedWarning, match=why):
        Gate.of(gate, base.parent).check(windows, manifest)


def test_too_few_windows_never_fail(base: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gate.of({"against": base}, base).check(rounds(0, random.Random(6), 2.0)[:2], MANIFEST)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"max_j": -1}, "expected joules of one call"),
        ({"max_j": "1 J"}, "expected joules of one call"),
        ({"max_j": True}, "expected joules of one call"),
        ({"against": 3}, "expected a path"),
        ({"against": "x", "fail": 0.05}, "expected a percentage, e.g. '5%'"),
        ({"against": "x", "fail": "nan%"}, "expected a percentage"),
        ({"fail": "5%"}, "so it needs against="),
    ],
)
def test_wrong_limits_are_one_line(given: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        Gate.of(given, tmp_path)
    assert problem in str(caught.value)


def test_estimate_holds_spread_and_uncertainty() -> None:
    found = estimate([record(0, n, joules, energy_net_j=joules / 2) for n, joules in enumerate((0.9, 1.0, 1.1))])
    assert found is not None
    # t(2) = 4.303, sd 0.1; u = 0.01
    half = ((4.303 * 0.1 / 3**0.5) ** 2 + 0.01**2) ** 0.5
    assert (found.n, found.mean, found.net) == (3, pytest.approx(1.0), pytest.approx(0.5))
    assert found.hi - found.mean == pytest.approx(half, rel=1e-3)
    assert estimate([]) is None
