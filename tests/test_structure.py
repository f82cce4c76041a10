"""The house: which package may import which, computed from the sources.

An arrow is an import of one module of ours in another, wherever in the file it stands. What stands under
`TYPE_CHECKING` counts too: a type is knowledge of the other side.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bench", "hardware", "plots", "suites")
READING = ("bench.read", "bench.analysis", "bench.compare", "bench.history", "plots")
MEASURING = (
    *("bench.process", "bench.run", "bench.work", "bench.targets", "bench.fleet"),
    *("bench.training", "bench.methods", "bench.models", "bench.runtimes", "bench.data", "bench.cost"),
)
Arrow = tuple[str, str]


@cache
def modules() -> dict[str, Path]:
    """Name -> file of every module of ours, `__init__` under the name of its package."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found["jouletune_pytest"] = ROOT / "jouletune_pytest.py"
    return found


def imported(tree: ast.AST, known: Collection[str]) -> Iterator[str]:
    """Modules of `known` that a module imports; `from package import module` is an import of that module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in known:
                    yield full
                elif node.module in known:
                    yield node.module


@cache
def arrows() -> frozenset[Arrow]:
    known = set(modules())
    return frozenset(
        (name, target)
        for name, path in modules().items()
        for target in imported(ast.parse(path.read_text(encoding="utf-8")), known)
        if target != name
    )


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def circle(edges: Collection[Arrow]) -> list[str]:
    """A circle among the edges, its first member twice; empty where there is none."""
    onward: dict[str, list[str]] = {}
    for source, target in sorted(edges):
        onward.setdefault(source, []).append(target)
    done: set[str] = set()

    def follow(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in onward.get(node, ()):
            found = follow(target, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    return next(filter(None, (follow(node, []) for node in sorted(onward))), [])


def room(module: str) -> str:
    """The room of a module: a package of `bench`, `bench.errors` and the like, or a whole top-level package."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "bench" else parts[0]


@pytest.mark.parametrize(("of", "into"), [(READING, MEASURING), (MEASURING, READING)])
def test_the_two_wings_meet_only_in_the_store(of: tuple[str, ...], into: tuple[str, ...]) -> None:
    wrong = sorted(f"{a} -> {b}" for a, b in arrows() if within(a, of) and within(b, into))
    assert not wrong, f"arrows between the wings: {wrong}"


def test_hardware_knows_nothing_of_the_rest() -> None:
    wrong = sorted(f"{a} -> {b}" for a, b in arrows() if within(a, ("hardware",)) and not within(b, ("hardware",)))
    assert not wrong, f"arrows out of hardware: {wrong}"


def test_no_circle_of_modules() -> None:
    found = circle(arrows())
    assert not found, f"circle: {' -> '.join(found)}"


def test_no_circle_of_rooms() -> None:
    edges = {(room(a), room(b)) for a, b in arrows() if room(a) != room(b) and room(a) != "bench"}
    found = circle(edges)
    assert not found, f"circle: {' -> '.join(found)}"


def test_the_list_of_rooms_in_contributing_is_true() -> None:
    """It names every room, and the modules of a room import only rooms above it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listing = text[text.index("\nhardware/") :].partition("```")[0]
    places: dict[str, int] = {}
    top = ""
    for place, (indent, name) in enumerate(re.findall(r"^( *)(\w+)/(?: |$)", listing, flags=re.M)):
        top = top if indent else name
        places.setdefault(f"{top}.{name}" if indent else name, place)
    packages = {".".join(name.split(".")[: 1 if within(name, ("plots",)) else 2]) for name in modules()}
    assert set(places) == {name for name in packages if modules()[name].name == "__init__.py"} - {"suites"}

    def place(module: str) -> int | None:  # None: a loose module, which may stand anywhere
        parts = module.split(".")
        return places.get(".".join(parts[:2]), places["plots"] if parts[0] == "plots" else None)

    at = {name: place(name) for name in modules() if name not in ("bench", "hardware")}
    upward = [f"{a} -> {b}" for a, b in sorted(arrows()) if (at.get(a) or 99) < (at.get(b) or 0)]
    assert not upward


@pytest.mark.parametrize(("package", "packages", "loose"), [("bench", 20, 4), ("hardware", 8, 6)])
def test_the_house_has_few_rooms(package: str, packages: int, loose: int) -> None:
    folder = ROOT / package
    rooms = [path for path in folder.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    assert len(rooms) <= packages, sorted(path.name for path in rooms)
    assert len(list(folder.glob("*.py"))) <= loose, sorted(path.name for path in folder.glob("*.py"))


def test_the_catalogue_needs_no_heavy_library() -> None:
    for name, path in modules().items():
        if within(name, ("bench.catalog",)):
            heavy = {"numpy", "torch", "pandas"} & set(
                imported(ast.parse(path.read_text()), {"numpy", "torch", "pandas"})
            )
            assert not heavy, f"{name} imports {heavy}"


def test_a_circle_and_an_arrow_would_be_seen() -> None:
    assert circle({("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")}) == ["a", "b", "c", "a"]
    assert circle({("a", "b"), ("a", "c"), ("b", "c")}) == []
    code = "def f():\n    from bench.run import plan\n    import bench.store\n"
    assert set(imported(ast.parse(code), {"bench.run", "bench.run.plan", "bench.store"})) == {
        "bench.run.plan",
        "bench.store",
    }
