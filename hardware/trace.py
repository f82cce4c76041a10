"""Trace: the samples of one window in a file of their own."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hardware.source import Sample

COLUMNS = {"power": "power_w", "counter": "energy_j"}
"""The column of each kind of source that has samples."""


def write_trace(folder: Path, name: str, samples: Sequence[Sample], *, column: str, facts: Mapping[str, object]) -> str:
    """Write a gzipped CSV with the columns ``t_mono_s`` and ``column``; return the file's name.

    The facts stand above the header, in lines that begin with ``#``. The file appears whole or not at all, and never
    in place of another: the second one of a name gets a number. It is written when the window is over, since writing
    to a card or disk meanwhile would be a part of what is measured. A trace of powers can be played back with
    ``replay:FILE``.

    Raises:
        OSError: the folder cannot be written.
    """
    base = re.sub(r"[^\w.=+-]+", "_", name)[:180]
    folder.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([f"{base}.csv.gz"], (f"{base}~{number}.csv.gz" for number in itertools.count(2)))
    file_name = next(one for one in names if not (folder / one).exists())
    partial = folder / f".{file_name}.part"
    try:
        with gzip.open(partial, "wt", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"# {key}: {value}\n" for key, value in facts.items())
            stream.write(f"t_mono_s,{column}\n")
            stream.writelines(f"{t_s:.6f},{value:.6f}\n" for t_s, value in samples)
        partial.replace(folder / file_name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    return file_name
