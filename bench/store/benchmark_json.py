"""Write records into pytest-benchmark's JSON, and read them back.

A benchmark's `extra_info` holds the figures for people and, under `records`, the lines of cells.jsonl that they come
from; `extra_info["run"]` names one of the manifests in the file's top-level key `jouletune`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import RequestError
from bench.store.durable import read_json
from bench.store.manifest import Manifest
from bench.store.record import fault, foreign

KEY = "jouletune"
MAX_BYTES = 100_000_000
SCHEMA = 1
"""Version of what stands under KEY. 1: first."""


def section(manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Make the content of KEY: schema, and the manifest of each run by its name."""
    return {"schema": SCHEMA, "runs": {name: manifest.to_dict() for name, manifest in manifests.items()}}


def is_json(path: Path | str) -> bool:
    """Whether a path given as a run names such a file."""
    return str(path).endswith(".json") and not Path(path).is_dir()


def read(path: Path, wrong: list[str]) -> dict[str, tuple[Manifest, list[dict[str, Any]]]]:
    """Name of each run in the file -> its manifest and its lines, one for each repeat.

    Args:
        wrong: what is wrong with a line is added here, and the line is skipped.

    Raises:
        RequestError: not a file, not JSON, not pytest-benchmark's, of a newer version, or without anything of ours.
    """
    try:
        content = read_json(path, limit=MAX_BYTES)
    except FileNotFoundError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except RequestError as error:
        raise RequestError(f"{error}; is it whole?") from None
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
    manifests = {
        str(name): Manifest.of(content, wrong) for name, content in added["runs"].items() if isinstance(content, dict)
    }
    lines: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for number, benchmark in enumerate(benchmarks):
        info = benchmark.get("extra_info") if isinstance(benchmark, dict) else None
        records = info.get("records", []) if isinstance(info, dict) else None
        if not isinstance(info, dict) or not isinstance(records, list):
            wrong.append(f"benchmark {number} is not one of pytest-benchmark's")
            continue
        for record in records:
            if problem := foreign(record):
                wrong.append(f"benchmark {number} holds something that {problem}")
            elif problem := fault(record):
                wrong.append(f"{str(record['cell_id'])[:80]} has {problem}")
            else:
                lines.setdefault(str(info.get("run")), {})[record["cell_id"], record["repeat"]] = record
    if not lines:
        reason = f" ({wrong[0]})" if wrong else ""
        raise RequestError(f"{path}: no finished cell and no measured function in it{reason}")
    # a comparison goes by the settings of the first: a suite has more of them than a function of one's own
    order = sorted(lines, key=lambda name: manifests.get(name, Manifest()).suite is None)
    return {name: (manifests.get(name, Manifest()), [*lines[name].values()]) for name in order}
