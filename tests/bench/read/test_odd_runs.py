"""Runs with odd content, through every command that reads runs: an error in one line or figures, never a traceback."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import bench
from bench.analysis import analyse, load
from bench.analysis.export import export, load_every_field
from bench.analysis.latex import to_latex
from bench.analysis.summary import summary_csv
from bench.analysis.tables import grids, to_markdown
from bench.analysis.terminal import terminal_table
from bench.analysis.variants import variant_grids
from bench.compare import Rules, compare, load_run, show
from bench.errors import JouletuneError
from bench.history import Choice, history
from bench.history import show as show_history
from bench.history.index import NAME
from bench.store.run_dir import RunDir
from plots.drawing import style
from plots.report import write_report

BEFORE = Path(__file__).parents[2] / "fixtures" / "before"

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**30, 2**63, -(2**63), 2**53 + 1, 0.5, -0.0, 5e-324, 1e-300, 1e30, 1e99, 1e100),
    *(1e308, -1e308, float("nan"), float("inf"), -float("inf"), "", " ", "x", "full", "fc", "block1+fc", "block_avg"),
    *("ok", "failed", "X", "A", "\ud800", "\x1b]8;;http://x\x07", "=1+1", "[/b]", "a\nb", "\0", "../../etc", "é" * 300),
    *("y" * 30_000, "2025-01-01", "2025-01-01T00:00:00+00:00", "9999-12-31T23:59:59", "paper", "random-32px", "%s{}"),
    *([], [1], ["a", "b"], [[]], {}, {"a": 1}, {"name": "idle"}, {"name": "idle", "net_j": 1e200}, [{"a": {"b": [1]}}]),
)
"""Values to put where another stood."""


def _spoiled(content: Any, rng: random.Random) -> Any:
    """A copy of parsed JSON in which one place, of any depth, is gone, another value, or doubled."""
    whole = copy.deepcopy(content)
    at, key = None, None
    place = whole
    while isinstance(place, dict | list) and len(place) and (at is None or rng.random() < 0.7):
        at, key = place, rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place = place[key]
    if at is None:
        return rng.choice(ODD)
    how = rng.random()
    if how < 0.2:
        del at[key]
    elif how < 0.3 and isinstance(at, list):
        at.append(copy.deepcopy(place))
    elif how < 0.4 and isinstance(place, int | float):
        at[key] = place * rng.choice((-1, 0, 1e6, 1e-6, 1.5))
    else:
        at[key] = copy.deepcopy(rng.choice(ODD))
    return whole


def _bytes_spoiled(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.randrange(40))
    return data[:start] + rng.randbytes(rng.randrange(20)) + data[end:]


class Fuzz:
    """Makes a run folder for each seed.

    Attributes:
        good: a run as it was written.
        folder: where the spoiled ones are made, one after the other.
    """

    def __init__(self, root: Path) -> None:
        self.good, self.folder = root / "good", root / "runs" / "spoiled"
        self.good.mkdir()
        self.manifest = json.loads((BEFORE / "new" / "manifest.json").read_text())
        lines = gzip.decompress((BEFORE / "new" / "cells.jsonl.gz").read_bytes()).decode().splitlines()
        self.lines = [line for line in map(json.loads, lines) if line["data"] == "digits-flip"]
        self.lines = [line for line in self.lines if line["train_size"] == 0.1]
        self.write(self.good, self.manifest, self.lines)

    @staticmethod
    def write(folder: Path, manifest: Any, lines: list[Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def make(self, seed: int) -> Path:
        """A run with a few odd places in its records, its manifest, or the bytes of either."""
        rng = random.Random(seed)
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        manifest, lines = self.manifest, list(self.lines)
        for _ in range(rng.randrange(1, 5)):
            if rng.random() < 0.6:
                wanted = rng.sample(range(len(lines)), rng.choice((1, 2, len(lines))))
                field, value = rng.choice(list(lines[0])), rng.choice(ODD)
                alike = rng.random() < 0.5
                for number in wanted:
                    spoiled = lines[number] | {field: value} if alike else _spoiled(lines[number], rng)
                    lines[number] = spoiled if isinstance(spoiled, dict) else lines[number]
            else:
                manifest = _spoiled(manifest, rng)
        self.write(self.folder, manifest, lines)
        if rng.random() < 0.1:
            victim = self.folder / rng.choice(("manifest.json", "cells.jsonl"))
            victim.write_bytes(_bytes_spoiled(victim.read_bytes(), rng))
        return self.folder


def _report(run: Path, _: Path) -> None:
    results = load(run, skip_damaged=True)
    analysis = analyse(results)
    Console(file=io.StringIO(), width=80).print(terminal_table(results, analysis))
    for grid in [*grids(results, analysis), *variant_grids(results)]:
        assert to_markdown(grid).replace("\n", "").isprintable()
        assert to_latex(grid).replace("\n", "").isprintable()
    summary_csv(analysis)


def _compare(run: Path, good: Path) -> None:
    for sides, rules in (((run, good), Rules()), ((good, run), Rules(basis="net", across=True))):
        comparison = compare(*map(load_run, sides), rules)
        Console(file=io.StringIO(), width=80).print(show.terminal(comparison))
        show.to_csv(comparison)
        show.to_markdown(comparison)


def _paper(run: Path, _: Path) -> None:
    compare(load_run(run), load("paper"))


def _load(run: Path, good: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left out is told so
        assert len(bench.load(run, good)) >= len(bench.load(good))


def _export(run: Path, good: Path) -> None:
    results = load_every_field(run)
    for cells in (False, True):
        assert export(results, good.parent / "out.csv", cells=cells) > 0


def _history(run: Path, _: Path) -> None:
    for _again in range(2):  # the second time from the index
        found = history([run.parent], choice=Choice(partial=True))
        Console(file=io.StringIO(), width=80).print(show_history.terminal(found))
        show_history.to_csv(found)
        show_history.to_markdown(found)


def _page(run: Path, good: Path) -> None:
    out = good.parent / "page"
    shutil.rmtree(out, ignore_errors=True)
    write_report(load(run, skip_damaged=True), RunDir(out))


CONSUMERS: dict[str, Callable[[Path, Path], None]] = {
    "report": _report, "compare": _compare, "load": _load, "export": _export, "history": _history,
}  # fmt: skip


def _try(fuzz: Fuzz, consumer: Callable[[Path, Path], None], seeds: range) -> None:
    for seed in seeds:
        run = fuzz.make(seed)
        try:
            consumer(run, fuzz.good)
        except JouletuneError as error:
            told = str(error)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        else:
            told = ""
        assert "\n" not in told
        assert len(told) < 2_000


@pytest.fixture
def fuzz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fuzz:
    monkeypatch.setattr(style, "PNG_DPI", 10)
    return Fuzz(tmp_path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("runs", [25, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", CONSUMERS)
def test_odd_runs_give_figures_or_one_line(fuzz: Fuzz, name: str, runs: int) -> None:
    _try(fuzz, CONSUMERS[name], range(runs))


def test_odd_runs_against_the_paper_and_on_a_page(fuzz: Fuzz) -> None:
    _try(fuzz, _paper, range(5))
    _try(fuzz, _page, range(3))


@pytest.mark.long
@pytest.mark.parametrize("name", CONSUMERS)
def test_ten_thousand_odd_runs(fuzz: Fuzz, name: str) -> None:
    _try(fuzz, CONSUMERS[name], range(1000, 11_000))


@pytest.mark.long
def test_many_odd_runs_against_the_paper_and_on_a_page(fuzz: Fuzz) -> None:
    _try(fuzz, _paper, range(1000, 1500))
    _try(fuzz, _page, range(1000, 1300))


@pytest.mark.parametrize("seed", range(30))
def test_an_odd_index_is_made_anew(fuzz: Fuzz, seed: int) -> None:
    rng = random.Random(seed)
    fuzz.write(fuzz.folder, fuzz.manifest, fuzz.lines)
    good = history([fuzz.folder.parent], choice=Choice(partial=True))
    index = fuzz.folder.parent / NAME
    head, line = index.read_bytes().splitlines(keepends=True)
    content = _spoiled(json.loads(line.rpartition(b"\t")[0]), rng)
    odd = [_bytes_spoiled(head + line, rng), head + json.dumps(content).encode() + b"\t" + line.rpartition(b"\t")[2]]
    for data in odd:
        index.write_bytes(data)
        found = history([fuzz.folder.parent], choice=Choice(partial=True))
        assert found.nights.nights == good.nights.nights
