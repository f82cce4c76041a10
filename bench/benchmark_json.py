"""pytest-benchmark's JSON as a store of records: what the plug-in adds to it, and how it is read back.

A benchmark's `extra_info` holds the figures for people and, under `records`, the lines of cells.jsonl that they come
from; `extra_info["run"]` names one of the manifests in the file's top-level key `jouletune`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import RequestError

KEY = "jouletune"
SCHEMA = 1
"""Version of what stands under KEY. 1: first."""


def section(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What goes into the file under KEY: name of a run -> its manifest."""
    return {"schema": SCHEMA, "runs": {name: dict(manifest) for name, manifest in manifests.items()}}


def is_json(path: Path | str) -> bool:
    """Whether a path given as a run means such a file."""
    return str(path).endswith(".json") and not Path(path).is_dir()


def read(path: Path) -> dict[str, tuple[dict[str, Any], list[object]]]:
    """Name of each run in the file -> its manifest and its lines, which are not yet checked.

    Raises:
        RequestError: not a file, not JSON, not pytest-benchmark's, of a newer version, or without anything of ours.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not readable as JSON ({error}); is it whole?") from None
    benchmarks = content.get("benchmarks") if isinstance(content, dict) else None
    if not isinstance(benchmarks, list):
        raise RequestError(f"{path}: not a file of pytest-benchmark (it has no list of benchmarks)")
    added = content.get(KEY)
    if not isinstance(added, dict) or not isinstance(added.get("runs"), dict):
        raise RequestError(
            f"{path}: holds times only, no joules and no accuracies; they come with `pytest --suite` or the fixture "
            "joules, and `pytest-benchmark compare` compares times"
        )
    if added.get("schema") != SCHEMA:
        raise RequestError(f"{path}: has schema {added.get('schema')}, this version reads {SCHEMA}; upgrade jouletune")
    runs: dict[str, tuple[dict[str, Any], list[object]]] = {
        str(name): (manifest if isinstance(manifest, dict) else {}, []) for name, manifest in added["runs"].items()
    }
    for benchmark in benchmarks:
        info = benchmark.get("extra_info") if isinstance(benchmark, dict) else None
        if isinstance(info, dict) and isinstance(info.get("records"), list):
            runs.setdefault(str(info.get("run")), ({}, []))[1].extend(info["records"])
    found = {name: run for name, run in runs.items() if run[1]}
    if not found:
        raise RequestError(f"{path}: no finished cell and no measured function in it")
    return found
