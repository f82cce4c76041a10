"""Power traces: written, read back, and thinned for a page."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import Results, load
from bench.store.record import Record
from bench.store.run_dir import RunDir
from hardware.measure.trace import Trace, parse_trace, read_trace, write_trace
from plots.page import trace_data
from plots.page.trace_data import TraceSet, collect, powers, thin

FACTS = {"source": "meter", "quiet_from_s": 98.0, "t0_s": 100.0, "t1_s": 110.0, "quiet_until_s": 112.0, "executions": 2}


def packed(content: bytes) -> bytes:
    """Compressed without the time, so that each process gives a test the same name."""
    return gzip.compress(content, mtime=0)


def samples(n: int = 141, watts: float = 3.0) -> list[tuple[float, float]]:
    return [(98 + i / 10, watts + (i % 7) / 10) for i in range(n)]


def decoded(coded: dict[str, Any]) -> np.ndarray:
    return np.asarray(coded["from"] + coded["step"] * np.cumsum(coded["d"]))


def make_run(folder: Path, traces: int = 2, **more: Any) -> RunDir:
    """A run whose cells have a trace each."""
    run = RunDir(folder)
    run.traces_dir.mkdir(parents=True)
    for number in range(traces):
        trace = write_trace(run.traces_dir, f"c{number}", samples(), column="power_w", facts=FACTS)
        fields = {
            "cell_id": f"digits-noise/n={number}/fc/s=0",
            "repeat": 0,
            "status": "ok",
            "dataset": "digits",
            "shift": "noise",
            "level": "input",
            "data": "digits-noise",
            "train_size": float(number or 0.5),
            "blocks": "fc",
            "seed": 0,
            "method": "fixed",
            "model": "resnet8",
            "bn_mode": "train",
            "started_at": "2025-01-01T00:00:00+00:00",
            "accuracy_after": 0.5,
            "energy_gross_j": 30.0,
            "idle_power_w": 2.0,
            "executions": 2,
            "source": "meter",
            "source_kind": "power",
            "grade": "A",
            "trace": trace,
        }
        run.append(Record(**(fields | more)))
    return run


def results(run: RunDir) -> Results:
    return load(run, skip_damaged=True)


# -- the file ----------------------------------------------------------------------------------------------


def test_a_trace_comes_back_as_it_was_written(tmp_path: Path) -> None:
    name = write_trace(tmp_path, "a/b", samples(), column="power_w", facts=FACTS)
    trace = read_trace(tmp_path / name)
    assert trace.kind == "power"
    assert trace.t_s == pytest.approx([t for t, _ in samples()])
    assert trace.values == pytest.approx([w for _, w in samples()])
    assert trace.facts == {key: str(value) for key, value in FACTS.items()}
    assert trace.moment_s("t0_s") == 100.0
    assert trace.moment_s("source") is trace.moment_s("absent") is None


HEAD = "# t0_s: 1\nt_mono_s,power_w\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no gzip at all", "not readable as gzip"),
        (packed((HEAD + "1,2\n" * 9000).encode())[:-60], "cut short"),
        (packed(b"\xff\xfe\xff"), "not text"),
        (b"", "its header is ''"),
        (packed(b"a,b\n1,2\n"), "its header is 'a,b'"),
        (packed(b"# no colon"), "above its header"),
        (packed(HEAD.encode()), "fewer than 2"),
        (packed((HEAD + "1,2\n").encode()), "1 samples, fewer than 2"),
        (packed((HEAD + "1,2\n2,x\n").encode()), "not two numbers"),
        (packed((HEAD + "1,2\n2,nan\n").encode()), "not two numbers"),
        (packed((HEAD + "1,2\n2\n").encode()), "not two numbers"),
        (packed((HEAD + "2,2\n1,2\n").encode()), "do not rise"),
        (packed((HEAD + "1,2\n2,3").encode()), "cut short in its last line"),
        (packed((HEAD + "1,2\n1e300,2\n").encode()), "beyond 1e.12"),
        (packed((HEAD + "1,2\n2,-1e300\n").encode()), "beyond 1e.12"),
        (packed((HEAD + "1" * 100_000).encode()), "longer than 4096 characters"),
        (packed(b"# a: b\n" * 100_000), "above its header"),
        (packed(b"".join(b"# %d: b\n" % n for n in range(100_000))), "more than 200 lines above its header"),
    ],
)
def test_what_is_no_trace_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_trace(path)


@pytest.mark.parametrize("line", [b"%d,1\n", b"# fact: %d\n", b"%d,", b"\n"])
def test_what_unpacks_to_gigabytes_is_read_to_a_limit_only(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "t.csv.gz"
    chunk = (line if b"%d" not in line else line.replace(b"%d", b"7")) * (10_000_000 // len(line))
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"t_mono_s,power_w\n" if line[:1] != b"#" else b"")
        for _ in range(40):
            file.write(chunk)
    tracemalloc.start()
    before_s = time.process_time()
    with (
        pytest.raises(ValueError, match=r"longer than 5 MB|longer than 4096|above its header|do not rise"),
        gzip.open(path) as file,
    ):
        parse_trace(file, limit=5_000_000)
    assert time.process_time() - before_s < 5
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("n", [49_999, 50_000, 50_001, 150_000])
def test_no_sample_is_lost_between_blocks(tmp_path: Path, n: int) -> None:
    name = write_trace(tmp_path, "t", [(i / 1000, float(i)) for i in range(n)], column="energy_j", facts=FACTS)
    trace = read_trace(tmp_path / name)
    assert len(trace.t_s) == n
    assert (trace.values == np.arange(n)).all()
    assert trace.t_s == pytest.approx(np.arange(n) / 1000)


def test_every_truncation_is_told(tmp_path: Path) -> None:
    name = write_trace(tmp_path, "t", samples(), column="power_w", facts=FACTS)
    whole = (tmp_path / name).read_bytes()
    for length in range(1, len(whole), 37):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut short|gzip"):
            read_trace(tmp_path / name)


# -- thinned -----------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=400),
    st.integers(min_value=4, max_value=100),
)
def test_thinning_keeps_peaks_and_ends(values: list[float], points: int) -> None:
    array = np.array(values)
    kept = thin(array, points)
    assert len(kept) <= max(points, 4)
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert array[kept].max() == array.max()
    assert array[kept].min() == array.min()


def test_a_single_peak_survives(tmp_path: Path) -> None:
    values = np.full(100_000, 2.0)
    values[54_321] = 9.0
    kept = thin(values, 200)
    assert len(kept) <= 200
    assert 54_321 in kept


def test_a_counter_gives_the_power_between_its_updates() -> None:
    t_s = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    joules = np.array([10.0, 10.0, 12.0, 12.0, 17.0])
    times, watts = powers(Trace(kind="counter", t_s=t_s, values=joules, facts={}))
    assert times.tolist() == [1.0, 2.0]
    assert watts.tolist() == [2.0, 5.0]
    _, still = powers(Trace(kind="counter", t_s=t_s, values=np.full(5, 3.0), facts={}))
    assert still.tolist() == [0.0] * 5


# -- for a page --------------------------------------------------------------------------------------------


def test_times_are_told_from_the_start_of_the_work(tmp_path: Path) -> None:
    traces = collect(results(make_run(tmp_path)))
    assert [entry["cell"] for entry in traces.entries] == ["digits-noise/n=0/fc/s=0", "digits-noise/n=1/fc/s=0"]
    (first, _) = traces.chunks[0]
    assert first["moments"] == {"quiet_from_s": -2.0, "t0_s": 0.0, "t1_s": 10.0, "quiet_until_s": 12.0}
    assert decoded(first["t"]) == pytest.approx([t - 100 for t, _ in samples()], abs=0.01)
    assert decoded(first["p"]) == pytest.approx([w for _, w in samples()], abs=0.001)
    assert (first["idle_power_w"], first["grade"], first["samples"], first["counter"]) == (2.0, "A", 141, False)
    assert (traces.left_out, traces.damage) == ("", ())


def test_cells_come_in_a_readers_order(tmp_path: Path) -> None:
    traces = collect(results(make_run(tmp_path, traces=11)))
    assert [entry["cell"].split("=")[1].split("/")[0] for entry in traces.entries] == [str(n) for n in range(11)]


def test_no_trace_is_no_error(tmp_path: Path) -> None:
    assert collect(results(make_run(tmp_path, trace=None))) == TraceSet()
    assert collect(load("paper")) == TraceSet()


def test_damaged_traces_are_named_and_the_others_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path, traces=5)
    names = sorted(path.name for path in run.traces_dir.iterdir())
    (run.traces_dir / names[0]).write_bytes(b"nonsense")
    (run.traces_dir / names[1]).unlink()
    (run.traces_dir / names[2]).write_bytes((run.traces_dir / names[2]).read_bytes()[:-40])
    lines = [json.loads(line) for line in run.cells_path.read_text().splitlines()]
    lines[3]["trace"] = "../manifest.json"
    run.cells_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    traces = collect(results(run))
    assert [entry["cell"] for entry in traces.entries] == ["digits-noise/n=4/fc/s=0"]
    (told,) = traces.damage
    assert told.startswith("4 power traces could not be read: ")
    assert told.endswith("; and 1 more.")


def test_traces_that_unpack_to_gigabytes_end_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, traces=6)
    bomb = packed(b"t_mono_s,power_w\n" + b"\n" * 20_000_000)
    for path in sorted(run.traces_dir.iterdir())[:5]:
        path.write_bytes(bomb)
    monkeypatch.setattr(trace_data, "MAX_TRACE_BYTES", 1_000_000)
    monkeypatch.setattr(trace_data, "MAX_READ_BYTES", 2_500_000)
    before_s = time.process_time()
    traces = collect(results(run))
    assert time.process_time() - before_s < 5
    assert traces.damage[0].count("longer than 1 MB") == 3
    assert traces.left_out.startswith("0 of 6 traces")


def test_a_path_outside_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = write_trace(tmp_path, "secret", samples(), column="power_w", facts=FACTS)
    run = make_run(tmp_path / "run", traces=1, trace=f"../../{secret}")
    (told,) = collect(results(run)).damage
    assert "a path, not the name of a file" in told


def test_too_many_are_thinned_out_by_grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, traces=4)
    lines = [json.loads(line) for line in run.cells_path.read_text().splitlines()]
    lines[2] |= {"grade": "X", "error": "source died"}
    lines.append(lines[0] | {"repeat": 1, "grade": "X"})
    run.cells_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(trace_data, "MAX_TRACES", 3)
    traces = collect(results(run))
    shown = [(entry["cell"].split("=")[1][0], entry["repeat"], entry["grade"]) for entry in traces.entries]
    assert shown == [("0", 1, "X"), ("1", 0, "A"), ("2", 0, "X")]
    assert traces.left_out.startswith("3 of 5 traces are on this page")
    monkeypatch.setattr(trace_data, "MAX_READ_BYTES", 1)
    assert len(collect(results(run)).entries) == 1
