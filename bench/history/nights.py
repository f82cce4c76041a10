"""Collect the runs of one device in their order, and name what was left out and why. One run is one night."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.analysis.wording import count
from bench.errors import RequestError, nearest
from bench.history.folders import Folder, LeftOut, find_folders
from bench.history.index import NAME, Index, Stamp
from bench.history.summary import Summary, summarise
from bench.store.difference import changes
from bench.store.run_dir import RunDir

_IDENTITY = {
    "suite": "another suite",
    "settings": "other settings of the suite",
    "device": "another device",
    "meter": "another meter",
}

Progress = Callable[[int, int, str], None]
"""Called with how many runs are read, of how many, and the name of the next."""


@dataclass(frozen=True, slots=True)
class Night:
    """One run of the history.

    Attributes:
        name: of its folder.
        summary: of the run.
    """

    name: str
    summary: Summary

    @property
    def date(self) -> str:
        """Day on which it started, UTC."""
        return self.summary.started_at[:10]


@dataclass(frozen=True, slots=True)
class Nights:
    """The runs of a history.

    Attributes:
        nights: oldest first; at least one.
        left_out: runs and folders that are not in it.
        notes: what a reader must know of those that are, and of the index, in sentences.
        read: runs whose files were read; the others came from the index.
        home: folder that holds the runs.
    """

    nights: list[Night]
    left_out: list[LeftOut]
    notes: list[str]
    read: int
    home: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which runs make the history.

    Attributes:
        like: name or path of the run whose device, meter and suite count; None: those that most runs have.
        across: take all runs, whatever device, meter and settings they have.
        partial: also runs that have fewer repeats than their suite asks for.
        board: of the runs of fleets, those of this board alone; None: all runs.
    """

    like: str | None = None
    across: bool = False
    partial: bool = False
    board: str | None = None


def collect(given: Sequence[Path | str], index_file: Path | None, choice: Choice, progress: Progress) -> Nights:
    """Find the runs, read those that the index lacks, and keep those of one device.

    Raises:
        RequestError: a folder holds no run, no run can be used, or `like` names none of them.
    """
    folders, left_out = find_folders(given)
    if choice.board is not None:
        folders = [one for one in folders if one.path.parent.name == "boards" and one.path.name == choice.board]
    found, notes, read = _summaries(folders, index_file, left_out, progress)
    if not found:
        reasons = "; ".join(f"{lost.name}: {lost.reason}" for lost in left_out[:3])
        raise RequestError(f"{given[0]}: none of its {count(len(folders), 'run')} can be used ({reasons})")
    found.sort(key=lambda item: (item[1].summary.started_at, item[1].name))
    wanted = _liked(found, choice.like)
    whole = [(folder, night) for folder, night in found if _is_whole(night, choice.partial, left_out)]
    if choice.across:
        nights = [night for _, night in whole]
    else:
        nights = _of_one_device([night for _, night in whole], wanted, left_out)
    if not nights:
        reasons = "; ".join(f"{lost.name}: {lost.reason}" for lost in left_out[:3])
        raise RequestError(f"no run is left for a history ({reasons})")
    notes += _lost(nights)
    return Nights(nights, left_out, notes, read, folders[0].home)


def _summaries(
    folders: list[Folder], index_file: Path | None, left_out: list[LeftOut], progress: Progress
) -> tuple[list[tuple[Folder, Night]], list[str], int]:
    """Read the summaries of runs, from the index where it has them; runs that cannot be read go to `left_out`."""
    indexes: dict[Path, Index] = {}
    known: list[tuple[Folder, Index, str, Stamp | None, Summary | None]] = []
    for folder in folders:
        place = index_file.absolute() if index_file is not None else folder.home / NAME
        if place not in indexes:
            indexes[place] = Index.open(place, chosen=index_file is not None)
        index = indexes[place]
        key = Path(os.path.relpath(folder.path, place.parent.resolve())).as_posix()  # both can be moved together
        stamp = Stamp.of(RunDir(folder.path))
        known.append((folder, index, key, stamp, index.get(key, stamp)))
    missing = sum(summary is None for *_, summary in known)
    found: list[tuple[Folder, Night]] = []
    copies: dict[tuple[str, int], str] = {}
    read = 0
    for folder, index, key, stamp, kept in known:
        summary = kept
        if summary is None:
            progress(read, missing, folder.name)
            read += 1
            try:
                summary = summarise(RunDir(folder.path))
            except RequestError as error:
                left_out.append(LeftOut(folder.name, str(error)))
                continue
            if stamp is not None and stamp == Stamp.of(RunDir(folder.path)):  # else it was written to meanwhile
                index.add(key, stamp, summary)
        if stamp is not None:
            first = copies.setdefault((stamp.manifest_sha256, stamp.cells_size), folder.name)
            if first != folder.name:
                left_out.append(LeftOut(folder.name, f"a copy of {first}"))
                continue
        found.append((folder, Night(folder.name, summary)))
    if missing:
        progress(missing, missing, "")
    for index in indexes.values():
        index.tidy()
    return found, [note for index in indexes.values() for note in index.notes], read


def _liked(found: list[tuple[Folder, Night]], like: str | None) -> Night | None:
    if like is None:
        return None
    for folder, night in found:
        if like in (night.name, folder.path.name) or Path(like).resolve() == folder.path:
            return night
    raise RequestError(f"--like {like}: no such run here; {nearest(like, [night.name for _, night in found])}")


def _is_whole(night: Night, partial: bool, left_out: list[LeftOut]) -> bool:
    summary = night.summary
    figures = (value for name in ("accuracy", "joules") for value in summary.rows[name])
    if all(value is None for value in figures):
        left_out.append(LeftOut(night.name, "no repeat has a result"))
        return False
    if partial:
        return True
    if summary.wanted is not None and summary.repeats < summary.wanted:
        stopped = "" if summary.ended else ", stopped or still running"
        reason = f"unfinished: {summary.repeats} of {summary.wanted} repeats{stopped}; --partial counts it"
        left_out.append(LeftOut(night.name, reason))
        return False
    if summary.wanted is None and not summary.ended:
        left_out.append(LeftOut(night.name, "unfinished: stopped or still running; --partial counts it"))
        return False
    return True


def _of_one_device(nights: list[Night], wanted: Night | None, left_out: list[LeftOut]) -> list[Night]:
    """Select the largest group of like runs, or that of `wanted`; of two as large, the one with the newest run."""
    if not nights:
        return []
    groups: dict[str, list[Night]] = defaultdict(list)
    for night in nights:
        groups[json.dumps(night.summary.identity, sort_keys=True)].append(night)
    chosen = max(groups.values(), key=lambda group: (len(group), group[-1].summary.started_at))
    if wanted is not None:
        chosen = groups.get(json.dumps(wanted.summary.identity, sort_keys=True), [])
        if not chosen:
            raise RequestError(f"--like {wanted.name}: it is unfinished; --partial counts it")
    reference = chosen[-1].summary.identity
    for group in groups.values():
        if group is not chosen:
            reason = _differs(reference, group[-1].summary.identity)
            left_out += [LeftOut(night.name, reason) for night in group]
    return chosen


def _differs(reference: dict[str, dict[str, object]], other: dict[str, dict[str, object]]) -> str:
    for part, words in _IDENTITY.items():
        if found := changes(reference[part], other[part]):
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            return f"{words} ({found[0]}{more})"
    return "another device"


def _lost(nights: list[Night]) -> list[str]:
    """Describe what is missing in runs that count."""
    notes = []
    unusable = [night.name for night in nights if set(night.summary.grades) == {"X"}]
    if unusable:
        notes.append(f"{named(unusable)}: all joules are of grade X and left out; the accuracies count.")
    some = [night for night in nights if "X" in night.summary.grades and len(night.summary.grades) > 1]
    if some:
        n = sum(night.summary.grades["X"] for night in some)
        notes.append(f"{count(n, 'repeat')} of grade X in {named([night.name for night in some])}: joules left out.")
    notes += [f"{night.name}: {sentence}" for night in nights for sentence in night.summary.damage]
    lost = [night for night in nights if night.summary.lost]
    if lost:
        n = sum(sum(night.summary.lost.values()) for night in lost)
        notes.append(f"{count(n, 'repeat')} without a result in {named([night.name for night in lost])}.")
    return notes


def named(names: Sequence[str], limit: int = 3) -> str:
    """'a, b, c and 4 more'."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
