"""Records and manifests made by chance: each consumer uses what is right and names the rest, without a traceback."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench
from bench.analysis.findings import analyse
from bench.analysis.terminal import terminal_table
from bench.compare import compare, load_run, make_rules
from bench.compare.show import terminal
from bench.errors import JouletuneError
from bench.history.summary import summarise
from bench.read.results import load
from bench.run.health import _same_device
from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir

EXAMPLES, LONG = 20, 10_000
"""Of each consumer; so many with the marker `long`."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -1, 2**63, 2**64, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 0, 5]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["\ud800", "\udcff", "\x1b[2J", "=1+1", "[/b]", "ok", "x" * 30_000, "../../etc/passwd", "2026-13-99"]
    ),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
    st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=2), max_leaves=8),
)


def damaged(content: Any, draw: Callable[..., Any], depth: int = 0) -> Any:
    """The same JSON with one of its values, at any depth, replaced, dropped or doubled under another name."""
    if isinstance(content, dict) and content and (depth == 0 or draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(content)))
        action = draw(st.sampled_from(["replace", "drop", "deeper", "deeper", "add"]))
        if action == "drop":
            return {name: value for name, value in content.items() if name != key}
        if action == "add":
            return content | {draw(st.text(max_size=5)): draw(ODD)}
        return content | {key: damaged(content[key], draw, depth + 1) if action == "deeper" else draw(ODD)}
    if isinstance(content, list) and content and draw(st.booleans()):
        return [damaged(content[0], draw, depth + 1), *content[1:]]
    return draw(ODD)


@st.composite
def records(draw: Callable[..., Any]) -> list[Any]:
    """Lines of which some are damaged."""
    lines = []
    for number, line in enumerate(GOOD):
        changed = line
        for _ in range(draw(st.integers(0, 2)) if number % 2 else 0):
            changed = damaged(changed, draw)
        lines.append(changed)
    return lines


@st.composite
def manifests(draw: Callable[..., Any]) -> Any:
    changed: Any = MANIFEST
    for _ in range(draw(st.integers(1, 4))):
        changed = damaged(changed, draw)
    return changed


def _good() -> list[dict[str, Any]]:
    lines = []
    for seed in range(3):
        for repeat in range(2):
            for block in ("fc", "full"):
                record = Record(
                    cell_id=f"d/n=0.1/{block}/s={seed}", repeat=repeat, status="ok", dataset="digits", shift="flip",
                    level="output", data="d", train_size=0.1, blocks=block, seed=seed, method="fixed", model="resnet8",
                    bn_mode="train", started_at="2026-01-01T00:00:30.000+00:00", accuracy_before=0.1,
                    accuracy_after=0.5, n_test=100, energy_gross_j=10.0, energy_net_j=5.0, energy_net_u_j=0.1,
                    idle_power_w=2.0, band_s=1.0, train_time_s=1.0, executions=1, grade="A", source="simulated",
                    source_kind="power", session=0, started_mono_s=30.0,
                    energy_terms=({"name": "idle", "gross_j": 0.1, "net_j": 0.1, "basis": "scatter"},),
                )  # fmt: skip
                lines.append(json.loads(record.to_json()))
    return lines


GOOD = _good()
BASELINE = {"power_w": 2.0, "u_power_w": 0.01, "duration_s": 30.0, "n_samples": 60}
MANIFEST: dict[str, Any] = {
    "schema": 1, "jouletune": "0.1.0", "versions": {"torch": "2.1"}, "torch_device": "cpu",
    "device": {"board": "Pi 5", "cpu_model": "A76", "logical_cores": 4, "memory_bytes": 2**33, "governor": "x"},
    "source": {"name": "simulated", "kind": "power", "covers": ["all"], "resolution": 0.01, "params": {"power_w": 5}},
    "sessions": [{
        "started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:02:00+00:00",
        "idle": [BASELINE | {"started_at": f"2026-01-01T00:0{n}:00+00:00", "started_mono_s": 60.0 * n} for n in (0, 1)],
    }],
    "suite": {"name": "n", "title": "A title", "text": "name: n", "content": {
        "data": [{"label": "d"}], "axes": {"engine": ["fast"]}, "train": {"epochs": 3, "per_block": {"fc": {}}},
        "model": {"name": "resnet8"}, "energy": {"repeats": 2}}},
    "noise": {"d": {"sigma": 1.0}},
}  # fmt: skip


def write(folder: Path, lines: list[Any], manifest: Any) -> RunDir:
    folder.mkdir(exist_ok=True)
    (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return RunDir(folder)


def _report(run: RunDir) -> object:
    results = load(run, skip_damaged=True)
    return terminal_table(results, analyse(results))


def _compare(run: RunDir) -> object:
    rules = make_rules(fail_on=None, margin=None, net=False, across=False)
    return terminal(compare(load_run(str(run.path)), load_run(str(run.path)), rules))


def _load(run: RunDir) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return bench.load(run.path).to_csv()


def _health(run: RunDir) -> object:
    return [_same_device(run.read_manifest([]) or Manifest())]


CONSUMERS: dict[str, Callable[[RunDir], object]] = {
    "report": _report, "compare": _compare, "load": _load, "history": summarise, "health": _health,
    "run": lambda run: run.records([]),
}  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


def check(place: Path, name: str, lines: list[Any], manifest: Any) -> None:
    run = write(place / "run", lines, manifest)
    with contextlib.suppress(JouletuneError):
        CONSUMERS[name](run)


EVERY = [
    *(pytest.param(name, EXAMPLES, id=name) for name in CONSUMERS),
    *(
        pytest.param(name, LONG, id=f"{name}-long", marks=[pytest.mark.long, pytest.mark.timeout(3600)])
        for name in CONSUMERS
    ),
]


@pytest.mark.parametrize(("name", "examples"), EVERY)
def test_records_by_chance(place: Path, name: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=10_000, suppress_health_check=list(HealthCheck), database=None)
    @given(records())
    def one(lines: list[Any]) -> None:
        check(place, name, lines, MANIFEST)

    one()


@pytest.mark.parametrize(("name", "examples"), EVERY)
def test_manifests_by_chance(place: Path, name: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=10_000, suppress_health_check=list(HealthCheck), database=None)
    @given(manifests())
    def one(manifest: Any) -> None:
        check(place, name, GOOD, manifest)

    one()
