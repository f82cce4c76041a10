"""CI: verdicts as JUnit's XML, which CI servers show as tests, and as the annotations of GitHub's workflows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

from bench.text import shown

Outcome = Literal["passed", "failed", "skipped", "worse", "better"]
"""failed: beyond the limit that was asked for. worse, better: proven, without failing. skipped: not known."""

_LEVELS = {"failed": "error", "worse": "warning", "better": "notice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One verdict.

    Attributes:
        group: what it belongs to, e.g. the measure.
        name: the condition.
        outcome: see Outcome.
        text: figures and reason, one line.
    """

    group: str
    name: str
    outcome: Outcome
    text: str


def junit(name: str, cases: Sequence[Case]) -> str:
    """The verdicts as a test suite in JUnit's XML."""
    failed, skipped = (sum(case.outcome == word for case in cases) for word in ("failed", "skipped"))
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": shown(name), **counts})
    for case in cases:
        test = ET.SubElement(suite, "testcase", {"classname": shown(case.group), "name": shown(case.name)})
        if case.outcome == "failed":
            ET.SubElement(test, "failure", {"message": shown(case.text)}).text = shown(case.text)
        elif case.outcome == "skipped":
            ET.SubElement(test, "skipped", {"message": shown(case.text)})
        else:
            ET.SubElement(test, "system-out").text = shown(case.text)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def github(cases: Iterable[Case]) -> list[str]:
    """The verdicts that say a change, as workflow commands of GitHub's, a line each."""
    return [
        f"::{_LEVELS[case.outcome]} title={_property(f'{case.group}: {case.name}')}::{_data(case.text)}"
        for case in cases
        if case.outcome in _LEVELS
    ]


def _data(text: str) -> str:
    return shown(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
