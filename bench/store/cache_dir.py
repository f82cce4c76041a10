"""The user's cache folder. Everything in it can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import RequestError


def cache_dir() -> Path:
    """JOULETUNE_CACHE, else the user's cache folder.

    Raises:
        RequestError: the user has no home folder.
    """
    given = os.environ.get("JOULETUNE_CACHE")
    try:
        if given:
            return Path(given).expanduser().resolve()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jouletune"
    except RuntimeError:
        raise RequestError("no home folder is known for prepared data; set HOME, or JOULETUNE_CACHE") from None
