"""The user's cache folder. Everything in it can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """JOULETUNE_CACHE, else the user's cache folder.

    Raises:
        RuntimeError: there is no home folder.
    """
    given = os.environ.get("JOULETUNE_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jouletune"
