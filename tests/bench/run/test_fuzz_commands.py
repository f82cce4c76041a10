"""Files of runs damaged by own mutators, on bytes and on JSON: each command uses what it can, or ends with a line.

A second driver beside the one by hypothesis (test_fuzz.py). It is deterministic: `pytest -l` names the mutator of
a failure, which makes the same inputs again. By default a few inputs of each kind meet each consumer, with the
marker `long` 10,000.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import random
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

import bench
from bench.cli.commands import cli
from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.history import index as indexing
from bench.process.launcher import Launcher
from bench.run import health
from bench.run.runner import RunOptions, run_suite
from bench.store.manifest import Manifest
from bench.store.record import FIELDS, Record
from bench.store.run_dir import RunDir
from bench.suite.load import LoadedSuite
from hardware.measure.idle import IdleBaseline
from hardware.measure.trace import write_trace
from plots import report
from plots.drawing import style

FIGURES = report.FIGURES
FEW, MANY = 25, 10_000
LIMIT_S, HANG_S = 10, 60
"""Processor time and time that one command may take, whatever it reads."""

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30), 10**400),
    *(0.0, -0.0, 1e-320, 5e-324, 1e15, 1e99, 1e100, 1e300, 1.7976931348623157e308, -1e308),
    *(float("nan"), float("inf"), -float("inf")),
    *("", " ", "ok", "full", "fc", "paper", "Block Avg", "block1+block1", "NaN", "1e999", "0", "-", "%s%n", "|"),
    *("\x00", "\x1b[2J\x1b]0;t\x07", "\u202e", "\u2028", "\ud800", "\udcff\udc80", "\ufeff", "e\u0301", "=1+1"),
    *("[/b][red]", "{{7*7}}", "<script>alert(1)</script>", "../../etc/passwd", "/etc/passwd", "\\input{/etc/passwd}"),
    *("a" * 300, "x" * 30_000, "9" * 5000, "2026-13-99", "2026-01-01T00:00:00", "a\tb\nc\rd", "$x_1^2$"),
    *("__proto__", "constructor"),
    *([], {}, [[]], [None], [1, "a"], {"a": None}, {"": {}}, ["\ud800"], {"\ud800": 1}, list(range(300))),
)
"""Values that have broken readers of JSON, of numbers and of tables."""

TOKENS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"1e-9999", b"0x10", b"1_000", b"null", b"true"),
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"//", b"/*", b"'"),
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc0\x80", b"\r\n", b"\n", b"\n\n", b"\t", b"\x0b"),
    *(b"\x1b[31m", b"\xe2\x80\xa8", b'"cell_id":"x",', b'"repeat":1,', b"9" * 400, b"[" * 2000, b'{"a":' * 500),
)


class Mutator:
    """Changes made by chance; the same number makes the same ones."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.random = random.Random(number)

    def __repr__(self) -> str:
        return f"Mutator({self.number})"

    def json(self, content: Any) -> bytes:
        """JSON with some of its values changed, its text changed, or both."""
        chance = self.random.random()
        if chance < 0.6:
            for _ in range(self.random.randint(1, 4)):
                content = self.value(copy.deepcopy(content))
        text = self._dumped(content)
        return text if chance < 0.5 else self.bytes(text)

    def _dumped(self, content: Any) -> bytes:
        spaced = {"separators": (",", ":")} if self.random.random() < 0.5 else {}
        text = json.dumps(content, ensure_ascii=self.random.random() < 0.8, **spaced)  # type: ignore[arg-type]
        return text.encode("utf-8", "surrogatepass")

    def value(self, content: Any) -> Any:
        """The same with one value, at any depth, replaced, moved, dropped, scaled, wrapped or doubled."""
        places = [*_places(content)]
        if not places:
            return self.random.choice(ODD)
        holder, key = self.random.choice(places)
        old = holder[key]
        action = self.random.randrange(9)
        if action <= 2:
            holder[key] = copy.deepcopy(self.random.choice(ODD))
        elif action == 3:
            del holder[key]
        elif action == 4:
            other, name = self.random.choice(places)
            holder[key] = copy.deepcopy(other[name])
        elif action == 5 and isinstance(old, (int, float)) and abs(old) < 1e100:
            holder[key] = self.random.choice([-old, old * 1e9, old / 1e9, old + 0.5, str(old), [old], bool(old)])
        elif action == 6:
            holder[key] = self.random.choice([[old], {"value": old}, [old, old], str(old)])
        elif action == 7 and isinstance(old, str):
            spot = self.random.randint(0, len(old))
            odd = self.random.choice([one for one in ODD if isinstance(one, str)])
            holder[key] = old[:spot] + odd + old[spot:]
        elif isinstance(holder, dict):
            holder[self.random.choice([f"{key}2", key.upper(), f" {key}", "", "\ud800"])] = old
        else:
            holder.extend([old] * self.random.choice([1, 2, 500]))
        return content

    def bytes(self, text: bytes) -> bytes:
        """The same with some bytes flipped, cut, doubled, moved, replaced by odd ones, or in another encoding."""
        for _ in range(self.random.choice([1, 1, 1, 2, 5, 20])):
            spot = self.random.randint(0, len(text))
            end = min(len(text), spot + self.random.choice([1, 1, 2, 8, 100, 5000]))
            action = self.random.randrange(8)
            if action == 0 and spot < len(text):
                text = text[:spot] + bytes([text[spot] ^ 1 << self.random.randrange(8)]) + text[spot + 1 :]
            elif action == 1:
                text = text[:spot] + text[end:]
            elif action == 2:
                text = text[:end] + text[spot:]
            elif action == 3:
                text = text[:spot]
            elif action in (4, 5):
                text = text[:spot] + self.random.choice(TOKENS) + text[spot if action == 4 else end :]
            elif action == 6:
                numbers = [*re.finditer(rb"-?\d[\d.e+-]*", text)]
                if numbers:
                    start, stop = self.random.choice(numbers).span()
                    odd = self.random.choice([one for one in ODD if type(one) in (int, float)])
                    text = text[:start] + json.dumps(odd).encode() + text[stop:]
            elif self.random.random() < 0.1:
                encoding = self.random.choice(["utf-16", "utf-32", "utf-7"])
                text = text.decode("utf-8", "replace").encode(encoding, "replace")
            else:
                text = text.swapcase() if self.random.random() < 0.2 else text[spot:] + text[:spot]
        return text


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield content, key
        yield from _places(content[key])


# -- what is damaged ---------------------------------------------------------------------------------------


def whole_record() -> dict[str, Any]:
    """A value of its type in each field that a record can have."""
    found: dict[str, Any] = {}
    for name, info in FIELDS.items():
        if info.choices:
            found[name] = info.choices[0]
        elif info.kind == "text":
            found[name] = "a text"
        elif info.kind == "list":
            found[name] = ["short_idle", "bios"]
        elif info.kind == "terms":
            found[name] = [{"name": "idle", "gross_j": 0.1, "net_j": 0.1, "basis": "scatter"}]
        elif info.kind == "object":
            found[name] = {"rank": [1, 2], "count": 2}
        else:
            found[name] = 1 if info.kind == "integer" else 0.5
    return found


BASELINE = {"power_w": 2.0, "u_power_w": 0.01, "duration_s": 30.0, "n_samples": 60}
UNLIKE = ("arm", "variant", "data_variant", "options", "error", "trace", "trace_sha256")
"""Fields that stay as in the good records."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, write_nights: Callable[..., Any]) -> Iterator[Path]:
    """A folder with three good runs, whose records have every field; everything is made below it and removed."""
    folder = tmp_path_factory.mktemp("fuzz")
    nights = write_nights(folder)
    starts = (("2025-01-01T01:00:00+00:00", 60.0), ("2025-01-01T04:00:00+00:00", 240.0))
    session = {
        "started_at": "2025-01-01T00:00:00+00:00",
        "ended_at": "2025-01-01T09:00:00+00:00",
        "idle": [BASELINE | {"started_at": moment, "started_mono_s": start_s} for moment, start_s in starts],
        "records": {"size": 1, "sha256": "0"},
        "traces": {"idle.csv.gz": "0"},
    }
    prints = {"model_code": None, "data": {"digits-flip": "d"}, "weights": {"digits-flip": "w"}}
    given = {"sessions": [session], "noise": {"digits-flip": {"sigma": 1.0}}, "fingerprints": prints}
    for day in range(3):
        path = nights.write(day, manifest=given)
        lines = [json.loads(line) for line in (path / "cells.jsonl").read_text().splitlines()]
        extra = {name: value for name, value in whole_record().items() if name not in UNLIKE}
        extra |= {"session": 0, "started_mono_s": 100.0, "target_block": "fc"}
        filled = [extra | {name: value for name, value in line.items() if value not in (None, [])} for line in lines]
        (path / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in filled))
    RunDir(path).read_manifest()  # whole: without `damage`, it refuses what is wrong
    assert len(RunDir(path).records()) == len(lines)
    yield nights.root
    shutil.rmtree(folder)


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines()]


def damaged_records(mutator: Mutator, run: Path, count: int) -> bytes:
    """The run's lines, and so many damaged ones, in any order."""
    good = lines_of(run)
    cells = [json.dumps(line).encode() for line in good[:: mutator.random.choice([1, 2, 100])]]
    for _ in range(count):
        cells.append(mutator.json(mutator.random.choice(good)))
    mutator.random.shuffle(cells)
    return b"\n".join(cells) + mutator.random.choice([b"", b"\n", b"\r\n"])


# -- commands ----------------------------------------------------------------------------------------------


class _TooLongError(BaseException):
    """Not an Exception, so that nothing takes it for an error of its own."""


def _too_long(*_: object) -> None:
    raise _TooLongError


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(style, "PNG_DPI", 20)
    before = [(one, signal.signal(one, _too_long)) for one in (signal.SIGALRM, signal.SIGPROF)]
    yield
    for one, handler in before:
        signal.signal(one, handler)


SENT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]")


def command(*arguments: object) -> None:
    """Run a command, which may end well or refuse: in one line, with exit status 2, in its own words."""
    said = " ".join(map(str, arguments))[:60]
    with _Limit(said):
        done = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)
    error = done.exception
    if error is not None:
        assert isinstance(error, JouletuneError), f"{said}: {error!r}"
        assert error.exit_status == RequestError.exit_status, f"{said}: exit {error.exit_status}: {error}"
        assert str(error).strip(), said
    assert "Traceback" not in done.output, f"{said}: {done.output[-500:]}"
    assert not SENT.search(done.output), f"{said}: {SENT.search(done.output)} in {done.output!r}"


class _Limit:
    """Time limit of a block."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        signal.alarm(HANG_S)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if kind is _TooLongError:
            raise AssertionError(f"{self.what}: not done in {LIMIT_S} s of processor time, or {HANG_S} s") from error


def fresh(home: Path, name: str = "run", manifest: bytes | None = None, records: bytes | None = None) -> Path:
    """A run as the newest good one, with these files in place of its own."""
    good = max(path for path in home.iterdir() if path.is_dir() and path.name[0] == "2")
    run = home.parent / name
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    for file, content in (("manifest.json", manifest), ("cells.jsonl", records)):
        (run / file).write_bytes((good / file).read_bytes() if content is None else content)
    return run


def _load(run: Path) -> None:
    with warnings.catch_warnings(), _Limit("load"):
        warnings.simplefilter("ignore", UserWarning)
        with contextlib.suppress(RequestError):
            bench.load(run)


def _report(home: Path, *runs: Path) -> None:
    shutil.rmtree(home.parent / "out", ignore_errors=True)
    command("report", *runs, "--out", home.parent / "out")


def _history(home: Path, *runs: Path) -> None:
    (home.parent / "index").unlink(missing_ok=True)
    command("history", home, *runs, "--index", home.parent / "index", "--html", "--out", home.parent / "out")


def _health(run: Path) -> None:
    with _Limit("health"), contextlib.suppress(RequestError):
        like = RunDir(run).read_manifest([]) or Manifest()
        assert health._same_device(like).text
        health._idle_power(IdleBaseline(power_w=2.0, u_power_w=0.1, duration_s=1, n_samples=9, started_at="x"), like)
        health._same("governor", "x", like.device.governor if like.device else None)


def _compare_base(home: Path, run: Path) -> None:
    command("compare", home / "2025-01-01", run, "--net", "--across", "--fail-on", "joules:5%")


READERS: dict[str, Callable[[Path, Path], None]] = {
    "report": _report,
    "compare": lambda home, run: command("compare", run, home / "2025-01-01"),
    "compare base": _compare_base,
    "export": lambda home, run: command("export", run, "--out", home.parent / "x.csv"),
    "load": lambda _, run: _load(run),
    "history": _history,
    "verify": lambda _, run: command("verify", run),
    "health": lambda _, run: _health(run),
}


@pytest.fixture
def nothing_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` prepares data and weights in a process, once it has understood the suite: not here."""

    def start(*_: object) -> None:
        raise CellFailedError("not here")

    monkeypatch.setattr(Launcher, "start", start)


@pytest.fixture
def resume(loaded: LoadedSuite, without_work: list[Record], home: Path) -> Callable[[Path], None]:
    """A run that goes on in a folder, with cells that take no time."""

    def go_on(run: Path) -> None:
        without_work.clear()
        console = Console(quiet=True)
        with _Limit("run"):
            try:
                result = run_suite(loaded, RunOptions(out=run, source="simulated"), console)
            except RequestError:
                assert not without_work
                return
        assert result.finished == len(loaded.suite.cells()) * loaded.suite.energy.repeats
        assert len({(r.cell_id, r.repeat) for r in without_work}) == len(without_work)
        again = {(line["cell_id"], line["repeat"]) for line in RunDir(run).records([])}
        assert {(r.cell_id, r.repeat) for r in without_work} <= again

    return go_on


def _each(names: Any, few: int = FEW) -> list[Any]:
    long = [pytest.mark.long, pytest.mark.timeout(4 * 3600)]
    return [pytest.param(name, few, id=name) for name in names] + [
        pytest.param(name, MANY, id=f"{name}-long", marks=long) for name in names
    ]


def batches(inputs: int, sizes: tuple[int, ...]) -> Iterator[tuple[Mutator, int]]:
    """Mutators, and how many inputs to make with each, until there are so many."""
    made = 0
    while made < inputs:
        mutator = Mutator(made)
        size = min(mutator.random.choice(sizes), inputs - made)
        yield mutator, size
        made += size


@pytest.mark.parametrize(("name", "inputs"), _each([name for name in READERS if name != "health"]))
@pytest.mark.usefixtures("nothing_prepared")
def test_records(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, inputs: int) -> None:
    for mutator, size in batches(inputs, (1, 3, 40) if name != "report" else (5, 80)):
        monkeypatch.setattr(report, "FIGURES", FIGURES if mutator.random.random() < 0.2 else ())
        READERS[name](home, fresh(home, records=damaged_records(mutator, home / "2025-01-03", size)))


@pytest.mark.parametrize(("name", "inputs"), _each(["run"]))
def test_records_that_a_run_goes_on_with(home: Path, resume: Callable[[Path], None], name: str, inputs: int) -> None:
    assert name
    for mutator, size in batches(inputs, (1, 3, 40)):
        resume(fresh(home, records=damaged_records(mutator, home / "2025-01-03", size)))


def damaged_manifest(mutator: Mutator, run: Path) -> bytes:
    return mutator.json(json.loads((run / "manifest.json").read_text()))


@pytest.mark.parametrize(("name", "inputs"), _each(READERS))
@pytest.mark.usefixtures("nothing_prepared")
def test_manifests(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, inputs: int) -> None:
    together = {"report": (4, 20), "history": (10,), "export": (10,)}.get(name, (1,))
    for mutator, size in batches(inputs, together):
        monkeypatch.setattr(report, "FIGURES", FIGURES if size < 5 and mutator.random.random() < 0.2 else ())
        runs = [fresh(home, f"run{n}", manifest=damaged_manifest(mutator, home / "2025-01-03")) for n in range(size)]
        if name in ("report", "history"):
            {"report": _report, "history": _history}[name](home, *runs)
        elif name == "export":
            command("export", *runs, "--out", home.parent / "x.csv")
        else:
            READERS[name](home, runs[0])


@pytest.mark.parametrize(("name", "inputs"), _each(["run"]))
def test_manifests_that_a_run_goes_on_with(home: Path, resume: Callable[[Path], None], name: str, inputs: int) -> None:
    assert name
    for mutator, _ in batches(inputs, (1,)):
        resume(fresh(home, manifest=damaged_manifest(mutator, home / "2025-01-03")))


# -- traces and indices ------------------------------------------------------------------------------------


def damaged_trace(mutator: Mutator, good: bytes) -> bytes:
    """Half of them are damaged as they are unpacked, the others as they are packed."""
    if mutator.random.random() < 0.3:
        return mutator.bytes(good)
    text = gzip.decompress(good)
    for _ in range(mutator.random.choice([1, 1, 3])):
        lines = text.split(b"\n")
        spot = mutator.random.randrange(len(lines))
        if mutator.random.random() < 0.5:
            first, _, last = lines[spot].partition(b",")
            odd = mutator.random.choice([*TOKENS, b"1e300", b"-1e12", b"1e12", b"1e-300", b"0", b"5"])
            lines[spot] = mutator.random.choice([odd + b"," + last, first + b"," + odd, b"# t0_s: " + odd, b"# " + odd])
        else:
            mutator.random.shuffle(lines) if mutator.random.random() < 0.1 else lines.insert(spot, lines[-spot])
        text = b"\n".join(lines)
        if mutator.random.random() < 0.5:
            text = mutator.bytes(text)
    packed = gzip.compress(text, 1)
    return packed + mutator.random.choice([b"", b"", b"", b"\x00" * 100, b"tail", packed])


@pytest.mark.parametrize(("name", "inputs"), _each(["report", "verify"], 100))
@pytest.mark.usefixtures("nothing_prepared")
def test_traces(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, inputs: int) -> None:
    monkeypatch.setattr(report, "FIGURES", ())
    facts = {"source": "um25c", "quiet_from_s": 5, "t0_s": 15, "t1_s": 40, "quiet_until_s": 48, "executions": 3}
    good = []
    for column in ("power_w", "energy_j"):
        trace = write_trace(home.parent, column, [(i / 10, 2 + i / 9) for i in range(500)], column=column, facts=facts)
        good.append((home.parent / trace).read_bytes())
    line = lines_of(home / "2025-01-03")[0]
    for mutator, size in batches(inputs, (100,)):
        names = [f"t{number}.csv.gz" for number in range(size)]
        lines = [line | {"cell_id": f"c{number}", "trace": one} for number, one in enumerate(names)]
        run = fresh(home, records="".join(json.dumps(one) + "\n" for one in lines).encode())
        (run / "traces").mkdir()
        for one in names:
            (run / "traces" / one).write_bytes(damaged_trace(mutator, mutator.random.choice(good)))
        READERS[name](home, run)


def damaged_index(mutator: Mutator, good: bytes) -> bytes:
    """Damaged bytes, or damaged JSON under the right hash."""
    if mutator.random.random() < 0.4:
        return mutator.bytes(good)
    first, *lines = good.splitlines(keepends=True)
    for number, line in enumerate(lines):
        body = mutator.json(json.loads(line.rpartition(b"\t")[0])).replace(b"\n", b"")
        lines[number] = b"%s\t%s\n" % (body, indexing._mac(body))
    return b"".join([first if mutator.random.random() < 0.8 else mutator.json(json.loads(first)), *lines])


@pytest.mark.parametrize(("name", "inputs"), _each(["history", "verify"]))
@pytest.mark.usefixtures("nothing_prepared")
def test_indices(home: Path, tmp_path: Path, name: str, inputs: int) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(home, runs)
    path = runs / indexing.NAME
    command("history", runs)
    good = path.read_bytes()
    for mutator, _ in batches(inputs, (1,)):
        path.write_bytes(damaged_index(mutator, good))
        if name == "history":
            command("history", runs, "--html", "--out", tmp_path / "out")
        else:
            command("verify", runs / "2025-01-03")
