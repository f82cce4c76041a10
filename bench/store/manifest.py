"""The manifest of a run: what was run, with which versions, on what, measured by what; and whether a run may go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import RequestError
from bench.store.difference import changes

SCHEMA = 1


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
