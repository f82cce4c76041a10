"""What findings say of twelve kinds of runs, word for word, and how often they say 'clearly' where nothing differs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.analysis import analyse, from_records
from bench.analysis.answers import UNTUNED, answers, rejected
from bench.analysis.sentences import headline_sentences, quality_sentences, shift_sentence, shift_sentences
from bench.store.record import Record

APPROVED = Path(__file__).parent / "approved_findings.txt"
"""The texts as a person read and approved them. After a change that is meant: JOULETUNE_APPROVE=1 writes them anew."""

Arms = Mapping[str, tuple[float | None, float | None]]
"""Arm -> accuracy in % and joules of one fine-tuning; None where it gave none."""


def run(
    arms: Arms,
    *,
    data: str = "photos",
    size: float = 0.2,
    untuned: float | None = 50.0,
    seeds: int = 5,
    spread: float = 0.4,
    **more: Any,
) -> list[dict[str, Any]]:
    """Records of one shift: accuracies scatter by `spread` points between seeds, joules by 2 %; the same each time."""
    rng = np.random.default_rng(sum(map(ord, data)))
    made = []
    for seed in range(seeds):
        for arm, (accuracy, joules) in arms.items():
            noise, factor = spread * rng.normal(), 1 + 0.02 * rng.normal()
            lost = accuracy is None and joules is None
            fields: dict[str, Any] = {
                "cell_id": f"{data}/n={size:g}/{arm}/s={seed}",
                "repeat": 0,
                "status": "failed" if lost else "ok",
                "error": "out of memory" if lost else None,
                "dataset": "folder",
                "shift": "",
                "level": "input",
                "data": data,
                "train_size": size,
                "blocks": arm,
                "seed": seed,
                "method": "fixed",
                "model": "resnet14",
                "bn_mode": "train",
                "started_at": "2026-01-01T00:00:00+00:00",
                "n_train": round(500 * size),
                "n_test": 1000,
                "target_block": "block1",
            }
            if not lost:
                fields["accuracy_before"] = None if untuned is None else untuned / 100
                fields["accuracy_after"] = None if accuracy is None else round(accuracy + noise, 1) / 100
            if joules is not None:
                known = {"energy_gross_j": joules * factor, "source": "meter", "source_kind": "power", "grade": "A"}
                fields |= known
            made.append(json.loads(Record(**fields | more).to_json()))
    return made


BLOCKS = {"block1": (80.0, 4.0), "block2": (84.0, 3.5), "fc": (70.0, 2.0)}


def many_cases() -> list[dict[str, Any]]:
    lines = []
    for number, gain in enumerate((20.0, 5.0, -8.0)):
        for size in (0.1, 0.2):
            arms = {"block1": (70.0 + gain, 4.0), "fc": (70.0, 2.0), "full": (75.0, 6.0)}
            lines += run(arms, data=f"camera{number}", size=size)
    return lines


def broken(lines: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    return [line | fields for line in lines]


RUNS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "full better": lambda: run(BLOCKS | {"full": (93.0, 6.4)}),
    "one block better": lambda: run({"block1": (40.0, 4.0), "fc": (97.0, 3.3), "full": (79.0, 6.4)}, untuned=12.0),
    "nothing helps": lambda: run({"block1": (50.0, 4.0), "fc": (49.2, 2.0), "full": (48.1, 6.0)}, spread=0.0),
    "harm": lambda: run({"block1": (40.0, 4.0), "fc": (45.0, 2.0), "full": (30.0, 6.0)}),
    "tie": lambda: run({"block1": (70.0, 4.0), "fc": (70.0, 2.0), "full": (70.0, 6.0)}, spread=0.0),
    "one arm": lambda: run({"fc": (70.0, 2.0)}),
    "negative": lambda: run({"block1": (60.0, 9.0), "fc": (80.0, 8.0), "full": (75.0, 6.0)}),
    "wide": lambda: run({"block1": (56.0, 4.0), "fc": (55.0, 2.0), "full": (57.0, 6.0)}, seeds=3, spread=12.0),
    "missing full": lambda: run(BLOCKS | {"full": (None, None)}),
    "many cases": many_cases,
    "one seed": lambda: run(BLOCKS | {"full": (93.0, 6.4)}, seeds=1),
    "failed cells": lambda: run({"block1": (None, None), "fc": (None, None), "full": (None, None)}),
    "grade X": lambda: broken(
        run(BLOCKS | {"full": (93.0, 6.4)}), grade="X", flags=("source_lost",), energy_gross_j=None
    ),
    "block and full only": lambda: run({"fc": (70.0, 2.0), "full": (80.0, 6.0)}),
    "a method leads": lambda: [
        *run(BLOCKS | {"full": (85.0, 6.0)}),
        *broken(run({"block1": (91.0, 1.0)}), method="tent"),
    ],
    "no joules": lambda: run({arm: (accuracy, None) for arm, (accuracy, _) in BLOCKS.items()} | {"full": (93.0, None)}),
    "untuned and level not known": lambda: run(
        BLOCKS | {"full": (93.0, 6.4)}, untuned=None, level="", target_block=None
    ),
}


def findings(name: str) -> str:
    analysis = analyse(from_records(RUNS[name]()))
    told = [*shift_sentences(analysis), *headline_sentences(analysis), *quality_sentences(analysis)]
    return f"== {name}\n" + "".join(f"{sentence}\n" for sentence in told)


def test_findings_read_as_approved() -> None:
    made = "\n".join(findings(name) for name in RUNS)
    if os.environ.get("JOULETUNE_APPROVE"):
        APPROVED.write_text(made, encoding="utf-8")
    assert made == APPROVED.read_text(encoding="utf-8")


def report_of_equal_arms(rng: np.random.Generator, seeds: int, cases: int, *, apart: float = 0.0) -> list[str]:
    """Sentences on a report in which no arm differs from another, nor from the untuned model: 1,000 test images."""
    arms = [(UNTUNED, UNTUNED), ("block1", "single"), ("block2", "single"), ("fc", "single"), ("full", "full")]
    lines = [(f"d{case // 2}", 0.1 + case % 2, arm, role, seed) for case in range(cases) for arm, role in arms
             for seed in range(seeds)]  # fmt: skip
    frame = pd.DataFrame(lines, columns=["data", "train_size", "arm", "role", "seed"])
    of_seed = rng.normal(0, 0.02, seeds)[frame["seed"]]  # what a seed does to every arm alike
    better = np.where(frame["arm"] == "full", apart, 0.0)
    frame["accuracy_after"] = np.round(1000 * (0.7 + of_seed + better + rng.normal(0, 0.01, len(frame)))) / 1000
    frame["n_test"] = 1000.0
    keys = ["data", "train_size", "arm", "role"]
    blocks = frame.groupby(keys, sort=False)["accuracy_after"].agg(["mean", "count"]).reset_index()
    blocks = blocks.rename(columns={"mean": "accuracy", "count": "accuracy_n"})
    blocks[["accuracy_lo", "accuracy_hi", "energy_gross_j"]] = np.nan
    shifts = frame[["data", "train_size"]].drop_duplicates().assign(level="", n_train=lambda t: 100 * t["train_size"])
    found = answers(blocks, shifts, frame)
    return [shift_sentence([one]) for one in found]


@pytest.mark.parametrize("seeds", [3, pytest.param(2, marks=pytest.mark.long), pytest.param(5, marks=pytest.mark.long)])
def test_clearly_is_said_in_at_most_5_percent_of_1000_reports_without_a_difference(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    texts = (" ".join(report_of_equal_arms(rng, seeds, 4)).replace("not clearly", "") for _ in range(1000))
    said = sum("clearly" in text for text in texts)
    print(f"{seeds} seeds: 'clearly' in {said / 1000:.1%} of 1,000 reports")
    assert said <= 50


def test_clearly_is_said_of_what_differs() -> None:
    rng = np.random.default_rng(0)
    said = [sentence for _ in range(20) for sentence in report_of_equal_arms(rng, 5, 4, apart=0.15)]
    clear = sum("tuning everything is clearly better than any single block" in sentence for sentence in said)
    assert clear / len(said) > 0.9


def test_chains_share_the_level_and_hand_it_on() -> None:
    assert rejected([{"a": 0.02, "b": 0.04}, {"a": 0.06}]) == [{"a"}, set()]  # 0.025 each: b fails, and keeps its share
    assert rejected([{"a": 0.02, "b": 0.024}, {"a": 0.04}]) == [{"a", "b"}, {"a"}]  # the first is through: 0.05 is left
    assert rejected([{"a": 0.03}, {}]) == [{"a"}, set()]  # a chain without a claim takes no share
    assert rejected([{}, {"a": 0.2, "b": 0.001}]) == [set(), set()]  # nothing holds after a claim that fails


@pytest.mark.parametrize(("images", "clear"), [(1, False), (30, True)])
def test_one_image_more_in_each_seed_is_not_clear(images: int, clear: bool) -> None:
    lines = run({"fc": (70.0, None), "full": (70.0 + images / 10, None)}, spread=0.0, untuned=None)
    assert (analyse(from_records(lines)).answers[0].clear is True) is clear


def test_other_cases_of_a_report_count() -> None:
    arms = {"block1": (52.0, None), "full": (50.0, None)}
    alone = analyse(from_records(run(arms, spread=0.55, untuned=None)))
    assert alone.answers[0].clear is True
    more = [line for n in range(40) for line in run({"fc": (50.0, None), "full": (50.0, None)}, data=f"x{n}",
                                                    spread=1.0, untuned=None)]  # fmt: skip
    assert analyse(from_records([*run(arms, spread=0.55, untuned=None), *more])).answers[0].clear is False


def test_an_arm_called_untuned_is_not_the_model_as_it_is() -> None:
    analysis = analyse(from_records(run({"untuned": (90.0, 2.0), "full": (80.0, 6.0)})))
    told = shift_sentences(analysis)[0]
    assert "untuned (an arm) alone: 89.7 %" in told
    assert "untuned: 50.0 %" in told
