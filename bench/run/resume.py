"""Resume: check that a run may go on in its folder, so that all its records are of one experiment on one device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import RequestError
from bench.process.messages import PrepareDone
from bench.store.difference import changes
from bench.store.manifest import Device, EnergySource, Fingerprints, Manifest, SuiteText
from bench.suite.data_axis import DataSpec
from bench.suite.suite import Suite
from bench.targets.local import LOCAL
from bench.text import first_few

_AXES = {
    "data",
    "work",
    "train_size",
    "blocks",
    "methods",
    "arms",
    "seeds",
    "axes",
    "exclude",
    "title",
    "version",
    "battery",
}
"""Keys of a suite that select its cells or name it; all others must stay equal for a run to be continued."""


def continued(old: Manifest, new: Manifest, suite: Suite, where: Path, base: Path = Path()) -> Manifest:
    """Make the manifest of a continued run: the old one, with the new suite where that only adds cells or repeats.

    Args:
        old: of the run in the folder.
        new: as the manifest would be if the run began now.
        suite: that of `new`.
        where: the run folder.
        base: folder that the suite's relative paths start from.

    Raises:
        RequestError: the suite, the torch device, the energy source, its calibration or the machine is another.
    """
    if old.suite is None or old.device is None or old.source is None:
        raise RequestError(f"{where}: its manifest is not one of this version of jouletune; {_WAY_OUT}")
    grown = old.suite.sha256 != (new.suite and new.suite.sha256)
    _refuse(
        where,
        [
            *(_suite_changes(old.suite, suite, base) if grown else []),
            *_device_changes(old, new),
        ],
    )
    profiles = [one and (one.content or {}).get("battery") for one in (old.suite, new.suite)]
    if grown or profiles[0] != profiles[1]:
        for session in old.sessions:
            session.suite = session.suite or old.suite
        old.suite, old.seeds = new.suite, new.seeds
    return old


def continued_commands(old: Manifest, new: Manifest, where: Path) -> Manifest:
    """The manifest of a run of wrapped commands that goes on: the old one, with the commands of the new one added.

    Args:
        old, new, where: as in `continued`.

    Raises:
        RequestError: it is a suite's, a name stands for another command, or device, source or machine are others.
    """
    known = old.commands
    if old.suite is not None or known is None or old.device is None or old.source is None:
        raise RequestError(f"{where}: not a run of wrapped commands; choose another --out")
    added = new.commands or {}
    _refuse(
        where,
        [
            *(f"{name} was {' '.join(known[name])}" for name in added if known.get(name, added[name]) != added[name]),
            *_device_changes(old, new),
        ],
        "choose another --name or another --out",
    )
    old.commands = known | added
    return old


def _device_changes(old: Manifest, new: Manifest) -> list[str]:
    """What of device, energy source and machine is not as it was."""
    then, now = ((one.source or EnergySource(), one.device or Device()) for one in (old, new))
    return [
        *_differs("device", old.torch_device, new.torch_device),
        *_target_changes(old.target or {"name": LOCAL}, new.target or {"name": LOCAL}),
        *_differs("energy source", then[0].name, now[0].name),
        *_differs("calibration profile", _short(then[0].profile_sha256), _short(now[0].profile_sha256)),
        *_differs("machine", then[1].machine, now[1].machine),
    ]


def _target_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What of the target is not as it was; its name alone where that differs."""
    keys = ["name"] if old.get("name") != new.get("name") else sorted({*old, *new})
    return [
        change
        for key in keys
        for change in _differs("target" if key == "name" else f"target's {key}", str(old.get(key)), str(new.get(key)))
    ]


def fingerprints(done: PrepareDone) -> Fingerprints:
    """Collect the hashes of data, weights and code from the answer of the preparing process."""
    return Fingerprints(
        model_code=done.code_sha256,
        data={label: one.data_sha256 for label, one in done.prepared.items()},
        weights={label: one.weights_sha256 for label, one in done.prepared.items()},
        methods=done.methods_sha256,
    )


def add_fingerprints(manifest: Manifest, found: Fingerprints, where: Path) -> None:
    """Compare what a run reads with what it read in former sessions, and note what is new.

    Raises:
        RequestError: data, the model's code or the source weights changed.
    """
    known = manifest.fingerprints or Fingerprints()
    changed = [
        f"{what} {'' if what.endswith('method') else 'of '}{label} changed"
        for what, old, new in (
            ("data", known.data, found.data),
            ("source weights", known.weights, found.weights),
            ("the code of method", known.methods, found.methods),
        )
        for label in new
        if old.get(label, new[label]) != new[label]
    ]
    if known.model_code is not None and found.model_code != known.model_code:
        changed.insert(0, "the code of the model changed")
    _refuse(where, changed)
    manifest.fingerprints = Fingerprints(
        model_code=known.model_code or found.model_code,
        data=known.data | found.data,
        weights=known.weights | found.weights,
        methods=known.methods | found.methods,
    )


_WAY_OUT = "choose another --out, or --fresh to set the old run aside and start anew"


def _refuse(where: Path, differences: list[str], way_out: str = _WAY_OUT) -> None:
    if differences:
        raise RequestError(f"{where} holds another run ({first_few(differences)}); {way_out}")


def _suite_changes(old: SuiteText, suite: Suite, base: Path) -> list[str]:
    """List what a changed suite changes for the cells that are there already; [] where it only adds some."""
    try:
        before = Suite.of_content(old.content or {}, base)
    except (ValueError, RequestError):
        found = changes(old.content or {}, suite.content())
        return [_listed(found)]
    then, now = (one.model_dump(mode="json", exclude=_AXES) for one in (before, suite))
    if suite.energy.repeats > before.energy.repeats:
        then["energy"]["repeats"] = now["energy"]["repeats"]
    if found := changes(then, now):
        return [_listed(found)]
    cells = {cell.cell_id: cell for cell in suite.cells()}
    lost = [cell.cell_id for cell in before.cells() if cell.cell_id not in cells]
    if lost:
        return [f"the suite lacks {len(lost)} cells of the run, e.g. {lost[0]}"]
    # an older manifest holds absolute paths, a newer one what of them may be published
    same = {
        data.label for data in suite.data for was in before.data if data == was or _published(data) == _published(was)
    }
    other = [cell.cell_id for cell in before.cells() if cell.data.label not in same]
    return [f"the suite changed what {other[0]} is"] if other else []


def _published(data: DataSpec) -> str:
    return data.model_dump_json()


def _listed(found: list[str]) -> str:
    return "the suite changed: " + ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")


def _differs(what: str, old: object, new: object) -> list[str]:
    return [] if old == new else [f"{what} was {old}, now {new}"]


def _short(sha256: str | None) -> str | None:
    return sha256 and sha256[:12]
