"""Verify: check a run's records, traces, code, data and weights against the hashes that were taken while it ran."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.process.launcher import Launcher
from bench.process.messages import PrepareDone, PrepareJob
from bench.process.prepare import prepare
from bench.run.health import Finding
from bench.run.resume import fingerprints
from bench.store.manifest import Fingerprints, Manifest
from bench.store.run_dir import MAX_TRACE_BYTES, RunDir
from bench.suite.load import suite_of
from bench.text import first_few
from hardware.files import read_bytes


def check(folder: RunDir, log: Path) -> Iterator[Finding]:
    """Yield each check as it is made.

    Source data, weights and the model's code are prepared again as for a run, which takes as long where they are not in
    the cache.

    Args:
        log: file for what the preparing process prints.

    Raises:
        RequestError: the records cannot be read at all.
    """
    wrong: list[str] = []
    try:
        manifest = folder.read_manifest(wrong)
    except RequestError as error:
        manifest, wrong = None, [str(error)]
    missing = "it is missing" if manifest is None and not wrong else ""
    yield Finding("manifest", not (wrong or missing), missing or first_few(wrong) or "whole")
    manifest = manifest or Manifest()
    damage: list[str] = []
    records = folder.records(damage)
    yield Finding("records", not damage, first_few(damage) if damage else f"{len(records)} repeats, all whole")
    yield _prefix(folder, manifest)
    yield _traces(folder, manifest, records)
    if kept := {str(record["model_file"]): record for record in records if record.get("model_file")}:
        yield _models(folder, kept)
    yield from _inputs(manifest, log)


def _prefix(folder: RunDir, manifest: Manifest) -> Finding:
    """Check that the records at the end of each session are unchanged: lines are appended only."""
    ends = [session.records for session in manifest.sessions if session.records is not None]
    if not ends:
        return Finding("record hashes", None, "no session noted one")
    changed = [f"the first {end.size:,} bytes of cells.jsonl" for end in ends if folder.records_end(end.size) != end]
    return Finding(
        "record hashes",
        not changed,
        f"{first_few(changed)} changed since"
        if changed
        else f"as at the end of {len(ends)} session{'s' * (len(ends) > 1)}",
    )


def _traces(folder: RunDir, manifest: Manifest, records: list[dict[str, Any]]) -> Finding:
    known = {record["trace"]: record.get("trace_sha256") for record in records if record.get("trace")}
    known |= {name: sha256 for session in manifest.sessions for name, sha256 in session.traces.items()}
    if not known:
        return Finding("traces", None, "the run has none")
    wrong = []
    for name, sha256 in known.items():
        try:
            if Path(name).name != name:
                raise OSError(0, "it is a path and not the name of a file")
            content = read_bytes(folder.traces_dir / name, limit=MAX_TRACE_BYTES, root=folder.path)
        except OSError as error:
            wrong.append(f"{name}: {error.strerror}")
            continue
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            wrong.append(f"{name} changed")
    hashed = sum(sha256 is not None for sha256 in known.values())
    there = f"{len(known)} there, {hashed} of them with a hash that fits"
    return Finding("traces", not wrong, f"{len(wrong)} of {len(known)}: {first_few(wrong)}" if wrong else there)


def _models(folder: RunDir, kept: dict[str, dict[str, Any]]) -> Finding:
    """Compare the hashes of kept models."""
    changed = [name for name, record in kept.items() if folder.model_sha256(name) != record.get("model_sha256")]
    return Finding("models", not changed, f"changed: {first_few(changed)}" if changed else f"{len(kept)} as they were")


def _inputs(manifest: Manifest, log: Path) -> Iterator[Finding]:
    """Compare code, data and weights here with the hashes of the run."""
    then = manifest.fingerprints
    names = ("code", "data", "weights")
    if then is None:
        yield from (Finding(name, None, "the run noted no hash of it") for name in names)
        return
    try:
        now = fingerprints(_prepared(manifest, log))
    except (JouletuneError, ValueError) as error:
        yield from (Finding(name, None, f"cannot be prepared here: {error}") for name in names)
        return
    code_now = now.model_code if then.model_code is not None else None
    kind = "the model's file" if then.model_code is not None else "the model is one of the catalogue"
    yield Finding("code", then.model_code == code_now, kind if then.model_code == code_now else f"{kind} changed")
    checked = [("data", then.data, now.data), ("weights", then.weights, now.weights)]
    if then.methods:
        checked.append(("methods", then.methods, now.methods))
    for name, old, new in checked:
        changed = [f"{label} changed" for label in old if new.get(label) != old[label]]
        yield Finding(name, not changed, first_few(changed) if changed else f"{len(old)} as they were")


def _prepared(manifest: Manifest, log: Path) -> PrepareDone:
    suite, base = suite_of(manifest)
    known = (manifest.fingerprints or Fingerprints()).data
    data = tuple(point for point in suite.data if point.label in known)
    child = Launcher(log).start(prepare, PrepareJob(suite, data, base, "cpu"))
    try:
        return child.receive(PrepareDone)
    except CellFailedError as error:
        raise JouletuneError(str(error)) from None
    finally:
        child.close()
