"""Whatever a run's records, manifest and traces hold, the page has the same elements, and shows it as text."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.analysis import Results, analyse, from_records
from bench.analysis.tables import grids
from bench.compare import compare
from bench.store.manifest import Manifest
from bench.text import without_folders
from plots.page.report_page import Content, render
from plots.page.trace_data import TraceSet

EXAMPLES = int(os.environ.get("JOULETUNE_FUZZ", "10"))
NASTY = "</script><img src=x onerror=alert(1)>\x00\x1b]0;x\x07'\"&amp;{{ 7*7 }}${x}%"
HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


class Elements(HTMLParser):
    """Tags with their attributes' names, text, and the unpacked data of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[tuple[str, ...]] = Counter()
        self.ids: Counter[str] = Counter()
        self.text = ""
        self.data: list[Any] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag, *sorted(name for name, _ in attrs)] += 1
        self.ids.update(str(value) for name, value in attrs if name == "id")
        self.text += " ".join(str(value) for _, value in attrs)
        self._open = f"{tag} {dict(attrs).get('id')}"

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open.startswith("script data-") and self._open != "script data-plotly":
            self.data.append(json.loads(gzip.decompress(base64.b64decode(data, validate=True))))
        elif not self._open.startswith(("script", "style")):
            self.text += data


def content(word: str) -> Content:
    """Two arms and two seeds, with a word in every field that holds a text."""
    lines = [
        {
            **{"cell_id": f"{word}/{arm}/s={seed}", "repeat": 0, "status": "ok" if seed else "failed", "error": word},
            **{"dataset": word, "shift": word, "level": word, "data": word, "train_size": 0.1, "n_train": 90},
            **{"blocks": arm, "seed": seed, "method": "fixed", "model": word, "bn_mode": word, "variant": word},
            **{"accuracy_before": 0.1, "accuracy_after": 0.5, "energy_gross_j": 1.5, "energy_net_j": 1.0, "grade": "A"},
            **{"source": word, "source_kind": word, "flags": [word], "train_time_s": 1.0, "target_block": word},
            **{"started_at": "2025-01-01T00:00:00+00:00", "trace": word},
        }
        for arm in (f"a {word}", f"b {word}", "full")
        for seed in range(3)
    ]
    for line in lines:
        if line["status"] == "failed":
            line |= {"accuracy_after": None, "energy_gross_j": None, "energy_net_j": None}
    read = from_records(lines, "run")
    facts = {
        "suite": {"title": word, "text": word, f"x {word}": word},
        "device": {"name": word},
        word: [word, {word: 1}],
    }
    results = Results(read.records, (Manifest.of(facts, []),), word, read.runs, damage=(word,))
    analysis = analyse(results)
    moments = dict.fromkeys(("quiet_from_s", "t0_s", "t1_s", "quiet_until_s"), 0.0)
    chunk = {
        "t": {"from": 0, "step": 1, "d": [0, 1]},
        "moments": moments,
        "source": word,
        "status": word,
        "flags": [word],
    }
    traces = TraceSet(
        entries=({"run": "run", "cell": word, "repeat": 0, "grade": word},),
        chunks=([chunk],),
        left_out=word,
        damage=(word,),
    )
    return Content(
        results=results,
        analysis=analysis,
        figures=[],
        grids=grids(results, analysis),
        traces=traces,
        comparisons=[compare(results, from_records(lines, "base"))],
        files=[(word, "tables/x.md")],
    )


PLAIN = Elements(render(content("word")))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(str.strip))
@example(NASTY)
@example("a+b")
@example("nan")
@example("=cmd|' /C calc'!A0")
@example("$\\frac{1}{0}$ {% raw %} {# x")
@example("a\u2028b\u2029c\u202ed\ufeff")
@example("x" * 5000)
@example("word\nword")
def test_texts_stay_texts(word: str) -> None:
    page = render(content(word))
    assert not HIDDEN.search(page.replace("\r\n", "\n"))
    made = Elements(page)
    assert set(made.tags) <= set(PLAIN.tags)
    assert made.tags["script",] == PLAIN.tags["script",] == 1
    assert max(made.ids.values()) == 1
    assert len(made.data) == len(PLAIN.data)
    assert not HIDDEN.search(json.dumps(made.data, ensure_ascii=False))


def test_a_surrogate_in_a_title_is_shown() -> None:
    made = content("word")
    results = Results(made.results.records, made.results.manifests, "a\udcff", made.results.runs)
    page = render(Content(**{**vars(made), "results": results}))
    assert "<h1>a\\udcff</h1>" in page
    page.encode()


@pytest.mark.parametrize("path", ["/home/ann/data/photos", "replay:/mnt/disk1/ann/trace.csv", "~/ann/x/y.pt"])
def test_folders_are_not_published(path: str) -> None:
    made = Elements(render(content(path)))
    shown = without_folders(path)
    assert "ann" not in made.text + json.dumps(made.data)
    assert shown in made.text
    assert shown in json.dumps(made.data, ensure_ascii=False)


def test_sections_of_one_title_have_anchors_of_their_own() -> None:
    made = content("word")
    twice = Content(**{**vars(made), "comparisons": [*made.comparisons, *made.comparisons]})
    assert max(Elements(render(twice)).ids.values()) == 1


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    made = content("word")
    made.analysis.cells["energy_gross_j:mean"] = np.inf
    made.analysis.cells["train_time_s:mean"] = np.nan
    assert Elements(render(made)).data  # JSON without nan or infinity
