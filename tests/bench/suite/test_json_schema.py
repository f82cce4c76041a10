"""The published JSON schema of a suite: what the models say, what the shipped suites are, and no internal key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from bench.cli.commands import cli
from bench.suite.json_schema import schema
from bench.suite.load import SCHEMA, shipped_suites
from bench.suite.suite import Suite

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def published() -> Any:
    return json.loads((ROOT / "suites" / SCHEMA).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wrong(published: Any) -> Callable[[Any], list[str]]:
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(published)
    return lambda suite: [error.message for error in validator.iter_errors(suite)]


def test_the_file_is_what_the_models_say(published: Any) -> None:
    assert published == json.loads(json.dumps(schema())), (
        "write it anew: python -c 'import json; from bench.suite.json_schema import schema; "
        "print(json.dumps(schema(), indent=1, ensure_ascii=False))' > suites/suite.schema.json"
    )


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites_name_it_and_fit(name: str, wrong: Callable[[Any], list[str]]) -> None:
    text = shipped_suites()[name].read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA}\n")
    assert not wrong(yaml.safe_load(text))


def test_a_copy_names_the_schema_that_is_installed() -> None:
    printed = CliRunner().invoke(cli, ["ls", "quickstart"]).output
    match = re.match(r"# yaml-language-server: \$schema=(.+)\n", printed)
    assert match is not None
    assert Path(match[1]).samefile(ROOT / "suites" / SCHEMA)


def test_the_example_of_the_contract_fits(wrong: Callable[[Any], list[str]]) -> None:
    text = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
    match = re.search(r"```yaml\n(name: .*?)```", text, flags=re.S)
    assert match is not None
    assert not wrong(yaml.safe_load(match[1]))


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value.get("properties", {}) if isinstance(value.get("properties"), dict) else ()
        for one in value.values():
            yield from keys(one)
    elif isinstance(value, list):
        for one in value:
            yield from keys(one)


def test_it_has_each_key_of_a_suite_and_no_internal_one(published: Any) -> None:
    assert {*published["properties"]} == {*Suite.model_fields}
    assert not {"block_map", "axes", "label", "options", "_axes"} & {*keys(published)}
    assert published["properties"]["battery"]
    energy = published["$defs"]["EnergySpec"]["properties"]["repeats"]
    assert (energy["minimum"], energy["maximum"], energy["default"]) == (1, 1000, 5)
    assert energy["description"].startswith("executions of a cell")


@pytest.mark.parametrize(
    "change",
    [
        {"blokcs": ["fc"]},
        {"seeds": "all"},
        {"train": {"epochs": 0}},
        {"train": {"engine": "quick"}},
        {"train": {"engine": ["fast", "quick"]}},
        {"data": [{"dataset": "digit"}]},
        {"data": [{"dataset": "digits", "shfit": "flip"}]},
        {"energy": {"repeats": 0}},
        {"work": "dream"},
        {"exclude": [{"block": "fc"}]},
    ],
)
def test_what_is_wrong_is_found_while_it_is_written(
    change: dict[str, Any], valid: dict[str, Any], wrong: Callable[[Any], list[str]]
) -> None:
    assert not wrong(valid)
    assert wrong(valid | change)
