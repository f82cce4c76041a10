"""Repeats that end once the order of the arms by joules is decided: error rate as simulated, and what a run does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.run.decided import decided
from bench.run.runner import RunOptions, run_suite
from bench.run.session import Session
from bench.store.record import Record
from bench.store.run_dir import RunDir
from bench.suite.load import load_suite


def ends(
    rng: np.random.Generator, means: tuple[float, ...], *, repeats: int = 10, noise: float = 0.02
) -> tuple[int, bool]:
    """Repeats until one simulated case is decided (all of them where it never is), and whether its order is wrong."""
    figures = np.exp(np.log(means) + rng.normal(0, 0.02, (repeats, len(means))) + rng.normal(0, 0.05, (repeats, 1)))
    for n in range(2, repeats):
        found = {str(arm): figures[:n, arm].tolist() for arm in range(len(means))}
        if decided(found, repeats - 1) is not None:
            order = sorted(found, key=lambda arm: float(np.log(found[arm]).sum()))
            return n, [means[int(arm)] for arm in order] != sorted(means)
    return repeats, False


def called(rng: np.random.Generator, arms: int, runs: int) -> float:
    """Share of simulated cases without any difference between the arms that are called decided."""
    return float(np.mean([ends(rng, (1.0,) * arms)[0] < 10 for _ in range(runs)]))


@pytest.mark.parametrize("arms", [2, 5])
def test_equal_arms_are_called_decided_in_at_most_5_percent(arms: int) -> None:
    share = called(np.random.default_rng(arms), arms, 400)
    print(f"{arms} equal arms: decided in {share:.1%} of 400 cases")
    assert share <= 0.05


@pytest.mark.long
def test_a_wrong_order_is_called_decided_in_at_most_5_percent_of_2000() -> None:
    rng = np.random.default_rng(7)
    wrong = np.mean([ends(rng, (1.0, 1.005, 1.3))[1] for _ in range(2000)])
    assert wrong <= 0.05


def test_arms_that_differ_by_far_take_few_repeats() -> None:
    rng = np.random.default_rng(0)
    taken = [ends(rng, (1.0, 1.5, 2.5)) for _ in range(100)]
    assert np.mean([n for n, _ in taken]) < 6
    assert not any(wrong for _, wrong in taken)


def test_one_arm_and_one_repeat_decide_nothing() -> None:
    assert decided({"a": [1.0, 1.0, 1.0]}, 9) is None
    assert decided({"a": [1.0], "b": [2.0]}, 9) is None
    assert decided({"a": [1.0, 1.0], "b": [1.0, 1.0]}, 9) is None  # a tie is no order


def test_a_run_stops_and_a_resumed_one_does_not_go_on(
    make_suite: Callable[..., Any], tmp_path: Path, without_work: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_suite(train_size=[0.1], blocks=["fc", "full"], seeds=[0, 1],
               energy={"repeats": 10, "idle_s": 0, "guard_s": 0, "cooldown_s": 0, "stop": "decided"})  # fmt: skip
    plain = Session._one
    rng = np.random.default_rng(1)

    def with_joules(self: Session, repeat: Any, *more: Any) -> Record:
        base = 2.0 if repeat.cell.blocks == ("fc",) else 6.0
        record = plain(self, repeat, *more)
        return dataclasses.replace(record, energy_gross_j=base * float(np.exp(rng.normal(0, 0.01))), grade="A")

    monkeypatch.setattr(Session, "_one", with_joules)
    loaded = load_suite(str(tmp_path / "s.yaml"))
    options = RunOptions(out=tmp_path / "run", source="none")
    run_suite(loaded, options, Console(quiet=True))
    first = len(without_work)
    manifest = RunDir(options.out).read_manifest()
    assert manifest is not None
    facts = manifest.sessions[0].decided
    assert len(facts) == len({cell.group for cell in loaded.suite.cells()})
    assert first == sum(4 * one["repeats"] for one in facts) < 10 * len(loaded.suite.cells())
    assert all(one["order"] == ["fc", "full"] and one["repeats"] >= 2 and one["p"] <= 0.05 for one in facts)
    run_suite(loaded, options, Console(quiet=True))
    assert len(without_work) == first
