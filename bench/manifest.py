"""The manifest of a run: what was run, with which versions, on what, measured by what; and whether a run may go on."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import hardware
from bench import __version__
from bench.difference import changes
from bench.errors import RequestError
from bench.suite_file import LoadedSuite
from hardware import device as device_facts

SCHEMA = 1
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow", "codecarbon", "zeus")


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def make_manifest(loaded: LoadedSuite, choice: hardware.Choice, *, torch_device: str) -> dict[str, Any]:
    """Everything that must stay the same while a run goes on."""
    suite = loaded.suite
    return surroundings(choice, torch_device=torch_device) | {
        "suite": {
            "name": suite.name,
            "title": suite.title,
            "version": suite.version,
            "origin": loaded.origin,
            "sha256": suite.digest(),
            "text": loaded.text,
            "content": suite.model_dump(mode="json"),
        },
        "seeds": list(suite.seeds),
    }


def surroundings(choice: hardware.Choice, *, torch_device: str) -> dict[str, Any]:
    """What joules depend on besides what is run: versions, machine, torch device, energy source. No session yet."""
    return {
        "schema": SCHEMA,
        "jouletune": __version__,
        "git_commit": _git_commit(),
        "created_at": now(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "device": dataclasses.asdict(device_facts.facts()),
        "torch_device": torch_device,
        "source": {**choice.source.info.to_dict(), "why": choice.why},
        "sessions": [],
    }


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], where: Path) -> None:
    """Refuse to go on in a folder whose records would not be comparable with the new ones.

    Raises:
        RequestError: the suite, the torch device, the energy source or the machine is another.
    """
    way_out = "choose another --out, or --fresh to set the old run aside and start anew"
    try:
        differences = [
            *_changed_keys(old["suite"], new["suite"]),
            *_differs("device", old["torch_device"], new["torch_device"]),
            *_differs("energy source", old["source"]["name"], new["source"]["name"]),
            *_differs("calibration profile", _profile(old), _profile(new)),
            *_differs("machine", machine(old), machine(new)),
        ]
    except (KeyError, TypeError):
        raise RequestError(f"{where}: its manifest is not one of this version of jouletune; {way_out}") from None
    if differences:
        raise RequestError(f"{where} holds another run ({'; '.join(differences)}); {way_out}")


def machine(manifest: Mapping[str, Any]) -> str:
    """What must be the same for joules to be comparable."""
    facts = manifest["device"]
    return ", ".join(str(facts[key]) for key in ("board", "cpu_model", "logical_cores", "memory_bytes"))


def _profile(manifest: Mapping[str, Any]) -> str | None:
    """Hash of the calibration that scales the source; a run must not change its scale half-way."""
    profile = manifest["source"]["params"].get("profile") or {}
    return str(profile["sha256"])[:12] if "sha256" in profile else None


def _differs(what: str, old: object, new: object) -> list[str]:
    return [] if old == new else [f"{what} was {old}, now {new}"]


def _changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    if old["sha256"] == new["sha256"]:
        return []
    found = changes(old["content"], new["content"])
    return ["the suite changed: " + ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the checkout that this code runs from; None for an installed wheel."""
    checkout = Path(__file__).resolve().parent.parent
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
