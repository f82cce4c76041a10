"""Load the records of one or more runs, or of the published tables, into one frame."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bench.catalog.paper import PUBLISHED
from bench.errors import RequestError
from bench.read import published
from bench.read.baselines import Brackets
from bench.read.columns import READ, kept_apart, make_frame, row
from bench.read.damage import read_manifest, read_rows, summary_of_damage
from bench.store import benchmark_json
from bench.store.durable import printable
from bench.store.manifest import Manifest
from bench.store.run_dir import RunDir
from bench.suite.training import AXES, variant_label

GROUP = ["data", "train_size"]
"""What makes repeats comparable: the same shifted data and the same number of labelled images."""

MAX_VARIANTS = 10_000
"""Ways of training whose order in a foreign manifest is followed."""

AVERAGE = published.AVERAGE
"""Arm under which the mean of the single blocks stands."""

UNTUNED = published.UNTUNED
"""Arm, and role, under which the source model as it is stands, where no arm `none` gives its accuracy."""

NONE = "none"
"""Arm that leaves the source model as it is. It has joules only where inference is measured too."""


@dataclass(frozen=True)
class Results:
    """Records of runs, with their manifests.

    Attributes:
        records: one row per repeat with the columns of a record (accuracies are fractions, energies joules,
            not measured is nan) and more: `run` (name of its folder), `arm` (what is compared: the tuned
            blocks, or the method that chose them), `role` of the arm (single, set, full, method, average),
            `target` (the block the shift calls for, '' if unknown), `accuracy_sd` (fraction, only where a
            published table prints one), `plain` (the data without the way of training), `ok` (finished) and
            `measured` (its joules count: finished, with an energy, and not of grade X).
        manifests: one per run, in order; empty where a run has none.
        title: a heading; a user's own text.
        runs: names of the run folders.
        folders: the run folders themselves by these names, where there are any.
        damage: sentences on what was skipped because it could not be read.
        overlap: whether several runs have a data label in common: then they measured the same and each is a result
            of its own.
    """

    records: pd.DataFrame
    manifests: tuple[Manifest, ...]
    title: str
    runs: tuple[str, ...]
    folders: dict[str, RunDir] = field(default_factory=dict)
    damage: tuple[str, ...] = ()
    overlap: bool = False

    @property
    def published(self) -> bool:
        """Whether all of it comes from the published tables."""
        return set(self.runs) == {PUBLISHED}


def load(*runs: RunDir | Path | str, skip_damaged: bool = False, columns: Sequence[str] = READ) -> Results:
    """Read run folders and pytest-benchmark's JSON; the word `paper` stands for the published tables.

    A data label that several runs share is told apart by the run's name, so that only repeats of one run, which
    share a device and a meter, are ever paired.

    Args:
        skip_damaged: leave out lines, manifests and whole runs that cannot be read, and name them in `damage`, as
            long as one record is left.
        columns: fields of a record to read.

    Raises:
        RequestError: no run, a folder without a run, an unreadable or empty one.
    """
    if not runs:
        raise RequestError(f"no run given; name a run folder, or `{PUBLISHED}` for the published tables")
    read: list[_Run] = []
    damage: list[str] = []
    lost: RequestError | None = None
    for run, name in zip(runs, _names(runs), strict=True):
        try:
            with _without_collector():
                read += _read(run, name, damage if skip_damaged else None, columns)
        except RequestError as error:
            if not skip_damaged:
                raise
            lost = error
            damage.append(f"Run {name} is left out: {error}.")
    if lost is not None and not read:
        raise lost
    records, overlap = _told_apart([one.frame for one in read])
    return Results(
        records,
        tuple(one.manifest for one in read),
        " + ".join(dict.fromkeys(one.title for one in read)),
        tuple(one.name for one in read),
        {one.name: one.folder for one in read if one.folder is not None},
        tuple(damage),
        overlap,
    )


def from_records(lines: Iterable[dict[str, Any]], title: str = "results") -> Results:
    """Make results of lines at hand, e.g. of a published table.

    Raises:
        RequestError: a line with text where a number belongs.
    """
    return Results(make_frame([row(line) for line in lines], title), (Manifest(),), title, (title,))


def motivation() -> Results:
    """Load the published experiment with noise in a block of the model itself."""
    rows = [row(line) for line in published.load_motivation()]
    return Results(make_frame(rows, PUBLISHED), (Manifest(),), "Noise put into one block, as published", (PUBLISHED,))


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Switch the cyclic garbage collector off: 100,000 lines make millions of objects and no cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class _Run:
    """One run as it was read."""

    name: str
    frame: pd.DataFrame
    manifest: Manifest
    title: str
    folder: RunDir | None


def _read(run: RunDir | Path | str, name: str, damage: list[str] | None, columns: Sequence[str]) -> list[_Run]:
    """Read a run, or the several that a file of pytest-benchmark may hold."""
    if run == PUBLISHED:
        rows = [row(line, columns) for line in published.load_records()]
        return [_Run(name, make_frame(rows, name, columns), Manifest(), published.TITLE, None)]
    if not isinstance(run, RunDir) and benchmark_json.is_json(run):
        return _read_json(Path(run), name, damage, columns)
    folder = run if isinstance(run, RunDir) else RunDir.existing(run)
    notes: list[str] | None = None if damage is None else []
    manifest = read_manifest(folder, name, notes)
    rows = read_rows(folder, name, _row_maker(Brackets(manifest), columns), damage)
    if damage is not None:
        damage += notes or []
    if not rows:
        raise RequestError(f"{folder.path}: no finished repeat yet; `jouletune run` adds them")
    return [_run(name, rows, manifest, columns, folder)]


def _row_maker(brackets: Brackets, columns: Sequence[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Make a row of each line as it is read, so that no more than one is ever in memory as a whole."""

    def to_row(line: dict[str, Any]) -> tuple[Any, ...]:
        brackets.move(line)
        return row(line, columns)

    return to_row


def _run(
    name: str, rows: list[tuple[Any, ...]], manifest: Manifest, columns: Sequence[str], folder: RunDir | None
) -> _Run:
    rank = {label: number for number, label in enumerate(_data_labels(manifest))}
    ways = {label: number for number, label in enumerate(variant_labels(manifest))}
    data, variant = columns.index("data"), columns.index("variant")
    rows.sort(  # repeats run in a shuffled order
        key=lambda one: (rank.get(str(one[data]), len(rank)), ways.get(str(one[variant]), len(ways)))
    )
    return _Run(name, make_frame(rows, name, columns), manifest, manifest.title or name, folder)


def _read_json(path: Path, name: str, damage: list[str] | None, columns: Sequence[str]) -> list[_Run]:
    wrong: list[str] = []
    found = benchmark_json.read(path, wrong)
    if wrong and damage is None:
        raise RequestError(f"{path}: {wrong[0]}")
    if wrong and damage is not None:
        damage.append(summary_of_damage(name, wrong))
    return [
        _run(
            name if len(found) == 1 else f"{name} ({run})",
            [*map(_row_maker(Brackets(manifest), columns), lines)],
            manifest,
            columns,
            None,
        )
        for run, (manifest, lines) in found.items()
        if lines
    ]


def _data_labels(manifest: Manifest) -> list[str]:
    """Labels of the suite's data axis in the order its author wrote them; none where the manifest has none."""
    try:
        return [str(data["label"]) for data in manifest.content["data"]]
    except (KeyError, TypeError):
        return []


def variant_labels(manifest: Manifest) -> list[str]:
    """Every way of training that the suite spans, the first first; none where the manifest has none."""
    try:
        given = manifest.content["axes"]
        axes = {key: given[key] for key in AXES if key in given}
        points = list(itertools.islice(itertools.product(*axes.values()), MAX_VARIANTS))
    except (KeyError, TypeError, ValueError):
        return []
    return [variant_label(zip(axes, point, strict=True)) for point in points]


def _names(runs: Sequence[RunDir | Path | str]) -> list[str]:
    """Name the runs after their folders or files, each differently."""
    names: list[str] = []
    for run in runs:
        path = run.path if isinstance(run, RunDir) else Path(run)
        stem = PUBLISHED if run == PUBLISHED else printable(path.resolve().name)
        name, copy = stem, 2
        # a folder may be called like the published tables, which are something else
        while name in names or (name == PUBLISHED and run != PUBLISHED):
            name, copy = f"{stem} ({copy})", copy + 1
        names.append(name)
    return names


def _told_apart(frames: list[pd.DataFrame]) -> tuple[pd.DataFrame, bool]:
    """Join records; a data label that several runs share gets the run's name before it. Also: whether any is shared."""
    if len(frames) == 1:
        return frames[0], False
    records = pd.concat(frames, ignore_index=True)
    overlap = False
    for column in ("data", "plain"):
        shared = records.groupby(column)["run"].transform("nunique") > 1
        given = records[column].copy()
        records.loc[shared, column] = records.loc[shared, "run"] + ": " + records.loc[shared, column]
        records[column] = kept_apart(records[column], records["run"], given)
        overlap |= bool(shared.any())
    return records, overlap
