"""Summarise a run for a history: reading a run costs far more than reading its summary."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from pydantic import FiniteFloat, TypeAdapter

from bench.analysis.savings import measured
from bench.analysis.wording import missing
from bench.compare.comparable import device_facts, meter_facts, suite_settings
from bench.errors import RequestError
from bench.read.results import GROUP, Results, load
from bench.store.difference import flat
from bench.store.manifest import SCHEMA, Manifest
from bench.store.run_dir import RunDir
from bench.suite.suite import Suite

KEYS = [*GROUP, "arm", "seed"]
"""A row of a summary: a condition, and the seed that draws its images."""

FIGURES = ["joules", "net_joules", "seconds", "accuracy", "n_train", "n_test"]

_HEALTH = ("idle_power_w", "temperature_before_c")
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
        damage: sentences on what of the run could not be read.
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
    damage: list[str]
    repeats: int
    wanted: int | None
    ended: bool
    rows: dict[str, list[Any]]

    def check(self) -> None:
        """Check the columns of rows, and the moment, where it was read from a file.

        Raises:
            ValueError: they are not as they should be.
        """
        datetime.fromisoformat(self.started_at)
        if self.identity.keys() != {"suite", "settings", "device", "meter"} or self.health.keys() != {*_HEALTH}:
            raise ValueError("a part of it is missing")
        for name, column in _COLUMNS.items():
            column.validate_python(self.rows.get(name), strict=True)
        if len(set(map(len, self.rows.values()))) != 1:
            raise ValueError("its columns are not equally long")


_COLUMNS: dict[str, TypeAdapter[Any]] = {
    **{name: TypeAdapter(list[str]) for name in ("data", "arm")},
    "train_size": TypeAdapter(list[float]),
    "seed": TypeAdapter(list[int]),
    **{name: TypeAdapter(list[FiniteFloat | None]) for name in FIGURES},
}


def summarise(run: RunDir) -> Summary:
    """Read one run. Records that cannot be right are left out and named.

    Raises:
        RequestError: it is corrupt, cut off, of a newer schema, or does not say what it is. The sentence does not
            name the run.
    """
    try:
        _check_whole(run)
        results = load(run, skip_damaged=True)
        return _summary(results, results.manifests[0])
    except RequestError as error:
        raise RequestError(str(error).replace(f"{run.path}/", "").removeprefix(f"{run.path}: ")) from None
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror or error})") from None


def _check_whole(run: RunDir) -> None:
    manifest = run.read_manifest([])
    if manifest is None:
        raise RequestError("manifest.json is missing, so its device is not known")
    if manifest.schema_version is not None and manifest.schema_version > SCHEMA:
        upgrade = f"this version reads {SCHEMA}; upgrade jouletune"
        raise RequestError(f"manifest.json has schema {manifest.schema_version}, {upgrade}")
    if manifest.schema_version != SCHEMA or not (
        (manifest.suite or manifest.commands) and manifest.device and manifest.source
    ):
        raise RequestError("manifest.json is not that of a run")
    if not run.cells_path.is_file():
        raise RequestError("cells.jsonl is missing: no repeat was finished")
    with run.cells_path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            raise RequestError("no finished repeat")
        file.seek(size - 1)
        if file.read(1) != b"\n":
            raise RequestError("cells.jsonl ends in the middle of a line: still being written, or cut off")


def _summary(results: Results, manifest: Manifest) -> Summary:
    records, suite = results.records, _suite(manifest)
    statuses = records["status"].value_counts()
    grades = records.loc[records["ok"], "grade"].fillna("none").value_counts()
    name = manifest.suite.name if manifest.suite else manifest.title
    device = manifest.device.to_dict() if manifest.device else {}
    return Summary(
        started_at=_first_moment([*(session.started_at for session in manifest.sessions), *records["started_at"]]),
        suite=str(name),
        title=results.title,
        identity={
            "suite": {"name": name},
            "settings": suite_settings(manifest.content if suite is None else suite.content())
            | {name: " ".join(argv) for name, argv in (manifest.commands or {}).items()},
            "device": device_facts(manifest),
            "meter": meter_facts(manifest),
        },
        environment=flat(manifest.versions)
        | {"jouletune": manifest.jouletune, "git commit": manifest.git_commit}
        | {fact: device.get(fact) for fact in _ENVIRONMENT},
        health={column: _median(records[column]) for column in _HEALTH},
        grades={str(grade): int(n) for grade, n in grades.items()},
        lost={str(status): int(n) for status, n in statuses.items() if status != "ok"},
        damage=list(results.damage),
        repeats=len(records),
        wanted=None if suite is None or suite.energy.stop else len(suite.cells()) * suite.energy.repeats,
        ended=bool(manifest.sessions) and manifest.sessions[-1].ended_at is not None,
        rows=_rows(records),
    )


def _first_moment(given: Sequence[object]) -> str:
    """The earliest of some moments (ISO 8601), to the second; what is none is passed over.

    Raises:
        RequestError: there is none.
    """
    moments = []
    for text in given:
        with contextlib.suppress(ValueError):
            moments.append(datetime.fromisoformat(str(text)).isoformat()[:19])
    if not moments:
        raise RequestError("neither manifest.json nor cells.jsonl says when it was started")
    return min(moments)


def _rows(records: pd.DataFrame) -> dict[str, list[Any]]:
    """Medians over the repeats of a condition and a seed: one odd repeat does not move them."""
    joules = measured(records)
    by_key = records[records["ok"]].groupby(KEYS, sort=False)
    table = by_key[["accuracy_after", "n_train", "n_test"]].median()
    table[["joules", "net_joules", "seconds"]] = joules.groupby(KEYS, sort=False)[
        ["energy_gross_j", "energy_net_j", "train_time_s"]
    ].median()
    table = table.rename(columns={"accuracy_after": "accuracy"}).reset_index()
    columns = {name: table[name].tolist() for name in (*KEYS, *FIGURES)}
    return {name: [_short(value) for value in column] for name, column in columns.items()}


def _short(value: Any) -> Any:
    """Round to seven digits: no figure is known better, and a year of them is read each night."""
    if isinstance(value, float):
        return None if missing(value) else float(f"{value:.7g}")
    return value


def _median(values: pd.Series) -> float | None:
    return _short(float(values.median()))  # type: ignore[no-any-return]  # a float gives a float or None


def _suite(manifest: Manifest) -> Suite | None:
    """The suite with every key that this version knows, at its default where the run's version did not know it.

    None where this version cannot read it.
    """
    try:
        return Suite.of_content(manifest.content)
    except (ValueError, RequestError):
        return None
