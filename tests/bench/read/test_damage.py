"""What cannot be read is named and left out of a report; nothing of it is counted, and nothing is a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.analysis import analyse, load
from bench.cli.commands import cli
from bench.errors import RequestError
from bench.store.record import SCHEMA, Record
from bench.store.run_dir import RunDir
from plots.drawing import style

Make = Callable[..., Record]


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "PNG_DPI", 30)


@pytest.fixture
def run(tmp_path: Path, make_record: Make) -> RunDir:
    """A run of four good records."""
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    for block in ("block1", "block2", "block3", "fc"):
        folder.append(make_record(cell_id=f"digits-noise/n=0.1/{block}/s=0", blocks=block))
    return folder


def add(run: RunDir, *lines: object) -> None:
    with run.cells_path.open("a", encoding="utf-8") as file:
        file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)


def good(run: RunDir) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(run.cells_path.read_text().splitlines()[0])
    return line | {"cell_id": "digits-noise/n=0.1/full/s=0", "blocks": "full"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": SCHEMA + 1}, f"line 5 has schema {SCHEMA + 1}, this version reads {SCHEMA}; upgrade jouletune"),
        ({"accuracy_after": "high"}, "digits-noise/n=0.1/full/s=0 has accuracy_after 'high'"),
        ({"accuracy_after": 7}, "has accuracy_after 7"),
        ({"energy_gross_j": [1]}, "has energy_gross_j '[1]'"),
        ({"energy_net_j": "12"}, "has energy_net_j '12'"),
        ({"seed": 10**400}, "has seed '1000"),
        ({"seed": True}, "has seed 'True'"),
        ({"train_size": None}, "has no train_size"),
        ({"data": {"a": 1}}, "has data"),
        ({"started_at": 5}, "has started_at '5'"),
        ({"flags": "short_idle"}, "has flags that are no list"),
        ({"energy_terms": [1]}, "has energy_terms that are no budget"),
    ],
)
def test_a_record_that_cannot_be_one_is_skipped(run: RunDir, change: dict[str, Any], told: str) -> None:
    add(run, good(run) | change)
    results = load(run, skip_damaged=True)
    assert len(results.records) == 4
    (sentence,) = results.damage
    assert sentence.startswith("cells.jsonl of run: 1 skipped, in no figure: ")
    assert told in sentence


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_figures_that_are_not_finite_are_skipped(run: RunDir, value: str) -> None:
    add(run, json.dumps(good(run) | {"energy_gross_j": "HERE"}).replace('"HERE"', value))
    assert len(load(run, skip_damaged=True).records) == 4


def test_torn_and_foreign_lines_are_counted(run: RunDir) -> None:
    add(run, "nonsense", "[" * 100_000, "[1]", '{"schema": 1}')
    with run.cells_path.open("ab") as file:
        file.write(b'{"schema": 1, "cell_')
    results = load(run, skip_damaged=True)
    assert len(results.records) == 4
    (sentence,) = results.damage
    assert sentence == (
        "cells.jsonl of run: 5 skipped, in no figure: line 5 is not a record; line 6 is not a record; "
        "line 7 is not a record; and 2 more."
    )


def test_nothing_is_skipped_unless_asked_for(run: RunDir) -> None:
    add(run, "nonsense")
    with pytest.raises(RequestError, match="line 5 is not a record"):
        load(run)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]"])
def test_a_manifest_that_cannot_be_read_is_named(run: RunDir, content: bytes) -> None:
    run.manifest_path.write_bytes(content)
    results = load(run, skip_damaged=True)
    assert len(results.records) == 4
    assert results.damage[0].startswith("manifest.json of run cannot be read")


def test_of_several_runs_the_readable_ones_are_reported(run: RunDir, tmp_path: Path) -> None:
    lost = RunDir(tmp_path / "lost")
    lost.path.mkdir()
    lost.cells_path.write_text("nonsense\n")
    results = load(run, lost, skip_damaged=True)
    assert results.runs == ("run",)
    assert any(sentence.startswith("Run lost is left out: ") for sentence in results.damage)
    with pytest.raises(RequestError, match="no usable record"):
        load(lost, skip_damaged=True)


def test_the_report_says_so_on_the_page_and_on_stderr(run: RunDir, tmp_path: Path) -> None:
    run.traces_dir.mkdir()
    (run.traces_dir / "t.csv.gz").write_bytes(b"nonsense")
    add(run, "nonsense", good(run) | {"trace": "t.csv.gz"})
    done = CliRunner().invoke(cli, ["report", str(run.path), "--out", str(tmp_path / "out")], standalone_mode=False)
    assert done.exception is None
    page = (tmp_path / "out" / "report.html").read_text()
    for told in ("line 5 is not a record", "1 power trace could not be read: t.csv.gz: not readable as gzip."):
        assert told in done.stderr
        assert told in page
    assert len(re.findall("warning: ", done.stderr)) == 2


def test_bases_are_checked_before_anything_is_written(run: RunDir, tmp_path: Path) -> None:
    for arguments in (
        ["report", str(run.path), str(run.path), "--base", "paper", "--out", str(tmp_path / "out")],
        ["report", str(run.path), "--base", str(tmp_path / "none"), "--out", str(tmp_path / "out")],
        ["report", str(run.path), "--base", "paper", "--out", str(tmp_path / "out")],
    ):
        done = CliRunner().invoke(cli, arguments, standalone_mode=False)
        assert isinstance(done.exception, RequestError)
    assert not (tmp_path / "out").exists()
    assert not run.report_path.exists()


def test_a_run_against_a_base_and_the_paper(tmp_path: Path, make_record: Make) -> None:
    folders = []
    for name in ("new", "old"):
        folder = RunDir(tmp_path / name)
        folder.path.mkdir()
        folders.append(str(folder.path))
        add(folder, "nonsense")
        for seed in range(3):
            record = {"dataset": "cifar10", "data": "cifar10-flip", "shift": "flip", "level": "output", "blocks": "fc"}
            cell = f"cifar10-flip/n=0.1/fc/s={seed}"
            folder.append(make_record(cell_id=cell, seed=seed, **record, accuracy_after=0.84 - seed / 1000))
    arguments = ["report", folders[0], "--base", folders[1], "--base", "paper"]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert done.exception is None
    page = (tmp_path / "new" / "report.html").read_text()
    assert re.findall(r"<h2 id=\"[^\"]*\">(Against [^<]*)</h2>", page) == [
        "Against old",
        "Against the published tables",
    ]
    assert "The only condition in common is the same." in page
    assert all(f"cells.jsonl of {name}: 1 skipped" in page for name in ("new", "old"))


def test_names_that_are_no_utf8_are_shown_as_escapes(run: RunDir, tmp_path: Path) -> None:
    odd = tmp_path / "runs" / os.fsdecode(b"n\xff")
    shutil.copytree(run.path, odd)
    assert load(odd).runs == ("n\\udcff",)
    for command in (["export", str(odd), "--out", str(tmp_path / "x.csv")], ["compare", str(odd), str(run.path)]):
        assert CliRunner().invoke(cli, command, standalone_mode=False).exception is None
    done = CliRunner().invoke(cli, ["history", str(odd.parent)], standalone_mode=False)
    assert isinstance(done.exception, RequestError)
    assert r"n\udcff: manifest.json is missing" in str(done.exception)


def test_a_folder_called_paper_is_no_published_table(run: RunDir, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "paper")
    results = load(tmp_path / "paper")
    assert (results.published, results.runs) == (False, ("paper (2)",))
    both = load("paper", tmp_path / "paper")
    assert both.runs == ("paper", "paper (2)")


@pytest.mark.parametrize("blocks", ["Block Avg", "block_avg"])
def test_an_arm_called_like_the_mean_of_blocks_is_not_mixed_with_it(run: RunDir, blocks: str) -> None:
    for arm in (blocks, None):
        add(run, good(run) | {"cell_id": f"c{arm}", "blocks": blocks, "arm": arm, "accuracy_after": 0.9})
    results = load(run, skip_damaged=True)
    assert not results.damage
    averages = analyse(results).blocks.set_index("arm")["accuracy"]
    assert averages.filter(like="vg").drop("Block Avg").tolist() == [pytest.approx(0.9)]
    assert averages["Block Avg"] == pytest.approx((4 * 0.5 + 0.9) / 5)


def test_data_called_like_other_data_in_a_way_of_training_stays_apart(run: RunDir) -> None:
    add(run, *({**good(run), "cell_id": f"c{n}", "data": data, "variant": variant, "accuracy_after": 0.5 + n / 10}
               for n, (data, variant) in enumerate([("d", "v, w"), ("d, v", "w"), ("d, v, w", "")])))  # fmt: skip
    records = load(run).records
    assert records.loc[records["cell_id"].isin(["c0", "c1", "c2"]), "data"].nunique() == 3


def test_data_called_like_that_of_another_run_stays_apart(run: RunDir, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "b")
    add(run, good(run) | {"cell_id": "c", "data": "b: digits-noise"})
    records = load(run, tmp_path / "b").records
    assert records.groupby("data")["run"].nunique().max() == 1
    assert records["data"].nunique() == 3
