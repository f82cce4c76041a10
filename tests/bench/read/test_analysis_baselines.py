"""Net joules against the baselines on both sides."""

from __future__ import annotations

from typing import Any

import pytest

from bench.read.baselines import Brackets
from bench.store.manifest import Manifest


def baseline(started_at: str, power_w: float) -> dict[str, Any]:
    return {"started_at": started_at, "power_w": power_w, "u_power_w": 0.01, "duration_s": 30.0, "n_samples": 60}


def line(**changes: Any) -> dict[str, Any]:
    """10 s of work in a band of 14 s: 60 J were integrated, 2 W of them idle."""
    return {
        "started_at": "2026-01-01T10:00:00.500+00:00",
        "energy_gross_j": 60 - 2 * 4,
        "energy_net_j": 60 - 2 * 14,
        "energy_net_u_j": 2 * 0.5,
        "energy_terms": [
            {"name": "gain", "gross_j": 0.3, "net_j": 0.3, "basis": "assumed"},
            {"name": "idle", "gross_j": 0.1, "net_j": 0.4, "basis": "scatter"},
        ],
        "idle_power_w": 2.0,
        "train_time_s": 10.0,
        "band_s": 14.0,
        "flags": [],
        "grade": "A",
    } | changes


def manifest(*powers_w: float) -> Manifest:
    times = ["2026-01-01T09:59:00+00:00", "2026-01-01T10:05:00+00:00", "2026-01-01T10:20:00+00:00"]
    idle = [baseline(time, power) for time, power in zip(times, powers_w, strict=False)]
    return Manifest.of({"sessions": [{"started_at": "2026-01-01T09:58:00+00:00", "idle": idle}]}, [])


def test_the_mean_of_the_bracket_is_subtracted() -> None:
    record = line()
    Brackets(manifest(2.0, 2.08, 7.0)).move(record)
    assert record["idle_power_w"] == pytest.approx(2.04)
    assert record["energy_net_j"] == pytest.approx(60 - 2.04 * 14)
    assert record["energy_gross_j"] == pytest.approx(60 - 2.04 * 4)
    assert (record["flags"], record["grade"]) == ([], "A")


def test_the_uncertainty_is_that_of_the_bracket_beside_the_other_terms() -> None:
    record = line()
    Brackets(manifest(2.0, 2.0)).move(record)
    u_idle_j = 14 * (0.01**2 + 0.01**2) ** 0.5 / 2
    assert record["energy_net_u_j"] == pytest.approx(2 * (0.3**2 + u_idle_j**2) ** 0.5)


def test_baselines_too_far_apart_are_flagged_and_cost_a_grade() -> None:
    record = line()
    Brackets(manifest(2.0, 2.3)).move(record)
    assert (record["flags"], record["grade"]) == (["idle_drift"], "B")


@pytest.mark.parametrize("changes", [{"energy_net_j": None}, {"band_s": None}, {"idle_power_w": None}])
def test_what_has_no_net_joules_stays(changes: dict[str, Any]) -> None:
    record = line(**changes)
    before = dict(record)
    Brackets(manifest(2.0, 2.5)).move(record)
    assert record == before


@pytest.mark.parametrize("sessions", [{}, {"sessions": []}, {"sessions": [{"idle": 3}]}, manifest(2.0).to_dict()])
def test_without_a_bracket_nothing_moves(sessions: dict[str, Any]) -> None:
    record = line()
    Brackets(Manifest.of(sessions, [])).move(record)
    assert record == line()


def two_sessions(*, monotonic: bool) -> Manifest:
    """Two sessions of 1 W and of 5 W; the clock was set back by an hour between them."""
    sessions = []
    for start, power_w, mono_s in (("11:00", 1.0, 100.0), ("10:00", 5.0, 50.0)):
        hour, minute = start.split(":")
        times = [f"2026-01-01T{hour}:{minute}:{second:02}+00:00" for second in (1, 50)]
        idle = [baseline(time, power_w) for time in times]
        if monotonic:
            idle = [one | {"started_mono_s": mono_s + 49 * number} for number, one in enumerate(idle)]
        ends = f"2026-01-01T{hour}:{minute}:59+00:00"
        sessions.append({"started_at": times[0], "idle": idle, "ended_at": ends})
    return Manifest.of({"sessions": sessions}, [])


@pytest.mark.parametrize(("session", "started_mono_s", "power_w"), [(0, 110.0, 1.0), (1, 60.0, 5.0)])
def test_the_session_and_the_monotonic_clock_count(session: int, started_mono_s: float, power_w: float) -> None:
    for started_at in ("2026-01-01T10:00:20.5+00:00", "2026-01-01T11:00:20.5+00:00", "1970-01-01T00:00:00+00:00"):
        record = line(started_at=started_at, session=session, started_mono_s=started_mono_s)
        Brackets(two_sessions(monotonic=True)).move(record)
        assert record["idle_power_w"] == power_w


def test_an_older_record_counts_by_the_day_where_that_is_sure() -> None:
    for started_at, power_w in (("2026-01-01T10:00:20.5+00:00", 5.0), ("2026-01-01T11:00:20.5+00:00", 1.0)):
        record = line(started_at=started_at)
        Brackets(two_sessions(monotonic=False)).move(record)
        assert record["idle_power_w"] == power_w
    unsure = line(started_at="2026-01-01T12:00:00.5+00:00")
    Brackets(two_sessions(monotonic=False)).move(unsure)
    assert unsure == line(started_at="2026-01-01T12:00:00.5+00:00")


@pytest.mark.parametrize("session", [2, 10**9])
def test_a_session_that_is_not_there_moves_nothing(session: int) -> None:
    record = line(session=session, started_mono_s=1.0)
    Brackets(two_sessions(monotonic=True)).move(record)
    assert record == line(session=session, started_mono_s=1.0)


@pytest.mark.parametrize("name", ["started_at", "train_time_s", "energy_gross_j", "energy_terms", "flags", "grade"])
def test_a_record_that_lacks_a_figure_is_no_traceback(name: str) -> None:
    for record in (line(**{name: None}), line()):
        record.pop(name, None)
        Brackets(manifest(2.0, 2.5)).move(record)
