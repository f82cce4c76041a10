"""Sources of other packages: the documented example, built and used, and everything a package can do wrong."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware import Sampler, SourceUnavailableError, UnknownSourceError, choose, probe_all, registry
from hardware.source import Found, NotFound, Probe

PAGE = Path(__file__).resolve().parents[3] / "docs" / "sources.md"

GOOD = """
from hardware.source import *
class Fake(PowerSource):
    info = SourceInfo(name="{name}", kind="{kind}", scope="board", covers=(), period_s=1.0, gain_u=0.0)
    def poll(self):
        return []
def probe(argument, params, device):
    return Found(Fake(), f"with {{argument}} and {{params}}")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(folder: Path, package: str, entries: dict[str, str], code: str = "") -> None:
    """Put a package there, as an installer leaves it behind."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[jouletune.sources]", *lines, ""]))


def shown() -> dict[str, Probe]:
    return dict(probe_all())


@pytest.fixture(autouse=True)
def few_built_in_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: registry.SOURCES[name] for name in ("rapl", "simulated", "none")}
    monkeypatch.setattr(registry, "SOURCES", few)


@pytest.fixture
def supply() -> Iterator[str]:
    """A bench supply on this machine: the address of something that answers 7.5 W to MEAS:POW?."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        with client, client.makefile("rw") as wire:
            for line in wire:
                wire.write("7.5\n" if line == "MEAS:POW?\n" else "?\n")
                wire.flush()

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.close()


def test_the_documented_example_is_built_installed_and_measures(folder: Path, supply: str, tmp_path: Path) -> None:
    project, wheels = tmp_path / "project", tmp_path / "wheels"
    project.mkdir()
    blocks = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert [name for name, _ in blocks] == ["pyproject.toml", "jouletune_scpi.py"]
    for name, text in blocks:
        (project / name).write_text(text)
    options = ["--wheel", "--no-isolation", "--skip-dependency-check", "--outdir", str(wheels)]
    command = [sys.executable, "-m", "build", *options, str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
        archive.extractall(folder)
    unnamed = shown()["scpi"]
    assert isinstance(unnamed, NotFound)
    assert "name the supply" in unnamed.reason
    choice = choose(f"scpi:{supply}")
    assert choice.why == f"scpi: a supply at {supply}"
    sampler = Sampler(choice.source)
    sampler.start()
    idle = sampler.measure_idle(0.5)
    sampler.stop()
    assert idle.power_w == pytest.approx(7.5)


def test_a_plugin_is_listed_after_the_built_in_sources_and_never_chosen_unasked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(folder, "acme-meter", {"acme": "acme_meter"}, GOOD.format(name="acme:1", kind="power"))
    assert list(shown()) == ["rapl", "simulated", "none", "acme"]
    choice = choose("acme:1?x=2")
    assert choice.why == "acme: with 1 and {'x': '2'}"
    monkeypatch.delitem(registry.SOURCES, "rapl")
    with pytest.raises(SourceUnavailableError, match="nothing here can measure"):
        choose("auto")
    with pytest.raises(UnknownSourceError, match="did you mean 'acme'"):
        choose("acmee")


def test_a_built_in_source_is_never_replaced(folder: Path) -> None:
    code = GOOD.format(name="simulated", kind="power")
    install(folder, "evil", {"simulated": "evil", "auto": "evil", "a b": "evil"}, code)
    found = shown()
    for name in ("simulated (evil)", "auto (evil)"):
        assert "cannot be replaced" in str(found[name])
    assert "a name consists of letters" in str(found["a b"])
    assert "SIMULATED" in choose("simulated").why


def test_two_packages_of_one_name_are_both_refused_and_one_found_twice_is_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = GOOD.format(name="acme", kind="power")
    install(folder, "acme-meter", {"acme": "acme_meter"}, code)
    again = tmp_path / "again"
    again.mkdir()
    install(again, "acme-meter", {"acme": "acme_meter"}, code)
    monkeypatch.syspath_prepend(str(again))
    assert isinstance(shown()["acme"], Found)
    install(folder, "other", {"acme": "other"}, code)
    with pytest.raises(SourceUnavailableError, match=r"several packages .*\(acme-meter, other\)"):
        choose("acme")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise ImportError('no libusb')", "broken does not load: ImportError: no libusb"),
        ("import sys; sys.exit(3)", "broken does not load: SystemExit: 3"),
        ("syntax error", "broken does not load: SyntaxError"),
        ("probe = 3", "has no function probe"),
        ("def probe(argument, params, device): return None", "its probe returned NoneType"),
        ("def probe(argument, params, device): 1 / 0", "ZeroDivisionError"),
        ("def probe(argument, params, device): raise SystemExit(1)", "SystemExit"),
        ("def probe(): ...", "TypeError"),
        ("from hardware.source import *\ndef probe(a, p, d): return Found(3, 'x')", "no hardware.source.Source"),
        (GOOD.format(name="broke", kind="counter"), "its kind is 'counter', but its source is no counter source"),
        (GOOD.format(name="broke", kind="joules"), "its kind is 'joules'"),
        (GOOD.format(name="rapl", kind="power"), "calls itself 'rapl'; the name must begin with 'broke'"),
        (
            "from hardware.errors import *\ndef probe(a, p, d): raise UnknownSourceError('name the port')",
            "name the port",
        ),
    ],
)
def test_a_broken_plugin_is_a_line_in_the_list_and_nothing_worse(folder: Path, code: str, complaint: str) -> None:
    install(folder, "broken", {"broke": "broken"}, code)
    sys.modules.pop("broken", None)
    found = shown()
    sys.modules.pop("broken", None)
    assert isinstance(found["broke"], NotFound)
    assert complaint in found["broke"].reason
    assert isinstance(found["simulated"], Found)
