"""What the documents say of the program is true of it."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from bench.catalog.datasets import DATASETS, SHIFT_LEVELS
from bench.cli.commands import cli
from bench.store.record import Record
from bench.suite.load import load_suite, shipped_suites
from bench.suite.suite import EnergySpec, SplitSpec
from bench.suite.training import TuneSpec

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def fences(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_suites_in_the_documents_are_valid(page: str, tmp_path: Path) -> None:
    for text in fences(page, "yaml"):
        if "name:" in text and "train_size:" in text:
            (tmp_path / "suite.yaml").write_text(text)
            assert load_suite(str(tmp_path / "suite.yaml")).suite.cells()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_command_and_suite_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for command in re.findall(r"(?:^|`)jouletune (\w[\w-]*)", text, flags=re.M):
        assert command in cli.commands, command
    for suite in re.findall(r"jouletune run (\w[\w-]*)(?![\w.-])", text):
        assert suite in shipped_suites() or f"{suite}.yaml" in text, suite


def test_the_contract_lists_every_field_of_a_record_with_its_unit() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", (ROOT / "docs/contracts.md").read_text(), flags=re.M)
    listed = [row for row in rows if row[0] in {spec.name for spec in dataclasses.fields(Record)}]
    wanted = [(spec.name, spec.metadata["unit"], spec.metadata["doc"]) for spec in dataclasses.fields(Record)]
    expected = "\n".join(f"| `{name}` | {unit} | {doc} |" for name, unit, doc in wanted)
    assert [(name, unit.strip(), doc) for name, unit, doc in listed] == wanted, f"expected these rows:\n{expected}"


def test_the_defaults_that_the_contract_states_are_the_defaults() -> None:
    stated = yaml.safe_load(fences("docs/contracts.md", "yaml")[0])
    stated["train"].pop("per_block")
    assert TuneSpec(**stated["train"]) == TuneSpec()
    assert EnergySpec(**stated["energy"]) == EnergySpec()
    assert SplitSpec(**stated["split"]) == SplitSpec()


def test_the_contract_names_every_command_option_dataset_and_shift() -> None:
    text = (ROOT / "docs/contracts.md").read_text()
    for name, command in cli.commands.items():
        assert f"`jouletune {name}" in text
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert parameter.opts[0] in text, f"{name} {parameter.opts[0]}"
    for name in [*DATASETS, *SHIFT_LEVELS]:
        assert f"`{name}`" in text


def test_the_nightly_recipe_pins_what_it_runs() -> None:
    workflow = (ROOT / "docs" / "nightly-energy.yml").read_text()
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", used) for used in re.findall(r"uses: (\S+)", workflow))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"jouletune=={project['version']}" in workflow
    lock = (ROOT / "docs" / "nightly-lock.txt").read_text()
    locked = {Requirement(line).name: line for line in re.findall(r"^(\w\S+==\S+)", lock, flags=re.M)}
    for wanted in map(Requirement, project["dependencies"]):
        name = wanted.name.lower().replace("_", "-")
        assert wanted.specifier.contains(locked[name].partition("==")[2]), name
    assert lock.count("--hash=sha256:") >= len(locked)
