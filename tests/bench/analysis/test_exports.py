"""Records for other programs: bench.load, jouletune export, and pytest-benchmark's JSON as a run; what is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import bench
from bench.cli.commands import cli
from bench.errors import RequestError
from bench.store import benchmark_json
from bench.store.manifest import Manifest, SuiteText
from bench.store.record import UNITS, Record
from bench.store.run_dir import RunDir

Make = Callable[..., Record]


def jouletune(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)


def said(result: Result) -> str:
    assert isinstance(result.exception, RequestError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def lines(make_record: Make) -> list[dict[str, Any]]:
    """Three seeds of two blocks, with joules."""
    made = [
        make_record(
            cell_id=f"digits-noise/n=0.1/{blocks}/s={seed}", blocks=blocks, seed=seed, accuracy_after=0.5 + seed / 100,
            energy_gross_j=10.0 + seed, grade="A", source="ina219", source_kind="power", n_test=100, n_train=90,
            flags=("short_window", "short_idle"),
        )
        for blocks in ("fc", "full")
        for seed in range(3)
    ]  # fmt: skip
    return [json.loads(record.to_json()) for record in made]


@pytest.fixture
def run(tmp_path: Path, lines: list[dict[str, Any]]) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "manifest.json").write_text(json.dumps({"suite": {"title": "Mine"}}))
    return folder


@pytest.fixture
def benchmark_file(tmp_path: Path, lines: list[dict[str, Any]]) -> Callable[..., Path]:
    """A file as pytest-benchmark writes it, with some of its content replaced."""

    def write(name: str = "b.json", **changes: object) -> Path:
        benchmarks = [
            {"fullname": line["cell_id"], "stats": {"mean": 1.0}, "extra_info": {"run": "mine", "records": [line]}}
            for line in lines
        ]
        content = {
            "machine_info": {},
            "benchmarks": benchmarks,
            "jouletune": benchmark_json.section({"mine": Manifest(suite=SuiteText(title="Mine"))}),
        } | changes
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path / name

    return write


# -- bench.load ----------------------------------------------------------------------------------------


def test_one_line_gives_a_data_frame(run: Path) -> None:
    frame = bench.load(run)
    renamed = {"energy_terms", "flags", "shift"}
    added = {"run", "arm", "role", "target", "ok", "measured", "quality_flags", "shift_name"}
    assert set(frame.columns) == (set(UNITS) - renamed) | added
    assert len(frame) == 6
    assert frame.quality_flags[0] == "short_window;short_idle"
    assert frame["energy_gross_j"].tolist() == [10.0, 11.0, 12.0] * 2
    assert frame["energy_net_j"].isna().all()
    assert frame["measured"].all()
    assert set(bench.load(run, "paper")["run"]) == {"run", "paper"}


def test_no_column_has_a_name_that_pandas_uses_itself(run: Path) -> None:
    for frame in (bench.load(run), bench.load("paper")):
        assert [name for name in frame.columns if hasattr(pd.DataFrame, name)] == []
        assert frame.columns.is_unique


def test_the_published_tables_can_be_loaded_and_exported(tmp_path: Path) -> None:
    frame = bench.load("paper")
    assert {"accuracy_sd", "step_macs", "governor", "levers"} <= set(frame.columns)
    assert frame["energy_gross_j"].max() == pytest.approx(2.03)
    out = tmp_path / "x.csv"
    assert jouletune("export", "paper", "--out", out).output == f"{out}: {len(frame)} rows\n"
    assert list(pd.read_csv(out).columns) == list(frame.columns)


def test_import_bench_brings_nothing_along() -> None:
    code = "import sys, bench; print(sorted({'torch', 'pandas', 'numpy', 'hardware'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_file_of_pytest_benchmark_is_the_same_run(run: Path, benchmark_file: Callable[..., Path]) -> None:
    there, here = bench.load(benchmark_file()), bench.load(run)
    pd.testing.assert_frame_equal(there.drop(columns="run"), here.drop(columns="run"))
    result = jouletune("compare", benchmark_file(), run)
    assert result.return_value == 0, result.exception
    assert "All 2 conditions are the same" in " ".join(result.stdout.split()) or "same" in result.stdout


# -- damage --------------------------------------------------------------------------------------------


def test_what_is_damaged_is_named_and_not_counted(run: Path, lines: list[dict[str, Any]]) -> None:
    (run / "manifest.json").write_text("{")
    with (run / "cells.jsonl").open("a") as file:
        file.write("nonsense\n")
        file.write(json.dumps(lines[0] | {"schema": 2, "repeat": 1}) + "\n")
        file.write(json.dumps(lines[0] | {"repeat": 2, "energy_gross_j": "many"}) + "\n")
        file.write(json.dumps(lines[0])[:50])
    with pytest.warns(UserWarning, match="skipped|cannot be read") as warned:
        frame = bench.load(run)
    assert len(frame) == 6
    told = " ".join(str(one.message) for one in warned)
    for words in ("line 7 is not a record", "line 8 has schema 2", "line 9 is unfinished", "manifest.json of run"):
        assert words.replace("line 9", "line 10") in told
    assert "4 skipped" in told
    assert all(one.filename == __file__ for one in warned)
    out = run.parent / "out.csv"
    result = jouletune("export", run, "--out", out)
    assert result.return_value is None
    assert result.stderr.count("warning: ") == 2
    assert len(pd.read_csv(out)) == 6


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not readable as JSON"),
        (b"\xff\xfe\x00", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[1]", "not a file of pytest-benchmark"),
        (b'{"benchmarks": []}', "holds times only"),
        (b'{"benchmarks": [], "jouletune": {"schema": 2, "runs": {}}}', "has schema 2, this version reads 1; upgrade"),
        (b'{"benchmarks": [], "jouletune": {"schema": 1, "runs": {}}}', "no finished cell"),
        (b'{"benchmarks": [5], "jouletune": {"schema": 1, "runs": {}}}', "no finished cell"),
    ],
)
def test_files_that_hold_nothing_for_us_are_named(tmp_path: Path, run: Path, content: bytes, words: str) -> None:
    (tmp_path / "odd.json").write_bytes(content)
    for command in (["compare", tmp_path / "odd.json", run], ["compare", run, tmp_path / "odd.json"]):
        message = said(jouletune(*command))
        assert words in message
        assert "odd.json" in message
    with pytest.raises(RequestError, match=r"odd\.json"):
        bench.load(tmp_path / "odd.json")
    # among others it is left out
    with pytest.warns(UserWarning, match="is left out") as warned:
        assert len(bench.load(run, tmp_path / "odd.json", tmp_path / "nowhere")) == 6
    assert [str(one.message).split()[1] for one in warned] == ["odd.json", "nowhere"]


def test_a_report_names_what_it_left_out(run: Path, benchmark_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "thesis.json").write_text('{"chapters": 3}')
    inputs = [run, tmp_path / "foreign", tmp_path / "thesis.json", benchmark_file()]
    result = jouletune("report", *inputs, "--out", tmp_path / "out")
    assert result.exception is None, result.exception
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert [line.split()[2] for line in told] == ["foreign", "thesis.json"]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert summary["run"].value_counts().to_dict() == {"run": 6, "b.json": 6}
    assert "is left out" in (tmp_path / "out" / "report.html").read_text()
    for alone in inputs[1:]:
        out = tmp_path / "alone"
        if alone == inputs[3]:
            assert "--out is missing" in said(jouletune("report", alone))
        else:
            assert alone.name in said(jouletune("report", alone, "--out", out))
            assert not out.exists()


def test_a_file_cut_short_at_any_place_is_named(tmp_path: Path, benchmark_file: Callable[..., Path]) -> None:
    whole = benchmark_file().read_bytes()
    for end in range(0, len(whole) - 1, len(whole) // 40):
        (tmp_path / "cut.json").write_bytes(whole[:end])
        with pytest.raises(RequestError, match=r"cut\.json"):
            bench.load(tmp_path / "cut.json")


def test_records_in_a_file_that_are_none_are_named(
    benchmark_file: Callable[..., Path], lines: list[dict[str, Any]]
) -> None:
    odd: list[Any] = [5, {}, lines[0] | {"schema": 7}, lines[0] | {"cell_id": ["x"]}, lines[0] | {"accuracy_after": 9}]
    benchmarks = [{"extra_info": {"run": "mine", "records": [lines[1], *odd]}}, {"extra_info": {"records": 5}}, None]
    with pytest.warns(UserWarning, match="7 skipped, in no figure: benchmark 0 holds something that is not a record"):
        frame = bench.load(benchmark_file(benchmarks=benchmarks))
    assert frame["cell_id"].tolist() == [lines[1]["cell_id"]]


# -- files ---------------------------------------------------------------------------------------------


def test_csv_holds_the_same(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "records.csv"
    result = jouletune("export", run, "--out", out)
    assert result.output == f"{out}: 6 rows\n"
    frame = bench.load(run)
    back = pd.read_csv(out)
    assert list(back.columns) == list(frame.columns)
    assert back["energy_gross_j"].tolist() == frame["energy_gross_j"].tolist()
    assert jouletune("export", run, "--out", out, "--cells").output == f"{out}: 6 rows\n"
    assert "accuracy_percent" in pd.read_csv(out).columns


def test_parquet_holds_the_same(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "records.parquet"
    assert jouletune("export", run, run, "--out", out).output == f"{out}: 12 rows\n"
    jouletune("export", run, "--out", out)
    pd.testing.assert_frame_equal(pd.read_parquet(out), bench.load(run), check_dtype=False)
    jouletune("export", "paper", "--cells", "--out", out)
    assert len(pd.read_parquet(out)) > 50


def test_exports_that_cannot_be(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ends in .csv or .parquet or .xlsx" in said(jouletune("export", run, "--out", tmp_path / "x.ods"))
    assert "jouletune report" in said(jouletune("export", run, "--out", tmp_path / "x.tex"))
    out = tmp_path / "x.parquet"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyarrow", None)
        assert "pip install 'jouletune[parquet]'" in said(jouletune("export", run, "--out", out))
    assert not out.exists()
    (tmp_path / "file").write_text("")
    for place, why in (("file", "is a file"), ("no/such/folder", "does not exist")):
        message = said(jouletune("export", run, "--out", tmp_path / place / "x.csv"))
        assert f"cannot write: {tmp_path / place} {why}" in message
    assert not (tmp_path / "no").exists()
    (tmp_path / "folder.csv").mkdir()
    assert "it is a folder" in said(jouletune("export", run, "--out", tmp_path / "folder.csv"))
    assert RunDir(run).records()
