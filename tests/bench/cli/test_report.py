"""The report page and the files beside it."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.analysis import from_records, load
from bench.cli.commands import cli
from bench.errors import JouletuneError, RequestError
from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir
from plots.drawing import panels, style
from plots.report import ReportPaths, write_report

ACCURACY = {"block1": 0.2, "block3": 0.6, "fc": 0.9, "full": 0.95}
VOID = {"meta", "br", "link", "img", "input", "hr"}
NASTY = '<script>alert("1")</script> & $HOME ${css} %'


def lines(seeds: int = 2, blocks: tuple[str, ...] = tuple(ACCURACY), **more: Any) -> list[dict[str, Any]]:
    data = more.get("data", "digits-flip")
    return [
        json.loads(
            Record(
                **{
                    "cell_id": f"{data}/n=0.1/{block}/s={seed}",
                    "repeat": 0,
                    "status": "ok",
                    "dataset": "digits",
                    "shift": "flip",
                    "level": "output",
                    "data": data,
                    "train_size": 0.1,
                    "blocks": block,
                    "seed": seed,
                    "method": "fixed",
                    "model": "resnet8",
                    "bn_mode": "train",
                    "started_at": "2025-01-01T00:00:00+00:00",
                    "accuracy_after": ACCURACY[block],
                    "energy_gross_j": 10 + 100 * ACCURACY[block],
                    "source": "meter",
                    "source_kind": "power",
                    "grade": "A",
                }
                | more
            ).to_json()
        )
        for block in blocks
        for seed in range(seeds)
    ]


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels take most of the time, and no test here looks at them."""
    monkeypatch.setattr(style, "PNG_DPI", 30)


class Page(HTMLParser):
    """Checks that tags nest, and keeps ids, links and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.text = ""
        self.headings: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        given = dict(attrs)
        if given.get("id"):
            self.ids[str(given["id"])] += 1
        self.links += [str(value) for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag == "svg":
            assert given["role"] == "img"
            assert given["aria-label"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def report(folder: Path, records: list[dict[str, Any]], title: str = "A run") -> tuple[ReportPaths, Page]:
    paths = write_report(from_records(records, title), RunDir(folder))
    return paths, Page(paths.html.read_text(encoding="utf-8"))


def test_report_of_a_run(tmp_path: Path) -> None:
    paths, page = report(tmp_path, lines())
    assert all(path.stat().st_size > 0 for path in (paths.html, paths.summary, *paths.figures, *paths.tables))
    assert [path.name for path in paths.figures if path.suffix == ".png"] == [
        "accuracy.png", "energy_saving.png", "pareto.png",
    ]  # fmt: skip
    assert (page.tags["h1"], page.tags["main"], page.tags["svg"], page.tags["figure"]) == (1, 1, 3, 3)
    assert "What to tune" in page.text
    assert page.headings == ["Summary", "Figures", "Tables", "Cells", "Power traces", "Quality", "Facts and files"]
    assert page.text.index("What to tune") < page.text.index("As files: ")
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_page_stands_alone(tmp_path: Path) -> None:
    _, page = report(tmp_path, lines())
    assert page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    for link in page.links:
        if link.startswith("#"):
            assert page.ids[link[1:]] == 1  # a section, or an SVG's own parts
        else:
            assert (tmp_path / link).is_file()
    assert max(page.ids.values()) == 1


def test_colours_follow_the_page(tmp_path: Path) -> None:
    paths, _ = report(tmp_path, lines())
    text = paths.html.read_text(encoding="utf-8")
    assert "prefers-color-scheme:dark" in text
    svg = text[text.index("<svg") : text.index("</svg>")]
    assert "var(--ink)" in svg
    assert not re.search("#1b1f24|#ffffff", svg)
    assert "#ffffff" in paths.figures[1].read_text(encoding="utf-8")  # the file beside it has a ground of its own


def test_every_user_text_is_escaped(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    records = lines(data=NASTY, flags=(NASTY,))
    records[0] |= {"status": "failed", "error": NASTY, "accuracy_after": None, "energy_gross_j": None}
    run.cells_path.write_text("".join(json.dumps(entry) + "\n" for entry in records), encoding="utf-8")
    content = {"suite": {"title": NASTY, "text": f"title: {NASTY}", NASTY: NASTY}, "device": {"name": NASTY}}
    run.write_manifest(Manifest.of(content | {NASTY: [NASTY]}, []))
    paths = write_report(load(run), run)
    page = Page(paths.html.read_text(encoding="utf-8"))
    _, ours = report(tmp_path / "clean", lines())
    assert page.tags["script"] == ours.tags["script"]
    assert page.text.count(NASTY) >= 8
    assert max(page.ids.values()) == 1


def test_report_of_the_paper(tmp_path: Path) -> None:
    paths = write_report(load("paper"), RunDir(tmp_path))
    page = Page(paths.html.read_text(encoding="utf-8"))
    assert "15.31 points more accurate" in page.text
    assert "41.57 %" in page.text
    assert "noise-in-block1" in page.text
    assert "No figure of accuracy against energy" in page.text
    assert {path.stem for path in paths.tables} == {"accuracy", "energy", "energy_saving", "motivation"}
    assert "n=1" not in page.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seeds": 1}, "(one seed, no interval)"),
        ({"blocks": ("fc",)}, "nothing to compare"),
        ({"energy_gross_j": None, "source": None, "source_kind": None, "grade": None}, "No energy measured"),
        (
            {"status": "failed", "accuracy_after": None, "energy_gross_j": None, "error": "out of memory"},
            "out of memory",
        ),
        ({"source": "simulated", "flags": ("simulated",)}, "Joules come from a simulated source"),
        ({"source_kind": "estimate", "grade": "C"}, "model's estimate"),
        ({"grade": "X"}, "grade X, joules left out"),
    ],
)
def test_reports_that_lack_something(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    _, page = report(tmp_path, lines(**more))
    assert said in page.text
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", page.text.lower())


def test_a_second_report_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    many = [entry for n in range(panels.PER_PAGE + 1) for entry in lines(1, data=f"d{n}")]
    report(tmp_path, many)
    assert (tmp_path / "figures" / "accuracy-2.svg").exists()
    (tmp_path / "figures" / "mine.png").write_text("kept")
    report(tmp_path, lines(energy_gross_j=None, source=None, source_kind=None, grade=None))
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "accuracy.png",
        "accuracy.svg",
        "mine.png",
    }
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"accuracy.md", "accuracy.tex"}


def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    run, out = RunDir(tmp_path / "run"), tmp_path / "paper"
    run.path.mkdir()
    run.cells_path.write_text("".join(json.dumps(entry) + "\n" for entry in lines()), encoding="utf-8")
    mine = {"tables/energy_budget.tex": "a", "tables/shares.md": "b", "figures/pareto-2.png": "c", "summary.csv": "d"}
    for name, content in mine.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content)
    command = ["report", str(run.path), "--out", str(out)]
    error = CliRunner().invoke(cli, command).exception
    assert isinstance(error, RequestError)  # exit status 2, and one line
    assert "summary.csv: no report wrote this file" in str(error)
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(mine)
    (out / "summary.csv").unlink()
    for _ in range(2):
        assert CliRunner().invoke(cli, command).exit_code == 0
    kept = {name: (out / name).read_text() for name in mine if name != "summary.csv"}
    assert kept == {name: content for name, content in mine.items() if name != "summary.csv"}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file where a folder should be")
    with pytest.raises(JouletuneError, match="cannot write"):
        report(tmp_path, lines())
