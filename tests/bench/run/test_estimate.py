"""The estimate of a suite's time: from steps timed on this device, each kind once, its parts apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.methods import load_method, method_names
from bench.data.locate import image_counts
from bench.process.ahead import AheadJob, Kind, time_kinds
from bench.process.launcher import Launcher
from bench.process.messages import Timed
from bench.run.estimate import RETAKE_S, START_S, Estimator
from bench.suite.suite import Suite

CONTENT: dict[str, Any] = {
    "data": [{"dataset": "digits", "shift": "flip"}],
    "model": {"name": "resnet8", "width": 2, "source_train": {"epochs": 3, "batch_size": 64}},
    "train_size": [100, 200],
    "blocks": ["fc", "full"],
    "seeds": [0, 1],
    "train": {"epochs": 4, "batch_size": 50},
    "energy": {"repeats": 3, "min_window_s": 10, "idle_s": 30, "guard_s": 2},
}


@pytest.fixture
def suite(make_suite: Callable[..., Suite]) -> Suite:
    return make_suite(**CONTENT)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def keep_all(estimator: Estimator, rates: Timed) -> None:
    for kind in estimator.lacking():
        estimator.keep(kind, rates)


def test_parts_follow_from_the_rates(suite: Suite, cache: Path) -> None:
    estimator = Estimator(suite, device="cpu", code=None)
    assert [(kind.blocks, kind.images) for kind in estimator.lacking()] == [
        (("full",), 64),
        (("fc",), 50),
        (("full",), 50),
    ]
    assert estimator.estimate() is None
    keep_all(estimator, Timed(0.0, 0.01, 0.001))
    found = estimator.estimate()
    assert found is not None
    assert found.source_s == pytest.approx(3 * 899 * 0.01)
    one_s = [4 * (n * 0.01 + 0.15 * 899 * 0.001) for n in (100, 200)]  # 4.5 s and 8.5 s: done thrice and twice in 10 s
    test_s = 2 * 0.15 * 899 * 0.001
    each = 2 * 2 * 3  # arms, seeds, repeats
    assert found.work_s == pytest.approx(each * (sum(one_s) + 2 * test_s))
    assert found.window_s == pytest.approx(each * (2 * one_s[0] + one_s[1] + 2 * (4 + START_S)))
    assert found.idle_s == (2 + (found.work_s + found.window_s) // RETAKE_S) * 30
    assert found.total_s == found.source_s + found.work_s + found.window_s + found.idle_s


def test_what_a_cache_keeps_is_computed_once(suite: Suite, cache: Path) -> None:
    estimator = Estimator(suite, device="cpu", code=None)
    keep_all(estimator, Timed(0.02, 0.0, 0.0))
    found = estimator.estimate()
    assert found is not None
    n_val = n_test = 0.15 * 899
    assert found.work_s == pytest.approx(12 * 0.02 * (100 + 200 + 2 * n_val + 2 * 2 * n_test))


def test_timings_are_kept_for_the_device_and_model_they_are_of(
    suite: Suite, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_all(Estimator(suite, device="cpu", code=None), Timed(0.0, 0.01, 0.001))
    assert Estimator(suite, device="cpu", code=None).lacking() == []
    assert len(Estimator(suite, device="cuda", code=None).lacking()) == 3
    assert len(Estimator(suite, device="cpu", code="another").lacking()) == 3
    monkeypatch.setattr("bench.run.estimate.VERSION", 0)
    assert len(Estimator(suite, device="cpu", code=None).lacking()) == 3


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', '{"a": ["x", 1, 2]}', "[" * 100_000, "\xff"])
def test_a_damaged_file_of_timings_is_as_good_as_none(text: str, suite: Suite, cache: Path) -> None:
    cache.mkdir()
    (cache / "timings.json").write_text(text, encoding="latin-1")
    assert len(Estimator(suite, device="cpu", code=None).lacking()) == 3


@pytest.mark.parametrize("train", [{}, {"engine": "fast", "bn_mode": "eval"}, {"engine": "reference"}], ids=str)
def test_steps_are_timed_in_a_process(
    train: dict[str, Any], make_suite: Callable[..., Suite], cache: Path, tmp_path: Path
) -> None:
    suite = make_suite(**CONTENT | {"train": {"batch_size": 8, "threads": 1, **train}})
    estimator = Estimator(suite, device="cpu", code=None)
    kinds: list[Kind] = estimator.lacking()
    child = Launcher(tmp_path / "log").start(time_kinds, AheadJob(suite, tmp_path, "cpu", tuple(kinds)))
    for kind in kinds:
        estimator.keep(kind, child.receive(Timed))
    child.close()
    found = estimator.estimate()
    assert found is not None
    assert 0 < found.total_s < 7200
    rates = [Timed(*one) for one in json.loads((cache / "timings.json").read_text()).values()]
    assert all(one.step_s > 0 and one.eval_s > 0 for one in rates)
    assert [one.front_s > 0 for one in rates] == [
        train.get("engine") == "fast" and kind.blocks == ("fc",) for kind in kinds
    ]


def test_images_of_folders_are_counted(make_suite: Callable[..., Any], tmp_path: Path) -> None:
    for side, count in (("source", 3), ("target", 2)):
        for name in ("cat", "dog"):
            (tmp_path / side / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / side / name / f"{number}.png").touch()
    pair = {"dataset": "folder", "source": str(tmp_path / "source"), "target": str(tmp_path / "target")}
    entries = [pair | {"level": "input"}, {"dataset": "folder", "source": str(tmp_path / "source"), "shift": "blur"}]
    suite = make_suite(data=entries, train_size=[0.5])
    assert [image_counts(data) for data in suite.data] == [(6, 4), (3, 3)]
    assert image_counts(make_suite().data[0]) == (899, 899)


UNLABELLED = [name for name in method_names() if load_method(name).method.labels == "unused"]


def test_methods_without_labels_are_timed_as_they_are(
    make_suite: Callable[..., Suite], cache: Path, tmp_path: Path
) -> None:
    methods = [name for name in UNLABELLED if name != "tent"] + [{"tent": {"steps": [1, 8]}}]
    content = CONTENT | {"blocks": ["fc"], "seeds": [0], "train_size": [200], "train": {"epochs": 50, "threads": 1}}
    suite = make_suite(**content, methods=methods)
    estimator = Estimator(suite, device="cpu", code=None)
    kinds = [kind for kind in estimator.lacking() if kind.arm is not None]
    assert len(kinds) == len(UNLABELLED) + 1
    child = Launcher(tmp_path / "log").start(time_kinds, AheadJob(suite, tmp_path, "cpu", tuple(kinds)))
    rates = {kind.arm.label: child.receive(Timed) for kind in kinds if kind.arm is not None}
    child.close()
    assert rates["tent(steps=8)"].step_s > 1.5 * rates["tent"].step_s
    assert rates["memo"].step_s > rates["tent"].step_s  # 32 views of each image
    assert all(rate.front_s == 0 < rate.eval_s for rate in rates.values())
    # one adaptation, whatever the epochs of `train` are, which hold for `fc` alone
    keep_all(estimator, Timed(0.0, 0.01, 0.0))
    found = estimator.estimate()
    assert found is not None
    assert found.work_s == pytest.approx(3 * 200 * 0.01 * (len(kinds) + 50))
