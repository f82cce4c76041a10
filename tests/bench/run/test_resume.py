"""Whether a run goes on in its folder: with the same data, code and settings, and a suite that only gained cells."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import hardware
from bench.errors import RequestError
from bench.run.resume import add_fingerprints, continued
from bench.run.surroundings import make_manifest
from bench.store.manifest import Fingerprints, Manifest, Session
from bench.suite.load import LoadedSuite, load_suite

HERE = Path("results/trial")


@pytest.fixture
def load(valid: dict[str, Any], write_suite: Callable[..., Path]) -> Callable[..., LoadedSuite]:
    """Loads the valid suite with some root keys replaced."""

    def make(**changes: Any) -> LoadedSuite:
        return load_suite(str(write_suite(copy.deepcopy(valid) | changes)))

    return make


def manifest(loaded: LoadedSuite, device: str = "cpu") -> Manifest:
    return make_manifest(loaded, hardware.choose("simulated"), torch_device=device)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [0, 1, 2]},
        {"blocks": ["block1", ["block2", "block3"], "fc", "full", "block2"]},
        {"train_size": [0.1, 40, 0.2]},
        {"data": [{"dataset": "digits", "shift": name} for name in ("noise", "flip", "blur")]},
        {"energy": {"repeats": 3, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_added_is_run_alone(load: Callable[..., LoadedSuite], changes: dict[str, Any]) -> None:
    first = load()
    old = manifest(first)
    old.sessions.append(Session(started_at="2026-01-01T00:00:00+00:00"))
    before, text = old.suite, first.text
    grown = load(**changes)
    known = continued(old, manifest(grown), grown.suite, HERE)
    assert known.suite is not None
    assert yaml.safe_load(known.suite.text or "") == yaml.safe_load(grown.text)
    assert known.sessions[0].suite == before
    assert before is not None
    assert before.text == text
    same = continued(known, manifest(grown), grown.suite, HERE)
    assert same.sessions[0].suite == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": [0]}, "the suite lacks 16 cells of the run, e.g. digits-noise/n=0.1/block1/s=1"),
        ({"timeout_s": 60}, "the suite changed: timeout_s 3600.0 -> 60.0"),
        ({"train": {"epochs": 3, "batch_size": 32, "lr": 0.01}}, "the suite changed: train.epochs 2 -> 3"),
        ({"model": {"name": "resnet14"}, "seeds": [0, 1, 2]}, "the suite changed: model.name resnet8 -> resnet14"),
        (
            {"energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0}},
            "the suite changed: energy.repeats 2 -> 1",
        ),
        (
            {"data": [{"dataset": "digits", "shift": "noise", "severity": 2, "name": "digits-noise"},
                      {"dataset": "digits", "shift": "flip"}]},
            "the suite changed what digits-noise/n=0.1/block1/s=0 is",
        ),
    ],
)  # fmt: skip
def test_what_is_changed_or_taken_away_is_refused(
    load: Callable[..., LoadedSuite], changes: dict[str, Any], told: str
) -> None:
    old, new = manifest(load()), load(**changes)
    with pytest.raises(RequestError) as refused:
        continued(old, manifest(new), new.suite, HERE)
    assert told in str(refused.value)
    assert "--fresh" in str(refused.value)


def test_another_device_source_or_machine_is_refused(load: Callable[..., LoadedSuite]) -> None:
    loaded = load()
    new = manifest(loaded)
    assert new.device is not None
    assert new.source is not None
    other = new.model_copy(
        update={
            "torch_device": "cuda",
            "source": new.source.model_copy(update={"name": "rapl"}),
            "device": new.device.model_copy(update={"cpu_model": "A76"}),
        }
    )
    with pytest.raises(RequestError, match=r"device was cuda.*energy source was rapl, now simulated; machine was "):
        continued(other, new, loaded.suite, HERE)
    with pytest.raises(RequestError, match="not one of this version"):
        continued(Manifest(), new, loaded.suite, HERE)


def test_other_data_code_or_weights_are_refused_and_named() -> None:
    known = Manifest()
    first = Fingerprints(model_code="a", data={"digits-flip": "b"}, weights={"digits-flip": "c"})
    add_fingerprints(known, first, HERE)
    add_fingerprints(known, Fingerprints(model_code="a", data={"digits-noise": "d"}), HERE)
    assert known.fingerprints == first.model_copy(update={"data": {"digits-flip": "b", "digits-noise": "d"}})
    for other, told in (
        (Fingerprints(model_code="z"), "the code of the model changed"),
        (Fingerprints(model_code="a", data={"digits-flip": "z"}), "data of digits-flip changed"),
        (Fingerprints(model_code="a", weights={"digits-flip": "z"}), "source weights of digits-flip changed"),
    ):
        with pytest.raises(RequestError, match=told):
            add_fingerprints(known, other, HERE)
