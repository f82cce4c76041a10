"""The form of MLPerf Tiny's runner: what its submission checker looks for, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.analysis.export import load_every_field
from bench.analysis.mlperf_tiny import export
from bench.errors import RequestError
from bench.store.record import Record
from bench.store.run_dir import RunDir


def written(tmp_path: Path, make_record: Callable[..., Record], windows_s: list[float]) -> Path:
    folder = RunDir(tmp_path / "run")
    with folder.locked():
        for number, seconds in enumerate(windows_s):
            folder.append(
                make_record(
                    repeat=number, n_images=1, work="infer(batch=1,images=1)", train_time_s=0.01,
                    executions=round(seconds / 0.01), energy_gross_j=0.001 * (1 + number), grade="A", lap_s=0.01,
                    source_kind="power", source="x", started_mono_s=float(number),
                )
            )  # fmt: skip
    return folder.path


def test_the_checker_finds_both_medians(tmp_path: Path, make_record: Callable[..., Record]) -> None:
    run = written(tmp_path, make_record, [12.0] * 5)
    assert export(load_every_field(run), tmp_path / "out") == 1
    (energy,) = (tmp_path / "out").glob("*/energy/results.txt")
    (speed,) = (tmp_path / "out").glob("*/performance/results.txt")
    found = re.search(r"Median energy cost is ([\d\.]+) uJ/inf", energy.read_text())
    assert found is not None
    assert float(found[1]) == 3000.0
    rates = [
        re.match(r".* Median throughput is\s+([\d\.]+) inf\./sec\..*", line) for line in speed.read_text().split("\n")
    ]
    assert [float(one[1]) for one in rates if one] == [100.0]
    assert energy.read_text().count("Energy/Inf.") == 5


@pytest.mark.parametrize("windows_s", [[12.0] * 4, [12.0] * 4 + [9.0]])
def test_too_few_or_too_short_windows_are_refused(
    windows_s: list[float], tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    run = written(tmp_path, make_record, windows_s)
    with pytest.raises(RequestError, match="4 measured windows"):
        export(load_every_field(run), tmp_path / "out")
    assert not (tmp_path / "out").exists()
