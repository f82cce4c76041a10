"""Load a Suite from YAML: look up every name, and give every error its line and the nearest valid name."""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.errors import RequestError, nearest, show
from bench.store.manifest import Manifest
from bench.suite.spec import explained
from bench.suite.suite import Suite
from bench.suite.yaml_file import YamlFile, parse_yaml, read_yaml

SCHEMA = "suite.schema.json"
"""File beside the shipped suites with their JSON schema, `bench.suite.json_schema`."""


@dataclass(frozen=True, slots=True)
class LoadedSuite:
    """A suite and the text it came from, which the manifest keeps verbatim.

    Attributes:
        base: folder that relative paths and a user's own modules start from: the file's, or for a shipped suite the
            current one.
    """

    suite: Suite
    text: str
    origin: str
    base: Path

    def with_line(self, error: RequestError) -> RequestError:
        """Give an error that begins with a key, as `model.blocks.fc: has no parameters`, the file and the key's line.

        It is for what only torch can find out, in a process that does not have the file.
        """
        key, colon, message = str(error).partition(": ")
        file = parse_yaml(self.text, self.origin)
        loc = tuple(key.split("."))
        return file.error(loc, message) if colon and loc[:2] in file.lines else error


def shipped_suites() -> dict[str, Path]:
    """Name -> file of every suite that comes with jouletune."""
    folder = Path(str(importlib.resources.files("suites")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_suite(wanted: str) -> LoadedSuite:
    """A shipped suite by name, or a user's by path.

    Raises:
        RequestError: no such suite, or anything in it that could not run; one line with file, line and key.
    """
    shipped = shipped_suites()
    if wanted in shipped:
        file = read_yaml(shipped[wanted], f"{wanted}.yaml")
        here = Path.cwd()  # a shipped suite's folder is ours: what it calls photos/ is the user's
        return LoadedSuite(_checked(file, here), file.text, wanted, here)
    path = Path(wanted)
    there = wanted != "" and os.path.lexists(path)  # Path's own raises where a name is too long for the disk
    if not there and not wanted.endswith((".yaml", ".yml")) and os.sep not in wanted:
        raise RequestError(f"no suite is called {show(wanted)} and no such file exists; {nearest(wanted, shipped)}")
    if not there:
        raise RequestError(
            f"{wanted}: no such file; give a path or a shipped suite such as quickstart (`jouletune ls`)"
        )
    file = read_yaml(path, wanted)
    return LoadedSuite(_checked(file, path.resolve().parent), file.text, wanted, path.resolve().parent)


def loaded_from_text(text: str, origin: str, base: Path) -> LoadedSuite:
    """A suite whose text came from another machine.

    Raises:
        RequestError: as `load_suite`.
    """
    file = parse_yaml(text, origin)
    return LoadedSuite(_checked(file, base), text, origin, base)


def _checked(file: YamlFile, base: Path) -> Suite:
    try:
        return Suite.model_validate(file.content, context={"base": base})
    except ValidationError as error:
        raise file.error(*explained(error, Suite)) from None


def suite_of(manifest: Manifest) -> tuple[Suite, Path]:
    """Get a run's suite and the folder that its paths start from: that of its file if it is here, else the current."""
    origin = manifest.suite.origin if manifest.suite else None
    if origin is not None:
        try:
            loaded = load_suite(origin)
        except RequestError:
            pass
        else:
            if manifest.suite and loaded.suite.digest() == manifest.suite.sha256:
                return loaded.suite, loaded.base
    return Suite.of_content(manifest.content), Path.cwd()
