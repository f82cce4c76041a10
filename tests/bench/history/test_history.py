"""The history of many runs: run folders in, changes out; what is left out; the index; the command and its page."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cli.commands import cli
from bench.errors import JouletuneError, RequestError
from bench.history import Choice, History, history, show, wording
from bench.history import index as index_module
from bench.history.bursts import MIN_NIGHTS
from bench.history.folders import find_folders
from bench.history.index import NAME, Index
from bench.history.nights import Night
from bench.history.series import tables
from bench.history.summary import Summary

CONDITIONS = [
    "fc on digits-noise, 10 %",
    "full on digits-noise, 10 %",
    "fc on digits-flip, 10 %",
    "full on digits-flip, 10 %",
]


def noise(night: int, cell: int) -> float:
    """One per cent, the same each time."""
    return 0.01 * float(np.random.default_rng([night, cell]).standard_normal())


def write_year(nights: Any, n: int = 40, **at: Any) -> None:
    """Quiet nights, but for cell 0, which costs 6 % more from night `step` on, with another torch."""
    step, size = at.pop("step", 25), at.pop("size", 0.06)
    for night in range(n):
        nights.write(
            night,
            joules=lambda cell, night=night: math.exp(
                noise(night, cell) + (size if cell == 0 and night >= step else 0)
            ),
            manifest={"versions.torch": "2.9.0" if night < step else "2.10.0"},
            **at,
        )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, write_nights: Callable[[Path], Any]) -> Path:
    """Forty nights with their index, written once."""
    nights = write_nights(tmp_path_factory.mktemp("template"))
    write_year(nights)
    history([nights.root])
    return Path(nights.root)


@pytest.fixture
def year(template: Path, nights: Any) -> Any:
    """A copy of the template; the index goes with it, as times of change are kept."""
    shutil.copytree(template, nights.root)
    return nights


def keep_first(nights: Any, n: int) -> None:
    """Remove all nights but the first n."""
    for night in range(n, 40):
        shutil.rmtree(nights.root / nights.day(night))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["history", *map(str, arguments)], standalone_mode=False)


def reasons(found: History) -> dict[str, str]:
    return {lost.name: lost.reason for lost in found.nights.left_out}


# -- changes -------------------------------------------------------------------------------------------


def test_a_change_is_told_with_its_run_and_what_came_with_it(year: Any) -> None:
    found = history([year.root])
    (change,) = found.changes
    assert wording.label(change.condition, change.n_train) == CONDITIONS[0]
    assert (change.worse, change.recovered, change.measure.name) == (True, None, "joules")
    assert (change.run, change.date) == (year.day(25), year.day(25))
    assert change.lo < math.expm1(0.06) < change.hi
    assert change.reasons == ("torch 2.9.0 -> 2.10.0",)
    assert change.power == pytest.approx(change.change, abs=1e-9)
    said = wording.sentence(change, found)
    assert said.startswith(f"{CONDITIONS[0]} costs {100 * change.change:.1f} % [")
    assert said.endswith(f"more joules since {year.day(25)} (run {year.day(25)})")
    assert wording.verdict(found) == "1 change for the worse and 0 for the better stand."


def test_better_recovered_and_accuracy_are_told_too(nights: Any) -> None:
    for night in range(60):
        nights.write(
            night,
            joules=lambda cell, night=night: math.exp(
                noise(night, cell)
                + (0.08 if cell == 0 and 20 <= night < 35 else -0.1 if cell == 1 and night >= 30 else 0)
            ),
            accuracy=lambda cell, night=night: 0.7 if cell == 3 and night >= 40 else 0.8,
            seconds=lambda cell, night=night: 2.0 * (0.9 if cell == 1 and night >= 30 else 1),
            manifest={"device.kernel": "6.6" if night < 40 else "6.12"},
        )
    found = history([nights.root])
    lost, better, recovered = found.changes
    assert (lost.measure.name, lost.worse, lost.date) == ("accuracy", True, nights.day(40))
    assert lost.change == pytest.approx(-0.1, abs=0.002)
    assert lost.reasons == ("kernel 6.6 -> 6.12",)
    assert (better.worse, better.date) == (False, nights.day(30))
    assert better.seconds == pytest.approx(-0.1, abs=0.001)
    assert better.power == pytest.approx(0, abs=0.02)
    assert recovered.recovered == 35
    assert f"until {nights.day(35)}" in wording.sentence(recovered, found)
    assert wording.reason(better) == wording.NOTHING
    assert [wording.state(change) for change in found.changes] == ["worse", "better", "recovered"]


def test_many_cells_at_once_are_one_event(nights: Any) -> None:
    for night in range(24):
        more = 0.08 if night >= 12 else 0
        nights.write(
            night,
            joules=lambda cell, night=night, more=more: math.exp(noise(night, cell) + more),
            manifest={"device.governor": "schedutil" if night < 12 else "performance"},
        )
    found = history([nights.root])
    assert len(found.changes) == 4
    (event,) = wording.event_sentences(found)
    assert event.startswith(f"{nights.day(12)} (run {nights.day(12)}): joules of 4 conditions by +")
    assert "governor schedutil -> performance" in event


def test_the_last_nights_are_told_before_they_prove_anything(nights: Any) -> None:
    write_year(nights, n=24, step=23, size=0.12)
    found = history([nights.root])
    assert wording.verdict(found) == "No change is proven."
    assert wording.fresh_sentences(found) == [
        f"{CONDITIONS[0]}: +{100 * found.fresh[0].change:.1f} % of joules on the last night."
    ]


def test_a_change_below_the_margin_is_counted_and_not_listed(year: Any) -> None:
    said = run(year.root, "--margin", "joules:10%").output
    assert "1 proven change below 10 % and 0.5 points is not listed" in " ".join(said.split())
    assert "No change is proven" in said


def test_a_gap_and_the_idle_power_are_among_the_reasons(nights: Any) -> None:
    for night in range(24):
        late = night >= 12
        nights.write(
            night + 30 * late,
            joules=lambda cell, night=night, late=late: math.exp(noise(night, cell) + 0.08 * late),
            record={"idle_power_w": 2.5 if late else 2.0, "temperature_before_c": 55.0 if late else 45.0},
        )
    told = history([nights.root]).changes[0].reasons
    assert told == ("no run for 31 days before", "idle power 2 W -> 2.5 W", "temperature before 45 °C -> 55 °C")


def test_a_seed_that_a_night_lacks_does_not_move_it() -> None:
    nights = []
    for night in range(12):
        seeds = [0, 1, 2] if night < 9 else [0, 1]  # the third costs twice as much
        rows: dict[str, list[Any]] = {
            "data": ["d"] * len(seeds), "train_size": [0.1] * len(seeds), "arm": ["fc"] * len(seeds), "seed": seeds,
            "joules": [10.0, 11.0, 20.0][: len(seeds)], "net_joules": [None] * len(seeds),
            "seconds": [1.0] * len(seeds), "accuracy": [0.8, 0.9, 0.4][: len(seeds)],
            "n_train": [90] * len(seeds), "n_test": [100] * len(seeds),
        }  # fmt: skip
        summary = Summary(
            started_at=f"2025-01-{night + 1:02}T00:00:00", suite="s", title="S", identity={}, environment={}, health={},
            grades={}, lost={}, damage=[], repeats=3, wanted=3, ended=True, rows=rows,
        )  # fmt: skip
        nights.append(Night(str(night), summary))
    joules, accuracy = tables(nights)
    assert joules.values[0] == pytest.approx(np.log([10.0 * 11.0 * 20.0] * 12) / 3)
    assert accuracy.values[0] == pytest.approx(0.7)


# -- what is left out ----------------------------------------------------------------------------------


def test_what_is_no_run_of_this_device_is_named_and_left_out(year: Any) -> None:
    root = year.root
    (root / "foreign").mkdir()
    (root / "foreign" / "notes.txt").write_text("not a run")
    (root / "empty").mkdir()
    (root / "latest").symlink_to(root / year.day(3))
    shutil.copytree(root / year.day(5), root / "copied")
    year.write(100, name="stopped", keep=5)
    year.write(101, name="other-board", manifest={"device.board": "Pi 4"})
    year.write(102, name="other-meter", manifest={"source.name": "um25c"})
    year.write(103, name="other-settings", manifest={"suite.content.train.lr": 0.5})
    year.write(104, name="other-suite", manifest={"suite.name": "another"})
    year.write(105, name="newer-manifest", manifest={"schema": 2})
    newer = year.write(106, name="newer-record") / "cells.jsonl"
    newer.write_text(newer.read_text().replace('"schema": 1', '"schema": 2'))
    torn = year.write(107, name="torn") / "cells.jsonl"
    torn.write_bytes(torn.read_bytes()[:-20])
    garbage = year.write(108, name="garbage") / "cells.jsonl"
    garbage.write_bytes(b"\x00\xff not json\n" + garbage.read_bytes())
    (year.write(109, name="no-manifest") / "manifest.json").unlink()
    (year.write(110, name="bad-manifest") / "manifest.json").write_text("{]")
    (year.write(111, name="no-cells") / "cells.jsonl").unlink()
    year.write(112, name="failed", record={"status": "failed", "accuracy_after": None, "energy_gross_j": None})
    impossible = year.write(113, name="impossible") / "cells.jsonl"
    impossible.write_text(impossible.read_text().replace('"train_size": 0.1', '"train_size": -1'))
    year.write(114, name="unending", manifest={"sessions": []}, keep=7)
    wrong = year.write(115, name="wrong-types") / "cells.jsonl"
    wrong.write_text(wrong.read_text().replace('"energy_gross_j": ', '"energy_gross_j": "much", "x": '))
    deep = year.write(116, name="deep") / "manifest.json"
    deep.write_text("[" * 100_000)
    found = history([root])
    left = reasons(found)
    # a line that is no record costs that line, and not the night whose records are all there
    assert {night.name for night in found.nights.nights} - {year.day(day) for day in range(40)} == {"garbage"}
    assert "garbage: cells.jsonl of garbage: 1 skipped, in no figure: line 1 is not a record." in found.nights.notes
    expected = {
        "foreign": "not a run folder",
        "empty": "not a run folder",
        "latest": "a link",
        "stopped": "unfinished: 5 of 8 repeats",
        "other-board": "another device (board ",
        "other-meter": "another meter (name simulated -> um25c)",
        "other-settings": "other settings of the suite (train.lr 0.01 -> 0.5)",
        "other-suite": "another suite (name trial -> another)",
        "newer-manifest": "manifest.json has schema 2, this version reads 1; upgrade",
        "newer-record": "no usable record (line 1 has schema 2, this version reads 1; upgrade",
        "torn": "cells.jsonl ends in the middle of a line",
        "no-manifest": "manifest.json is missing",
        "bad-manifest": "manifest.json: not readable as JSON",
        "no-cells": "cells.jsonl is missing",
        "failed": "no repeat has a result",
        "impossible": "digits-noise/n=0.1/fc/s=0 has train_size -1",
        "unending": "unfinished: 7 of 8 repeats, stopped or still running",
        "wrong-types": "digits-noise/n=0.1/fc/s=0 has energy_gross_j 'much'",
        "deep": "",
    }
    copy = ({"copied", year.day(5)} & set(left)).pop()
    assert left.pop(copy).startswith("a copy of ")
    assert set(left) == set(expected)
    for name, reason in expected.items():
        assert reason in left[name], name
    assert [change.run for change in found.changes] == [year.day(25)]
    again = history([root])
    assert reasons(again).keys() == reasons(found).keys()


def test_joules_of_grade_x_are_left_out_and_named(year: Any) -> None:
    year.write(50, name="dead-meter", record={"grade": "X", "energy_gross_j": 1e6})
    found = history([year.root])
    assert "dead-meter: all joules are of grade X and left out; the accuracies count." in found.nights.notes
    assert np.isnan(found.tables[0].values[:, -1]).all()
    assert not np.isnan(found.tables[1].values[:, -1]).any()


def test_a_setting_that_an_older_version_did_not_know_is_no_other_suite(nights: Any) -> None:
    nights.write(0)
    older = nights.write(1) / "manifest.json"
    manifest = json.loads(older.read_text())
    del manifest["suite"]["content"]["train"]["patience"]
    older.write_text(json.dumps(manifest))
    assert len(history([nights.root]).nights.nights) == 2


def test_like_chooses_the_device_and_across_takes_all(year: Any) -> None:
    for night in range(100, 112):
        year.write(night, name=f"pi-{night}", manifest={"device.board": "Pi 4"})
    assert len(history([year.root], choice=Choice(like="pi-105")).nights.nights) == 12
    assert len(history([year.root], choice=Choice(like=str(year.root / "pi-105"))).nights.nights) == 12
    assert len(history([year.root]).nights.nights) == 40
    assert len(history([year.root], choice=Choice(across=True)).nights.nights) == 52
    with pytest.raises(RequestError, match="no such run here; did you mean 'pi-105'"):
        history([year.root], choice=Choice(like="pi105"))


def test_partial_counts_what_was_stopped(year: Any) -> None:
    year.write(60, name="stopped", keep=4)
    assert len(history([year.root], choice=Choice(partial=True)).nights.nights) == 41


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "does not exist; expected a run folder"),
        (lambda root: (root / "a-file").write_text("x") and root / "a-file", "is a file; expected a run folder"),
        (lambda root: (root / "bare").mkdir() or root / "bare", "holds no run; expected a run folder"),
    ],
)
def test_a_wrong_folder_is_one_clear_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        history([make(tmp_path)])


def test_runs_are_found_as_they_are_given(year: Any) -> None:
    deeper = year.root / "2026" / "01"
    deeper.mkdir(parents=True)
    (year.root / year.day(0)).rename(deeper / "night")
    folders, _ = find_folders([year.root])
    assert "2026/01/night" in [folder.name for folder in folders]
    assert len(folders) == 40
    single = sorted(path for path in year.root.iterdir() if (path / "cells.jsonl").is_file())
    folders, left_out = find_folders([*single, year.root])
    assert len(folders) == 40
    assert not left_out


# -- the index -----------------------------------------------------------------------------------------


def test_a_new_night_is_all_that_is_read(year: Any) -> None:
    assert history([year.root]).nights.read == 0
    before = (year.root / NAME).read_bytes()
    year.write(40, joules=lambda cell: math.exp(noise(40, cell)))
    found = history([year.root])
    assert found.nights.read == 1
    assert (year.root / NAME).read_bytes().startswith(before), "appended to, not written anew"
    fresh = history([year.root], index_file=year.root.parent / "other.jsonl")
    assert fresh.nights.read == 41
    for one, other in zip(found.tables, fresh.tables, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_a_run_that_changed_is_read_again(year: Any) -> None:
    cells = year.root / year.day(7) / "cells.jsonl"
    cells.write_text(cells.read_text().replace('"accuracy_after": 0.', '"accuracy_after": 0.1'))
    manifest = year.root / year.day(8) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"2.9.0"', '"2.9.9"'))
    os.utime(year.root / year.day(9) / "cells.jsonl", (0, 0))
    found = history([year.root])
    assert found.nights.read == 3
    assert found.nights.nights[8].summary.environment["torch"] == "2.9.9"


def index_lines(root: Path) -> list[bytes]:
    return (root / NAME).read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("spoil", "read", "note"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), 1, "1 line of it was damaged or cut off"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"[90", b"[91", 1)), 1, "1 line of it was damaged"),
        (lambda path: path.write_bytes(b"something else\n"), 12, "was no index and is made anew"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), 12, "was no index and is made anew"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'"jouletune": "', b'"jouletune": "9', 1)),
            12,
            "was made by another version of jouletune",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'_index": 3', b'_index": 4', 1)),
            12,
            "was made by another version of jouletune",
        ),
        (lambda path: path.write_bytes(b""), 12, "was no index"),
    ],
    ids=["cut off", "bit flip", "foreign", "binary", "other version", "newer", "empty"],
)
def test_a_spoiled_index_is_made_anew_and_says_so(
    year: Any, spoil: Callable[[Path], Any], read: int, note: str
) -> None:
    keep_first(year, 12)
    (year.root / NAME).unlink()
    good = history([year.root])
    spoil(year.root / NAME)
    found = history([year.root])
    assert found.nights.read == read
    assert any(note in said for said in found.nights.notes), found.nights.notes
    for one, other in zip(found.tables, good.tables, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    again = history([year.root])
    assert again.nights.read == 0
    assert again.nights.notes == good.nights.notes
    assert len(index_lines(year.root)) == 13


def test_a_file_of_the_users_is_not_taken_for_an_index(year: Any, tmp_path: Path) -> None:
    diary = tmp_path / "diary.txt"
    diary.write_text("dear diary\n")
    with pytest.raises(RequestError, match="is not an index of jouletune"):
        history([year.root], index_file=diary)
    assert diary.read_text() == "dear diary\n"
    with pytest.raises(RequestError, match="is a folder; expected a file"):
        history([year.root], index_file=tmp_path)


def test_an_index_that_cannot_be_written_costs_time_only(year: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.history.index.append_line", full)
    year.write(40, joules=lambda cell: math.exp(noise(40, cell)))
    found = history([year.root])
    assert len(found.changes) == 1
    assert any("cannot be written (No space left on device); --index FILE" in note for note in found.nights.notes)


def test_lines_that_no_longer_count_are_cleared_away(year: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_SPARE_LINES", 0)
    keep_first(year, 12)
    for _ in range(5):
        for night in range(12):
            os.utime(year.root / year.day(night) / "cells.jsonl", (time.time(), time.time()))
        history([year.root])
    lines = index_lines(year.root)
    assert len(lines) <= 2 * 40 + 1
    assert history([year.root]).nights.read == 0


def test_summaries_that_another_user_wrote_are_not_believed(year: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_first(year, 12)
    (year.root / NAME).unlink()
    good = history([year.root])
    with monkeypatch.context() as other:
        other.setattr(index_module, "_key", lambda: b"of another user" * 2)
        forged = b""
        head, *lines = index_lines(year.root)
        for line in lines:
            content = json.loads(line.rpartition(b"\t")[0])
            content["summary"]["rows"]["joules"] = [1e6] * 4
            body = json.dumps(content, separators=(",", ":")).encode()
            forged += b"%s\t%s\n" % (body, index_module._mac(body))
    (year.root / NAME).write_bytes(head + forged)
    found = history([year.root])
    assert found.nights.read == 12
    assert any("12 lines of it were damaged or cut off, or another user's" in note for note in found.nights.notes)
    for one, other_table in zip(found.tables, good.tables, strict=True):
        np.testing.assert_array_equal(one.values, other_table.values)
    assert history([year.root]).nights.read == 0


def test_a_run_that_was_changed_without_a_trace_is_read_again(year: Any) -> None:
    keep_first(year, 12)
    cells = year.root / year.day(3) / "cells.jsonl"
    before = cells.stat()
    cells.write_text(cells.read_text().replace('"energy_gross_j": 1', '"energy_gross_j": 2'))
    os.utime(cells, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cells.stat().st_size == before.st_size
    assert history([year.root]).nights.read == 1


def test_links_in_place_of_the_index_are_not_followed(year: Any, tmp_path: Path) -> None:
    keep_first(year, 12)
    diary = tmp_path / "diary.txt"
    diary.write_text("dear diary\n")
    for name in (NAME, f".{NAME}.lock"):
        (year.root / NAME).unlink(missing_ok=True)
        (year.root / f".{NAME}.lock").unlink(missing_ok=True)
        (year.root / name).symlink_to(diary)
        found = history([year.root])
        assert len(found.nights.nights) == 12
        assert any("cannot be" in note for note in found.nights.notes)
        assert diary.read_text() == "dear diary\n"
        (year.root / name).unlink()


def test_the_index_moves_with_the_runs(year: Any) -> None:
    moved = year.root.parent / "moved"
    year.root.rename(moved)
    assert history([moved]).nights.read == 0


def _look(root: Path, start: Any) -> None:
    start.wait()
    history([root])


def test_two_at_once_spoil_nothing(year: Any) -> None:
    keep_first(year, 12)
    (year.root / NAME).unlink()
    context = multiprocessing.get_context("fork")
    start = context.Event()
    lookers = [context.Process(target=_look, args=(year.root, start)) for _ in range(3)]
    for looker in lookers:
        looker.start()
    start.set()
    for looker in lookers:
        looker.join(60)
        assert looker.exitcode == 0
    index = Index.open(year.root / NAME, chosen=False)
    assert not index.notes
    found = history([year.root])
    assert found.nights.read == 0
    assert len(found.nights.nights) == 12


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 2),
    place=st.floats(0, 1, exclude_max=True),
    length=st.integers(0, 30),
    instead=st.binary(max_size=20),
)
def test_no_damage_to_a_run_or_the_index_is_a_traceback(
    nights: Any, which: int, place: float, length: int, instead: bytes
) -> None:
    """Bytes changed anywhere: the run counts, or is named; nothing else happens."""
    files = [nights.root / nights.day(1) / "cells.jsonl", nights.root / nights.day(1) / "manifest.json"]
    files.append(nights.root / NAME)
    if not nights.root.exists():
        for night in range(4):
            nights.write(night)
        history([nights.root])
    whole = [file.read_bytes() for file in files]
    start = int(place * len(whole[which]))
    files[which].write_bytes(whole[which][:start] + instead + whole[which][start + length :])
    try:
        found = history([nights.root])
        named = {night.name for night in found.nights.nights} | {lost.name for lost in found.nights.left_out}
        assert {nights.day(night) for night in range(4)} <= named
        show.to_markdown(found)
    except JouletuneError:
        pass
    finally:
        for file, content in zip(files, whole, strict=True):
            file.write_bytes(content)


# -- the command ---------------------------------------------------------------------------------------


def test_the_command_shows_words_and_a_picture(year: Any) -> None:
    result = run(year.root)
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    assert "40 nights, 2025-01-01 to 2025-02-09, 4 conditions" in said
    assert f"{CONDITIONS[0]} costs " in said
    assert "with it: torch 2.9.0 -> 2.10.0" in said
    assert "│" in said


def test_fail_on_fails_on_what_stands_and_since_forgives(year: Any) -> None:
    assert run(year.root, "--fail-on", "joules:5%").return_value == 1
    assert run(year.root, "--fail-on", "joules:10%").return_value == 0
    assert run(year.root, "--fail-on", "accuracy:1").return_value == 0
    assert run(year.root, "--fail-on", "joules:5%", "--since", year.day(25)).return_value == 1
    assert run(year.root, "--fail-on", "joules:5%", "--since", year.day(26)).return_value == 0


def test_too_few_nights_are_said_and_are_no_failure(nights: Any) -> None:
    write_year(nights, n=5, step=3)
    result = run(nights.root, "--fail-on", "joules:5%")
    assert result.return_value == 0
    assert f"4 of 4 conditions have fewer than {MIN_NIGHTS} nights" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "2025-01-01"], "--since says from when on to fail"),
        (["--fail-on", "joules:5%", "--since", "soon"], "expected a day such as 2026-03-04, not 'soon'"),
        (["--margin", "jouls:5%"], "did you mean 'joules'"),
        (["--fail-on", "joules:1%"], "below the practical margin"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_read(nights: Any, arguments: list[str], message: str) -> None:
    nights.write(0)
    result = run(nights.root, *arguments)
    assert isinstance(result.exception, RequestError)
    assert message in str(result.exception)
    assert not (nights.root / NAME).exists()


def test_files_hold_every_change(year: Any, tmp_path: Path) -> None:
    run(year.root, "--out", tmp_path / "out", "--html")
    (row,) = csv.DictReader((tmp_path / "out" / "history.csv").open())
    assert (row["measure"], row["data"], row["arm"], row["state"]) == ("joules", "digits-noise", "fc", "worse")
    assert float(row["change_lo95"]) < 100 * math.expm1(0.06) < float(row["change_hi95"])
    assert row["first_run"] == year.day(25)
    assert float(row["after_j"]) / float(row["before_j"]) == pytest.approx(1 + float(row["change"]) / 100, abs=0.02)
    text = (tmp_path / "out" / "history.md").read_text()
    assert "torch 2.9.0 -\\> 2.10.0" in text
    page = (tmp_path / "out" / "history.html").read_text()
    assert "1 change for the worse" in page
    assert "http://" not in page.split("<script", 1)[0]
    assert not (year.root / "history.html").exists()


def test_the_page_lies_beside_the_runs_and_escapes_names(year: Any) -> None:
    (year.root / year.day(25)).rename(year.root / "<script>alert(1)<")
    run(year.root, "--html")
    page = (year.root / "history.html").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert history([year.root]).nights.left_out == []


def test_net_joules_on_request(nights: Any) -> None:
    write_year(nights, n=24, step=12, record={"energy_net_j": 3.0})
    assert run(nights.root).output.count("more joules since") == 1
    assert "No change is proven" in run(nights.root, "--net").output
