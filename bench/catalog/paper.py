"""The published tables: their folder, and the name that means them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from bench.errors import JouletuneError

PUBLISHED = "paper"
"""Means the published tables wherever a command takes a run."""


def reference_dir() -> Path:
    """Folder of the published tables: in a checkout results/reference, else where the wheel put them."""
    root = Path(__file__).resolve().parents[2]
    # `pip install --target` moves share/ beside the packages and leaves the wheel's list of files as it was
    for folder in (root / "results" / "reference", root / "share" / "jouletune" / "reference"):
        if folder.is_dir():
            return folder
    for file in metadata.files("jouletune") or []:
        if file.name == "tbft_accuracy.csv":
            return Path(str(file.locate())).resolve().parent
    raise JouletuneError("the published tables are missing from this installation; reinstall jouletune")
