"""Collect the facts that joules depend on besides the suite: versions, machine, torch device, energy source."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import hardware
from bench import __version__
from bench.store.manifest import SCHEMA, Device, EnergySource, Manifest, SuiteText, part
from bench.suite.load import LoadedSuite
from bench.targets.local import LOCAL
from bench.targets.target import Target
from bench.targets.wire import versions
from bench.text import without_folders
from hardware.device import machine as device_facts


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def make_manifest(
    loaded: LoadedSuite, choice: hardware.Choice, *, torch_device: str, target: Target | None = None
) -> Manifest:
    """Make the manifest of a new run, without a session.

    Args:
        target: where its cells run; None: on this machine.

    Raises:
        RequestError: the target is not there, or cannot do what the suite asks for.
    """
    suite = loaded.suite
    manifest = surroundings(choice, torch_device=torch_device)
    if target is not None and target.name != LOCAL:
        manifest.target = {"name": target.name} | target.check(suite)
        if target.facts is not None:
            manifest.device = part(Device, target.facts)
        manifest.versions = target.versions or manifest.versions
    manifest.suite = SuiteText(
        name=suite.name,
        title=suite.title,
        version=suite.version,
        origin=without_folders(loaded.origin),
        sha256=suite.digest(),
        text=without_folders(loaded.text),
        content=suite.content(),
    )
    manifest.seeds = list(suite.seeds)
    return manifest


def surroundings(choice: hardware.Choice, *, torch_device: str) -> Manifest:
    """Make a manifest of versions, machine, torch device and energy source, without a suite."""
    return Manifest(
        schema=SCHEMA,
        jouletune=__version__,
        git_commit=_git_commit(),
        created_at=now(),
        versions={"python": platform.python_version(), **versions()},
        device=part(Device, device_facts.facts()),
        torch_device=torch_device,
        source=part(EnergySource, {**choice.source.info.to_dict(), "why": choice.why}),
    )


def _git_commit() -> str | None:
    """Commit of the checkout that this code runs from; None for an installed wheel."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
