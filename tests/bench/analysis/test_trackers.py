"""Runs for MLflow, W&B and BoAmps, read back by what these write: source, grade and interval come along."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench.cli.commands import cli
from bench.errors import RequestError
from bench.store.manifest import Device, EnergySource, Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir

HALF_J = ((4.303 * 2 / 3**0.5) ** 2 + 1.0) ** 0.5
"""98, 100, 102 J: t(2) sd / sqrt(3), and 1 J of the source."""


@pytest.fixture
def run(tmp_path: Path, make_record: Callable[..., Record]) -> Path:
    folder = RunDir(tmp_path / "night")
    with folder.locked():
        folder.write_manifest(
            Manifest(
                schema=1, jouletune="0.1.0", versions={"python": "3.11", "torch": "2.5"},
                device=Device(board="Pi 5", cpu_model="A76", memory_bytes=8_000_000_000, os="Linux"),
                source=EnergySource(name="um25c", kind="power"),
            )
        )  # fmt: skip
        for repeat, joules in enumerate((98.0, 100.0, 102.0)):
            energy = {"energy_gross_j": joules, "energy_u_j": 1.0, "source": "um25c", "source_kind": "power"}
            folder.append(
                make_record(**energy, repeat=repeat, grade="AB"[repeat % 2], flags=["short_idle"], train_time_s=3.0)
            )
        folder.append(make_record(cell_id="digits-noise/n=0.1/fc/s=0", blocks="fc", status="failed", error="x"))
    return folder.path


def export(run: Path, target: str, out: Path) -> Result:
    done = CliRunner().invoke(cli, ["export", str(run), "--to", target, "--out", str(out)], standalone_mode=False)
    assert done.exception is None, done.exception
    return done


def test_mlflow_reads_back(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    out = tmp_path / "mlruns"
    assert "2 conditions for mlflow" in export(run, "mlflow", out).output
    client = tracking.MlflowClient(tracking_uri=out.as_uri())
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    found = {one.info.run_name: one.data for one in client.search_runs([experiment.experiment_id])}
    data = found["digits-noise n=0.1 block1"]
    assert data.metrics["energy_gross_j"] == pytest.approx(100.0)
    assert data.metrics["energy_gross_j_hi"] == pytest.approx(100 + HALF_J, rel=1e-4)
    assert data.metrics["energy_gross_j_lo"] == pytest.approx(100 - HALF_J, rel=1e-4)
    assert data.params["arm"] == "block1"
    tags = {key.removeprefix("jouletune."): text for key, text in data.tags.items() if key.startswith("jouletune.")}
    assert (tags["source"], tags["source_kind"], tags["grade"], tags["flags"]) == ("um25c", "power", "B", "short_idle")
    assert "95 %" in tags["interval"]
    failed = found["digits-noise n=0.1 fc"]
    assert "energy_gross_j" not in failed.metrics
    assert failed.metrics["repeats_ok"] == 0
    export(run, "mlflow", out)  # a second export adds to the same experiment
    assert len(client.search_runs([experiment.experiment_id])) == 4


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of an offline run: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last of several
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_wandb_reads_back(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    out = tmp_path / "offline"
    export(run, "wandb", out)
    files = sorted(out.rglob("*.wandb"))
    assert len(files) == 2
    found = {}
    for file in files:
        summary: dict[str, Any] = {}
        name = ""
        for record in wandb_records(file):
            name = record.run.display_name or name
            for item in record.summary.update:
                summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        found[name] = summary
    known = found["digits-noise n=0.1 block1"]
    assert known["energy_gross_j"] == pytest.approx(100.0)
    assert known["energy_gross_j_hi"] == pytest.approx(100 + HALF_J, rel=1e-4)
    assert (known["jouletune.source"], known["jouletune.grade"]) == ("um25c", "B")
    assert "95 %" in known["jouletune.interval"]


def test_boamps_reads_back(run: Path, tmp_path: Path) -> None:
    export(run, "boamps", tmp_path / "reports")
    (file,) = (tmp_path / "reports").iterdir()
    report = json.loads(file.read_text(encoding="utf-8"))
    # required by the schema of the report, and of what it refers to
    assert {"task", "measures", "infrastructure"} <= {*report}
    assert {"taskStage", "taskFamily", "algorithms", "dataset"} <= {*report["task"]}
    assert {"dataUsage", "dataType"} <= {*report["task"]["dataset"][0]}
    assert all({"componentType", "nbComponent"} <= {*one} for one in report["infrastructure"]["components"])
    (measure,) = report["measures"]
    assert measure["powerConsumption"] == pytest.approx(100 / 3.6e6)
    assert measure["measurementDuration"] == pytest.approx(3.0)
    assert "source um25c (power), grade B" in measure["measurementMethod"]
    low = float(report["task"]["taskDescription"].split("95 % interval ")[1].split(" to ")[0])
    assert low == pytest.approx((100 - HALF_J) / 3.6e6, rel=1e-4)
    assert report["quality"] == "medium"
    assert report["task"]["measuredAccuracy"] == 0.5


def test_a_target_that_cannot_be_written_to_is_one_line(run: Path, tmp_path: Path) -> None:
    for options in (["--to", "boamps", "--out", "x.csv"], ["--to", "boamps", "--out", str(tmp_path), "--cells"]):
        done = CliRunner().invoke(cli, ["export", str(run), *options], standalone_mode=False)
        assert isinstance(done.exception, RequestError)
        assert "writes into a folder" in str(done.exception)
