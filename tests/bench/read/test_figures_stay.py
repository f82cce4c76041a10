"""Figures of runs that an earlier version made: report, compare, history and export give what it gave.

`fixtures/before` holds two runs of one suite, one of several ways of training, and under `expected` the files that
version 0.1.0 wrote of them on the day they were made. The nights and the records of the first schema are made from
the same lines, by the functions below. What has changed in `expected` since: the published costs, which are of single
steps, have no train size, and the reasons in compare.csv speak of conditions.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from bench.cli.commands import cli

BEFORE = Path(__file__).parents[2] / "fixtures" / "before"

FIRST_FIELDS = (
    *("cell_id", "repeat", "status", "dataset", "shift", "level", "data", "train_size", "blocks", "seed", "method"),
    *("model", "bn_mode", "started_at", "schema", "error", "data_variant", "device", "n_train", "n_val", "n_test"),
    *("trained_parameters", "accuracy_before", "accuracy_after", "best_epoch", "epochs_run", "steps", "train_time_s"),
    *("startup_s", "executions", "energy_gross_j", "energy_net_j", "energy_u_j", "energy_net_u_j", "idle_power_w"),
    *("source", "source_kind", "grade", "flags", "peak_rss_mb", "trace"),
)
"""Fields of a record when the first run folders were written; the schema is still the same."""

N_NIGHTS, STEP, SIZE = 24, 14, 0.08
"""Nights of the history; from night STEP on, `fc` costs SIZE more."""

COMMANDS = {
    "report_new": ("report", "new"),
    "report_older": ("report", "older"),
    "report_ways": ("report", "ways"),
    "report_paper": ("report", "paper"),
    "compare": ("compare", "new", "base"),
    "compare_net": ("compare", "new", "base", "--net"),
    "compare_older": ("compare", "new", "older"),
    "history": ("history", "nights", "--partial"),
}
"""Name -> a command that writes tables into the folder given by --out; words that name a run become its path."""

GONE = ["skipped"]
"""Columns that are no more: of a status that no repeat ever had."""

RENAMED = {"flags": "quality_flags", "shift": "shift_name"}
"""Columns of an export that have another name since."""


def make_runs(to: Path, before: Path = BEFORE) -> None:
    """Write the runs that the commands name into a folder."""
    for name in ("new", "base", "ways"):
        (to / name).mkdir(parents=True)
        shutil.copy(before / name / "manifest.json", to / name)
        (to / name / "cells.jsonl").write_bytes(gzip.decompress((before / name / "cells.jsonl.gz").read_bytes()))
    lines = [json.loads(line) for line in (to / "base" / "cells.jsonl").read_text().splitlines()]
    manifest = json.loads((to / "base" / "manifest.json").read_text())
    older = manifest | {"sessions": [{"started_at": manifest["sessions"][0]["started_at"]}]}
    _write(to / "older", older, [{key: line[key] for key in FIRST_FIELDS} for line in lines])
    start = datetime(2025, 1, 1, 2)
    for night in range(N_NIGHTS):
        noise = 0.01 * np.random.default_rng(night).standard_normal(len(lines))
        stamp = f"{(start + timedelta(days=night)).isoformat()}+00:00"
        session = {"started_at": stamp, "ended_at": stamp, "idle": []}
        changed = [_of_night(line, night, stamp, float(noise[number])) for number, line in enumerate(lines)]
        _write(to / "nights" / stamp[:10], manifest | {"sessions": [session]}, changed)


def _of_night(line: dict[str, Any], night: int, stamp: str, noise: float) -> dict[str, Any]:
    factor = math.exp(noise) * (1 + SIZE if line["blocks"] == "fc" and night >= STEP else 1)
    return line | {
        "started_at": stamp,
        "energy_gross_j": line["energy_gross_j"] * factor,
        "energy_net_j": line["energy_net_j"] * factor,
        "accuracy_after": abs(round(line["accuracy_after"] * line["n_test"] + 100 * noise)) / line["n_test"],
    }


def _write(folder: Path, manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_figures(runs: Path, out: Path) -> None:
    """Run the commands and keep their tables: CSV as it is, of the tables of a report their figures."""
    for name, (command, *words) in COMMANDS.items():
        given = [str(runs / word) if (runs / word).exists() else word for word in words]
        done = CliRunner().invoke(cli, [command, *given, "--out", str(out / name)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    given = [str(runs / name) for name in ("new", "ways", "older")]
    done = CliRunner().invoke(cli, ["export", *given, "--out", str(out / "export.csv")], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def tables(folder: Path) -> dict[str, str]:
    """Name -> text of every CSV and of every Markdown table under a folder, without headings and notes."""
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.csv"))}
    for path in sorted(folder.glob("report_*/tables/*.md")):
        rows = [line for line in path.read_text().splitlines() if line.startswith("|")]
        found[path.relative_to(folder).as_posix()] = "\n".join(rows) + "\n"
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from plots.drawing import style

    folder = tmp_path_factory.mktemp("before")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "PNG_DPI", 30)
        make_runs(folder / "runs")
        write_figures(folder / "runs", folder / "out")
    return tables(folder / "out")


def _columns(markdown: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by heading; a new column does not change those of before."""
    # the theory beside each saving has a column of its own since
    lines = re.sub("; theory [^ |*]+", "", markdown).splitlines()
    heading, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {name: [row[number] for row in rows] for number, name in enumerate(heading)}


EXPECTED = sorted(
    path.relative_to(BEFORE / "expected").as_posix().removesuffix(".gz")
    for path in (BEFORE / "expected").rglob("*")
    if path.is_file()
)


def test_no_table_is_missing(made: dict[str, str]) -> None:
    assert len(EXPECTED) > 20
    assert set(EXPECTED) <= set(made)


@pytest.mark.parametrize("name", EXPECTED)
def test_figures_are_those_of_before(made: dict[str, str], name: str, tmp_path: Path) -> None:
    if name.endswith(".md"):
        before, after = _columns((BEFORE / "expected" / name).read_text()), _columns(made[name])
        assert {heading: after.get(heading) for heading in before} == before
        return
    (tmp_path / "made.csv").write_text(made[name])
    path = BEFORE / "expected" / name
    now, then = pd.read_csv(tmp_path / "made.csv"), pd.read_csv(path if path.exists() else f"{path}.gz")
    if name == "export.csv":
        then = then.rename(columns=RENAMED)
    then = then.drop(columns=GONE, errors="ignore")
    assert set(then.columns) <= set(now.columns)
    pd.testing.assert_frame_equal(now[list(then.columns)], then, rtol=1e-9, atol=1e-12)
