"""Summary: what a history keeps of one run. Reading a run costs far more than reading its summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from bench.analysis.savings import measured
from bench.analysis.wording import missing
from bench.compare import check_ranges
from bench.compare.comparable import device_facts, meter_facts, suite_settings
from bench.errors import RequestError
from bench.read.results import GROUP, Results, load
from bench.store.difference import flat
from bench.store.manifest import SCHEMA
from bench.store.run_dir import RunDir
from bench.suite.suite import Suite

KEYS = [*GROUP, "arm", "seed"]
"""A row of a summary: a condition, and the seed that draws its images."""

FIGURES = ["joules", "net_joules", "seconds", "accuracy", "n_train", "n_test"]

_ENVIRONMENT = ("board", "cpu_model", "os", "kernel", "governor", "frequency_min_hz", "frequency_max_hz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run in short; all of it is JSON.

    Attributes:
        started_at: of its first session, UTC, ISO 8601.
        suite: its name; title: what a reader calls it.
        identity: device, meter and settings, each flat: runs that differ here are not of one history.
        environment: what else may change between two nights: versions, commit, kernel, governor.
        health: medians over the repeats: idle_power_w, temperature_before_c; None where not measured.
        grades: repeats per grade of their joules.
        lost: repeats per status other than ok.
        repeats, wanted: records there are, and how many the suite asks for (None: not known).
        ended: whether its last session came to its end.
        rows: KEYS and FIGURES, columns of equal length: medians over the repeats of a condition and a seed. joules and
            net_joules in J, seconds of training, accuracy as a fraction; None where not measured.
    """

    started_at: str
    suite: str
    title: str
    identity: dict[str, dict[str, Any]]
    environment: dict[str, Any]
    health: dict[str, float | None]
    grades: dict[str, int]
    lost: dict[str, int]
    repeats: int
    wanted: int | None
    ended: bool
    rows: dict[str, list[Any]]

    def to_dict(self) -> dict[str, Any]:
        """For a line of the index."""
        return {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Summary:
        """The inverse of `to_dict`.

        Raises:
            ValueError: the content is no summary.
        """
        if set(content) != {spec.name for spec in dataclasses.fields(cls)}:
            raise ValueError("its keys are not those of a summary")
        summary = cls(**content)
        columns = summary.rows
        if not isinstance(columns, dict) or set(columns) != {*KEYS, *FIGURES}:
            raise ValueError("its columns are not those of a summary")
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("its columns are of different length")
        return summary


def summarise(run: RunDir) -> Summary:
    """Read one run.

    Raises:
        RequestError: it is corrupt, cut off, of a newer schema, or does not say what it is. The sentence does not
            name the run.
    """
    try:
        manifest = _manifest(run)
        _check_whole(run)
        results = load(run)  # strictly: a night with a damaged line is no full night
        check_ranges(results)
        return _summary(results, manifest)
    except RequestError as error:
        # the files are named by their own names: the reader is told the folder once
        raise RequestError(str(error).replace(f"{run.path}/", "").removeprefix(f"{run.path}: ")) from None
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror or error})") from None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        # a file of someone else's may hold anything at all
        raise RequestError(f"damaged, or not a run ({type(error).__name__}: {error})") from None


def _manifest(run: RunDir) -> dict[str, Any]:
    read = run.read_manifest([])
    if read is None:
        raise RequestError("manifest.json is missing, so its device is not known")
    manifest = read.to_dict()
    schema = manifest.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RequestError(f"manifest.json has schema {schema}, this version reads {SCHEMA}; upgrade jouletune")
    if schema != SCHEMA or not all(isinstance(manifest.get(key), dict) for key in ("suite", "device", "source")):
        raise RequestError("manifest.json is not that of a run")
    return manifest


def _check_whole(run: RunDir) -> None:
    if not run.cells_path.is_file():
        raise RequestError("cells.jsonl is missing: no repeat was finished")
    with run.cells_path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            raise RequestError("no finished repeat")
        file.seek(size - 1)
        if file.read(1) != b"\n":
            raise RequestError("cells.jsonl ends in the middle of a line: still being written, or cut off")


def _summary(results: Results, manifest: dict[str, Any]) -> Summary:
    records, suite = results.records, _suite(manifest)
    content = manifest["suite"].get("content") if suite is None else suite.content()
    statuses = records["status"].value_counts()
    grades = records.loc[records["ok"], "grade"].fillna("none").value_counts()
    sessions = [session for session in manifest.get("sessions") or [] if isinstance(session, dict)]
    started = [str(session["started_at"]) for session in sessions if session.get("started_at")]
    for moment in started:
        datetime.fromisoformat(moment)  # a ValueError: someone else's manifest
    return Summary(
        started_at=min([*started, *records["started_at"].dropna()[:1]])[:19],
        suite=str(manifest["suite"].get("name")),
        title=results.title,
        identity={
            "suite": {"name": manifest["suite"].get("name")},
            "settings": suite_settings({"suite": {"content": content}}),
            "device": device_facts(manifest),
            "meter": {"name": manifest["source"].get("name")} | meter_facts(manifest),
        },
        environment=_environment(manifest),
        health={
            "idle_power_w": _median(records["idle_power_w"]),
            "temperature_before_c": _median(records["temperature_before_c"]),
        },
        grades={str(grade): int(n) for grade, n in grades.items()},
        lost={str(status): int(n) for status, n in statuses.items() if status != "ok"},
        repeats=len(records),
        wanted=None if suite is None else len(suite.cells()) * suite.energy.repeats,
        ended=bool(sessions) and all(session.get("ended_at") for session in sessions[-1:]),
        rows=_rows(records),
    )


def _rows(records: pd.DataFrame) -> dict[str, list[Any]]:
    """Medians over the repeats of a condition and a seed: one odd repeat does not move them."""
    done = records[records["ok"]]
    joules = measured(records)
    by_key = done.groupby(KEYS, sort=False)
    table = by_key[["accuracy_after", "n_train", "n_test"]].median()
    table[["joules", "net_joules", "seconds"]] = joules.groupby(KEYS, sort=False)[
        ["energy_gross_j", "energy_net_j", "train_time_s"]
    ].median()
    table = table.rename(columns={"accuracy_after": "accuracy"}).reset_index()
    columns = {name: table[name].tolist() for name in (*KEYS, *FIGURES)}
    return {name: [_short(value) for value in column] for name, column in columns.items()}


def _short(value: Any) -> Any:
    """No figure is known to more than seven digits, and a year of them is read each night."""
    if isinstance(value, float):
        return None if missing(value) else float(f"{value:.7g}")
    return value


def _environment(manifest: Mapping[str, Any]) -> dict[str, Any]:
    device = manifest["device"]
    versions = manifest.get("versions")
    return flat(versions if isinstance(versions, dict) else {}) | {
        "jouletune": manifest.get("jouletune"),
        "git commit": manifest.get("git_commit"),
        **{name: device.get(name) for name in _ENVIRONMENT},
    }


def _median(values: pd.Series) -> float | None:
    value = float(values.median())
    return None if missing(value) else value


def _suite(manifest: Mapping[str, Any]) -> Suite | None:
    """The suite with every key that this version knows, at its default where the run's version did not know it.

    None where this version cannot read it.
    """
    try:
        return Suite.of_content(manifest["suite"]["content"])
    except (KeyError, TypeError, ValueError, RequestError):
        return None
