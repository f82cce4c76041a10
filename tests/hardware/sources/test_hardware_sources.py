"""RAPL on made-up file trees, NVML on a made-up card, codecarbon for real, and the files a replay refuses."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest

from hardware import SourceError, SourceUnavailableError, UnknownSourceError
from hardware.source import Found, NoPermission, NotFound, Probe
from hardware.sources import codecarbon, nvml, rapl, replay, simulated

RANGE_UJ = 262_143_328_850


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    return tmp_path / "powercap"


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


def ask(root: Path) -> Probe:
    return rapl.probe("", {}, "cpu", root=root)


def covers(root: Path) -> tuple[str, ...]:
    found = ask(root)
    assert isinstance(found, Found)
    return found.source.info.covers


def test_packages_and_their_dram_are_added_and_what_lies_inside_or_around_is_not(powercap: Path) -> None:
    zone(powercap, "intel-rapl:0", "package-0", 10_000_000)
    zone(powercap, "intel-rapl:0:0", "core", 5_000_000)
    zone(powercap, "intel-rapl:0:1", "uncore", 1_000_000)
    zone(powercap, "intel-rapl:0:2", "dram", 2_000_000)
    zone(powercap, "intel-rapl:1", "psys", 90_000_000)
    zone(powercap, "intel-rapl-mmio:0", "package-0", 10_000_000)
    (powercap / "intel-rapl").mkdir()
    assert covers(powercap) == ("package-0", "dram-0")
    found = ask(powercap)
    assert isinstance(found, Found)
    assert found.source.info.params["unused"] == [
        "intel-rapl:0:0 (core)",
        "intel-rapl:0:1 (uncore)",
        "intel-rapl:1 (psys)",
    ]
    source = found.source
    assert isinstance(source, rapl.RaplSource)
    source.open()
    (powercap / "intel-rapl:0/energy_uj").write_text("11500000")
    (powercap / "intel-rapl:0:2/energy_uj").write_text("2250000")
    assert source.read()[1] == pytest.approx(1.75)


def test_psys_alone_is_used_and_mmio_alone_is_used(powercap: Path, tmp_path: Path) -> None:
    zone(powercap, "intel-rapl:0", "psys", 10_000_000)
    assert covers(powercap) == ("psys",)
    zone(tmp_path / "mmio", "intel-rapl-mmio:0", "package-0", 10_000_000)
    assert covers(tmp_path / "mmio") == ("package-0",)


@pytest.mark.parametrize(
    ("first_w", "second_w", "apart_j", "kept"),
    [
        (60.0, 60.0, 0.0, ("package-0-die-0",)),
        (60.0, 60.0, 0.3, ("package-0-die-0", "package-0-die-1")),
        (60.0, 61.0, 0.0, ("package-0-die-0", "package-0-die-1")),
        (0.0, 0.0, 0.0, ("package-0-die-0",)),
    ],
)
def test_a_mirrored_counter_is_counted_once_and_a_second_socket_of_like_count_twice(
    first_w: float,
    second_w: float,
    apart_j: float,
    kept: tuple[str, ...],
    *,
    powercap: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zone(powercap, "intel-rapl:0", "package-0-die-0", 0)
    zone(powercap, "intel-rapl:1", "package-0-die-1", 0)
    start_s = time.monotonic()

    def energy_j(self: rapl.Zone) -> float:
        gone_s = round(time.monotonic() - start_s, 3)  # the register moves each millisecond
        second = self.name.endswith("1")
        return 70_000 + (second_w if second else first_w) * gone_s + (apart_j if second else 0)

    monkeypatch.setattr(rapl.Zone, "energy_j", energy_j)
    assert covers(powercap) == kept


def test_a_second_socket_and_a_memory_of_like_count_are_no_mirrors(tmp_path: Path) -> None:
    two = tmp_path / "two"
    zone(two, "intel-rapl:0", "package-0", 70_000_000_000)
    zone(two, "intel-rapl:1", "package-1", 71_000_000_000)
    # a memory counter that happens to agree with a package's is no mirror of it
    zone(two, "intel-rapl:1:0", "dram", 70_000_000_000)
    assert covers(two) == ("package-0", "package-1", "dram-1")


def open_one(root: Path, start_uj: int, range_uj: int = RANGE_UJ) -> tuple[rapl.RaplSource, Path, list[float]]:
    path = zone(root, "intel-rapl:0", "package-0", start_uj, range_uj)
    now = [0.0]
    source = rapl.RaplSource([rapl.Zone(path, "package-0", range_uj * 1e-6)], clock=lambda: now[0])
    source.open()
    return source, path / "energy_uj", now


def test_a_wrap_is_unwrapped_and_the_total_never_falls(powercap: Path) -> None:
    source, file, now = open_one(powercap, start_uj=99_000_000, range_uj=100_000_000)
    totals = []
    for count_uj in (99_900_000, 400_000, 50_000_000, 99_000_000, 1_000_000):
        now[0] += 1.0
        file.write_text(str(count_uj))
        totals.append(source.read()[1])
    assert totals == pytest.approx([0.9, 1.4, 51.0, 100.0, 102.0])


def test_a_counter_that_was_reset_is_a_dead_source_not_a_wrap(powercap: Path) -> None:
    source, file, now = open_one(powercap, start_uj=200_000_000_000)
    now[0] += 1.0
    file.write_text("17")
    with pytest.raises(SourceError, match="was it reset"):
        source.read()


def test_a_counter_that_vanishes_is_a_dead_source(powercap: Path) -> None:
    source, file, _ = open_one(powercap, start_uj=5)
    file.unlink()
    with pytest.raises(SourceError, match="package-0 is not readable any more"):
        source.read()


def test_a_counter_for_root_only_says_how_to_open_it(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zone(powercap, "intel-rapl:0", "package-0", 1) / "energy_uj"
    if os.geteuid() != 0:
        path.chmod(0)
    else:  # root may read any file, whatever its mode

        def refuse(self: rapl.Zone) -> float:
            raise PermissionError(13, "Permission denied", str(self.energy_file))

        monkeypatch.setattr(rapl.Zone, "energy_j", refuse)
    probe = ask(powercap)
    assert isinstance(probe, NoPermission)
    assert f"chmod a+r {path}" in probe.how_to_fix
    assert "/etc/udev/rules.d/" in probe.how_to_fix


def test_no_tree_an_empty_tree_and_a_strange_tree_are_not_found(powercap: Path, tmp_path: Path) -> None:
    assert isinstance(ask(powercap), NotFound)
    powercap.mkdir()
    assert isinstance(ask(powercap), NotFound)
    zone(powercap, "intel-rapl:0", "package-0", 1)
    (powercap / "intel-rapl:0/energy_uj").write_text("garbage")
    assert isinstance(ask(powercap), NotFound)
    zone(tmp_path / "core", "intel-rapl:0", "core", 1)
    assert isinstance(ask(tmp_path / "core"), NotFound)


class FakeCards:
    """What `hardware.sources.nvml` asks zeus's collection of cards."""

    def __init__(self, energies_mj: list[int]) -> None:
        self.energies_mj = energies_mj

    def get_name(self, index: int) -> str:
        return f"Card {index}"

    def get_total_energy_consumption(self, index: int) -> int:
        return self.energies_mj[index]


def test_nvml_reads_the_chosen_card_in_joules_and_notices_a_reload() -> None:
    cards = FakeCards([111, 5_000_000])
    source = nvml.NvmlSource(cards, 1, clock=lambda: 7.0)
    source.open()
    assert source.info.device == {"model": "Card 1", "index": 1}
    cards.energies_mj[1] += 2500
    assert source.read() == (7.0, pytest.approx(5002.5))
    cards.energies_mj[1] = 3
    with pytest.raises(SourceError, match="went backwards"):
        source.read()
    cards.energies_mj.clear()
    with pytest.raises(SourceError, match="does not answer"):
        source.read()


def burn(cores: int, seconds: float) -> list[subprocess.Popen[bytes]]:
    code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    return [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(cores)]


@pytest.fixture
def no_hidden_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for key in [key for key in os.environ if key.upper().startswith("CODECARBON_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_codecarbon_gives_positive_joules_for_short_and_sliced_windows(no_hidden_config: Path) -> None:
    probe = codecarbon.probe("", {}, "cpu")
    assert isinstance(probe, Found)
    source = probe.source
    assert isinstance(source, codecarbon.CodecarbonSource)
    assert {"version", "cpu_mode", "cpu_tdp_w", "memory_power_w"} <= source.info.params.keys()
    source.open()
    try:
        memory_w = source.info.params["memory_power_w"]
        for span_s in (0.3, 1.2):  # the second is cut into three slices
            children = burn(os.cpu_count() or 1, span_s)
            began_s = time.perf_counter()
            source.begin()
            time.sleep(span_s)
            joules = source.end()
            longest_s = time.perf_counter() - began_s
            for child in children:
                child.wait()
            assert math.isfinite(joules)
            # the memory's constant alone is a lower bound; a busy processor cannot halve it or get lost
            if memory_w:
                assert joules >= 0.97 * memory_w * span_s
                assert joules <= longest_s * (memory_w + 5000)
            assert joules > 0
    finally:
        source.close()
    assert list(no_hidden_config.iterdir()) == []  # no emissions.csv, no lock file


def test_codecarbon_needs_no_home_folder(no_hidden_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME", raising=False)
    expand = Path.expanduser
    monkeypatch.setattr(Path, "expanduser", lambda path: expand(path) if "HOME" in os.environ else unknown())
    assert isinstance(codecarbon.probe("", {}, "cpu"), Found)
    assert "HOME" not in os.environ


def test_codecarbon_slices_are_summed_and_the_seams_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [50.0]

    class Tracker:
        """10 W, but deaf for 0.1 s at each start, as the real one is on slow machines."""

        _tasks: dict[str, object] = {}  # noqa: RUF012

        def start_task(self) -> None:
            now_s[0] += 0.1
            self.began_s = now_s[0]

        def stop_task(self) -> types.SimpleNamespace:
            joules = 10.0 * (now_s[0] - self.began_s)
            return types.SimpleNamespace(energy_consumed=joules / codecarbon.J_PER_KWH)

    monkeypatch.setattr(codecarbon, "SLICE_S", 3600.0)  # the test cuts, not the thread
    monkeypatch.setattr(codecarbon, "time", types.SimpleNamespace(perf_counter=lambda: now_s[0]))
    source = codecarbon.CodecarbonSource()
    source._tracker = Tracker()
    source.begin()
    for _ in range(3):
        now_s[0] += 0.4
        source._stop_slice()
        source._start_slice()
    now_s[0] += 0.2
    # four slices of 1.4 s together, and three seams of 0.1 s
    assert source.end() == pytest.approx(10.0 * 1.7)


def test_codecarbon_that_gives_nothing_is_a_dead_source(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tracker:
        def start_task(self) -> None: ...

        def stop_task(self) -> None: ...

    source = codecarbon.CodecarbonSource()
    source._tracker = Tracker()
    source.begin()
    with pytest.raises(SourceError, match="gave nothing"):
        source.end()
    with pytest.raises(SourceError, match="no window"):
        source.end()


def test_hidden_configuration_of_codecarbon_is_refused(no_hidden_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECARBON_FORCE_CPU_POWER", "3")
    probe = codecarbon.probe("", {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "CODECARBON_FORCE_CPU_POWER" in probe.reason
    monkeypatch.delenv("CODECARBON_FORCE_CPU_POWER")
    (no_hidden_config / ".codecarbon.config").write_text("[codecarbon]\npue = 2\n")
    probe = codecarbon.probe("", {}, "cpu")
    assert isinstance(probe, NotFound)
    assert ".codecarbon.config" in probe.reason


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("time,watts\n0,1\n1,1\n", "line 1: expected the header 't_s,power_w'"),
        ("t_s,power_w\n0,1\n1,many\n", "line 3: expected two numbers"),
        ("t_s,power_w\n0,1\n1,nan\n", "line 3: expected two numbers"),
        ("t_s,power_w\n0,1,2\n1,2\n", "line 2: expected two numbers"),
        ("t_s,power_w\n0,1\n0,2\n", "line 3: 0.0 s does not come after 0.0 s"),
        ("t_s,power_w\n0,1\n", "holds 1 samples"),
        ("", "holds 0 samples"),
    ],
)
def test_a_replay_says_what_is_wrong_with_its_file(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(SourceUnavailableError) as caught:
        replay.load(path)
    assert complaint in str(caught.value)


def test_a_replay_reads_gzip_and_not_what_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    whole = gzip.compress(b"# meter\nt_s,power_w\n0,1.5\n1,2.5\n")
    path.write_bytes(whole)
    assert replay.load(path) == [(0.0, 1.5), (1.0, 2.5)]
    path.write_bytes(whole[:-9])
    with pytest.raises(SourceUnavailableError, match="cannot read"):
        replay.load(path)
    with pytest.raises(SourceUnavailableError, match="cannot read"):
        replay.load(tmp_path / "absent.csv")


def test_a_simulation_with_other_numbers_can_be_asked_for_again_by_its_name() -> None:
    found = simulated.probe("", {"power_w": "7.5"}, "cpu")
    assert isinstance(found, Found)
    assert found.source.info.name == "simulated?power_w=7.5"
    with pytest.raises(UnknownSourceError, match="did you mean 'power_w'"):
        simulated.probe("", {"pover_w": "7"}, "cpu")
    for bad in ({"power_w": "-1"}, {"power_w": "lots"}, {"idle_w": "inf"}, {"period_s": "0"}):
        with pytest.raises(UnknownSourceError):
            simulated.probe("", bad, "cpu")


def test_the_info_of_a_source_is_plain_data() -> None:
    found = simulated.probe("", {}, "cpu")
    assert isinstance(found, Found)
    info = replace(found.source.info, device={"model": "x"})
    assert info.to_dict()["params"]["power_w"] == 5.0
    assert info.to_dict()["device"] == {"model": "x"}
