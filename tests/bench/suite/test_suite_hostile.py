"""A suite from anybody: bounded in what it costs to refuse, read from regular files only, and portable."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import cli
from bench.errors import RequestError, nearest
from bench.suite.data_axis import DataSpec
from bench.suite.load import load_suite
from bench.suite.spec import PlacedPath
from bench.suite.suite import Suite
from bench.suite.superclasses import read_table
from bench.suite.yaml_file import MAX_DEPTH, parse_yaml

LIMIT_S = 10.0

BASE = """\
name: trial
model: {name: resnet8}
data:
  - {dataset: digits, shift: noise}
train_size: [0.1]
blocks: [full]
seeds: [0]
"""


def wide(first: int, last: int) -> str:
    """Text of many different characters, which compares slowly."""
    return "".join(chr(0x4E00 + number % 9000) for number in range(first, last))


def many(count: int, form: str = "{}") -> str:
    return "[" + ", ".join(form.format(number) for number in range(count)) + "]"


COSTLY = {
    "digits-and-a-letter": (BASE + "title: " + "1" * 500_000 + "x\n", None),
    "half-a-million-values": (BASE + "title: [" + "1," * 150_000 + "]", "more than 100000 values"),
    "deep-lists": (BASE + "title: " + "[" * 900_000, "nested too deeply"),
    "deep-blocks": (BASE + "title:\n  " + "- " * 400_000, "nested too deeply"),
    "long-names": (
        f"{BASE.replace('name: resnet8', 'name: m:f, blocks: {? ' + wide(0, 100_000) + ' : [a]}')}".replace(
            "[full]", f"[{wide(1, 100_001)}]"
        ),
        "cannot be a block's name",
    ),
    "long-dataset": (BASE.replace("digits", wide(0, 300_000)), "is not a dataset"),
    "many-blocks": (
        BASE.replace("name: resnet8", "name: m:f, blocks: {" + ", ".join(f"b{n}: [a]" for n in range(20_000)) + "}")
        .replace("[full]", many(20_000, "b{}")),
        None,
    ),
    "many-overrides": (
        BASE + "train: {per_block: {" + ", ".join(f"b{n}: {{}}" for n in range(25_000)) + "}}",
        "no block set or method of the suite is called 'b0'",
    ),
    "many-rules": (
        BASE.replace("[0]", many(20_000)) + "exclude:\n" + "\n".join(f"  - {{seed: {n}}}" for n in range(20_000)),
        "20000 rules for 20000 cells",
    ),
    "a-long-rule": (
        BASE.replace("[0]", many(40_000)) + f"exclude: [{{seed: {many(39_999)}}}]\n",
        None,
    ),
    "many-points": (
        BASE.replace("noise}", f"block_noise, noised_block: {many(20_000, 'b{}')}}}"),
        "spans more than 10,000 points",
    ),
    "many-excluded-values": (
        BASE + f"exclude: [{{seed: {many(50_000, 'x{}')}}}]\n",
        "no cell of the suite has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", COSTLY)
def test_what_would_take_long_is_refused_or_loaded_soon(kind: str, write_suite: Callable[..., Path]) -> None:
    text, says = COSTLY[kind]
    path = write_suite(text)
    started_s = time.process_time()
    if says is None:
        assert load_suite(str(path)).suite.cells()
    else:
        with pytest.raises(RequestError) as refused:
            load_suite(str(path))
        assert says in str(refused.value)
        assert len(str(refused.value)) < 600
    assert time.process_time() - started_s < LIMIT_S


def test_depth_has_a_limit_that_is_stated() -> None:
    def nested(levels: int) -> str:
        return "a: " + "[" * levels + "]" * levels

    assert parse_yaml(nested(MAX_DEPTH - 1), "x").content
    with pytest.raises(RequestError, match=f"at most {MAX_DEPTH} levels"):
        parse_yaml(nested(MAX_DEPTH), "x")


def test_hints_look_at_the_beginning_of_names() -> None:
    started_s = time.process_time()
    assert nearest(wide(0, 200_000), [wide(1, 200_001)] * 3) == f"choose from {', '.join([wide(1, 65)] * 3)}"
    assert nearest("b17x", (f"b{n}" for n in range(10**9))) == "did you mean 'b17'?"
    assert time.process_time() - started_s < LIMIT_S


# -- files ------------------------------------------------------------------------------------------


def special(path: Path, kind: str) -> Path:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        return Path("/dev/zero")
    else:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(path.name)
        bound.close()
    return path


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("s.yaml", "t.csv", "t.json"):
        path = special(tmp_path / name, kind)
        started_s = time.monotonic()
        with pytest.raises(RequestError, match=r"not a regular file|cannot be read"):
            load_suite(str(path)) if name == "s.yaml" else read_table(path, name)
        assert time.monotonic() - started_s < LIMIT_S


def test_links_to_ones_own_suite_and_table_are_followed(tmp_path: Path, write_suite: Callable[..., Path]) -> None:
    table = {"a": {"source": ["0"], "target": ["1"]}, "b": {"source": ["2"], "target": ["3"]}}
    write_suite(table, "real.yaml")
    (tmp_path / "table.yaml").symlink_to("real.yaml")
    entry = "{dataset: digits, shift: subpopulation, superclasses: table.yaml}"
    write_suite(BASE.replace("{dataset: digits, shift: noise}", entry), "suite.yaml")
    (tmp_path / "s.yaml").symlink_to("suite.yaml")
    assert set(load_suite(str(tmp_path / "s.yaml")).suite.data[0].members()) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("superclass,side,wnid\n" + "x" * 200_000 + ",source,n1\n", "field larger than"),
        ("superclass,side,wnid\n\0,source,n1\n", "."),
        ("superclass,side,wnid\n" + "a,source,n1\n" * 100_000, "too large"),
        ("superclass,side,wnid\na,source,n1\r\r\nb,source,n2\n", "."),
        ('superclass,side,wnid\n"a,source,n1\n', "expected a superclass"),
    ],
)
def test_tables_of_anything_are_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    with pytest.raises(RequestError, match=says) as refused:
        read_table(tmp_path / "t.csv", "t.csv")
    assert str(refused.value).startswith("t.csv")


# -- paths ------------------------------------------------------------------------------------------


def picture_folders(root: Path) -> None:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)


@pytest.mark.parametrize("form", ["photos/../photos", "./photos", "../elsewhere/photos", "ABSOLUTE"])
def test_a_moved_project_is_the_same_suite(form: str, tmp_path: Path, write_suite: Callable[..., Path]) -> None:
    digests = []
    for place in ("one", "another"):
        project = tmp_path / place / "project"
        picture_folders(project / "photos")
        picture_folders(project.parent / "elsewhere" / "photos")
        (project / "net.pth").touch()
        path = str(project / "photos") if form == "ABSOLUTE" else form
        entry = f"{{dataset: folder, source: {path}, shift: blur}}"
        text = BASE.replace("{dataset: digits, shift: noise}", entry)
        (project / "s.yaml").write_text(text.replace("name: resnet8", f"name: resnet8, checkpoint: {project}/net.pth"))
        suite = load_suite(str(project / "s.yaml")).suite
        assert Path(str(suite.data[0].source)).is_dir()
        assert Path(str(suite.model.checkpoint)).is_file()
        assert str(tmp_path) not in str(suite.content())
        digests.append(suite.digest())
    assert digests[0] == digests[1]


def test_a_path_is_written_as_the_suite_means_it(tmp_path: Path) -> None:
    base = tmp_path / "project"
    cases = {
        "photos": "photos",
        "a/../b/": "b",
        "../c": "../c",
        str(base / "d"): "d",
        "/somewhere/else/e": "…/e",
        "~/f": "…/f",
    }
    for given_path, written in cases.items():
        placed = PlacedPath.of(given_path, base)
        assert placed.portable == written
        assert Path(placed).is_absolute()
    data = DataSpec.model_validate(
        {"dataset": "folder", "shift": "blur", "level": "input", "label": "d", "source": "x"}
    )
    assert data.model_dump(mode="json")["source"] == "x"
    assert data.source == str(Path("x"))


def test_the_manifest_holds_no_folder_of_the_user(tmp_path: Path, make_manifest_of: Callable[[str], Any]) -> None:
    picture_folders(tmp_path / "photos")
    entry = f"{{dataset: folder, source: {tmp_path}/photos, shift: blur}}"
    (tmp_path / "s.yaml").write_text(BASE.replace("{dataset: digits, shift: noise}", entry))
    manifest = make_manifest_of(str(tmp_path / "s.yaml"))
    assert str(tmp_path) not in str(manifest.to_dict())
    assert "s.yaml" in manifest.suite.origin


@pytest.fixture
def make_manifest_of() -> Callable[[str], Any]:
    import hardware
    from bench.run.surroundings import make_manifest

    return lambda wanted: make_manifest(load_suite(wanted), hardware.choose("none"), torch_device="cpu")


# -- what a suite says of itself --------------------------------------------------------------------


@pytest.mark.parametrize("title", ["[/b]", "[link=x]y[/link]", "\x1b]0;owned\x07", "\x1b[2J", "a\nb", "\u202eabc"])
def test_a_title_prints_as_text(
    title: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(BASE + yaml.safe_dump({"title": title}))
    for argv in (["run", "s.yaml", "--source", "none", "--device", "foo"], ["validate", "s.yaml", "--no-timing"]):
        monkeypatch.setattr(sys, "argv", ["jouletune", *argv])
        with pytest.raises(SystemExit):
            cli.main()
        out, err = capfd.readouterr()
        assert all(line.isprintable() for line in (out + err).splitlines())
        assert "Traceback" not in err
        if argv[0] == "run":
            assert (title if title.isprintable() else title.encode("unicode_escape").decode()) in out


# -- whatever the text is ---------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "name: t\n", "model: {name: resnet8}\n", "data:\n", "  - {dataset: digits, shift: noise}\n",
        "  - dataset: folder\n", "    source: a\n", "    shift: [flip, permute]\n", "train_size: [0.1, 3]\n",
        "blocks: [[fc, block1], tbft]\n", "seeds: [0]\n", "train: {engine: [fast, reference], bn_mode: eval}\n",
        "exclude: [{engine: fast}]\n", "energy: {}\n", "axes: {}\n", "block_map: {}\n", "methods: [full]\n",
        "&a ", "*a", "<<: *a\n", "? ", ": ", "- ", "{", "}", "[", "]", ", ", "'", '"', "!!str ", "!x ",
        "%YAML 1.1\n---\n", "...\n", "|\n", ">\n", "#", "\n", "  ", "\t", "\ufeff", "\x85", "\u2028",
        "1e999", "-0", ".nan", "null", "~", "0o7", "1_0", "\\", "@", "`",
    ]
)  # fmt: skip


def suite_or_refusal(file: Path) -> tuple[Suite | None, str]:
    """Any error but a RequestError fails the test."""
    try:
        return load_suite(str(file)).suite, ""
    except RequestError as error:
        return None, str(error)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=st.lists(PIECES | st.text(max_size=4), max_size=25), whole=st.booleans(), at=st.integers(0, len(BASE)))
def test_any_text_is_a_suite_or_one_line(
    pieces: list[str], whole: bool, at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "".join(pieces) if whole else BASE[:at] + "".join(pieces) + BASE[at:]
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    started_s = time.process_time()
    loaded, refusal = suite_or_refusal(file)
    assert time.process_time() - started_s < LIMIT_S
    if loaded is None:
        assert refusal.startswith(str(file))
        assert len(refusal.splitlines()) == 1
    else:
        assert loaded.cells()
        assert len(loaded.digest()) == 64


def test_a_table_is_read_from_anywhere_but_copied_nowhere(tmp_path: Path, write_suite: Callable[..., Path]) -> None:
    shutil.copy(Path(__file__).parents[3] / "bench/suite/living17.csv", tmp_path / "mine.csv")
    entry = f"{{dataset: imagenet, shift: subpopulation, superclasses: {tmp_path}/mine.csv}}"
    suite = load_suite(str(write_suite(BASE.replace("{dataset: digits, shift: noise}", entry)))).suite
    assert len(suite.data[0].members()) == 17
    assert str(tmp_path) not in str(suite.content())
