"""Names, the order of the automatic choice, probes that misbehave, silence, and the facts about the device."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from hardware import SourceUnavailableError, UnknownSourceError, choose, open_source, probe_all, registry
from hardware.device import machine as device
from hardware.source import Found, NoPermission, NotFound, NullSource, Probe, SourceInfo
from hardware.sources.quiet import Muted, silenced


class Fake(NullSource):
    def __init__(self, name: str, kind: str = "counter") -> None:
        self._info = SourceInfo(name=name, kind=kind, scope="cpu", covers=(), period_s=0.1, gain_u=0.1)  # type: ignore[arg-type]

    @property
    def info(self) -> SourceInfo:
        return self._info


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What each of the sources answers; an exception is raised, anything callable is called."""
    answers: dict[str, object] = {
        "rapl": Found(Fake("rapl"), "it is here"),
        "nvml": Found(Fake("nvml"), "it is here"),
        "codecarbon": Found(Fake("codecarbon", "estimate"), "a model"),
    }

    def module(path: str) -> types.SimpleNamespace:
        def probe(argument: str, params: dict[str, str], device: str) -> Probe:
            answer = answers.get(path.rpartition(".")[2], NotFound("not in this test"))
            if isinstance(answer, BaseException):
                raise answer
            return answer() if callable(answer) else answer  # type: ignore[return-value]

        return types.SimpleNamespace(probe=probe)

    monkeypatch.setattr(registry.importlib, "import_module", module)
    return answers


@pytest.mark.parametrize(
    ("torch_device", "missing", "chosen"),
    [
        ("cpu", (), "rapl"),
        ("cuda:1", (), "nvml"),
        ("cpu", ("rapl",), "codecarbon"),  # a card's counter does not see the processor
        ("cuda", ("nvml",), "codecarbon"),
        ("mps", (), "codecarbon"),
    ],
)
def test_auto_takes_the_first_source_that_sees_the_device(
    probes: dict[str, object], torch_device: str, missing: tuple[str, ...], chosen: str
) -> None:
    for name in missing:
        probes[name] = NotFound("absent")
    choice = choose("auto", device=torch_device)
    assert choice.source.info.name == chosen
    assert choice.probes[-1][0] == chosen
    assert ("not a measurement" in choice.why) == (chosen == "codecarbon")


@pytest.mark.parametrize(
    ("here", "torch_device", "chosen"),
    [
        ("hwmon", "cpu", "hwmon"),  # the whole board before a part of it
        ("hwmon", "cuda", "nvml"),  # a USB-C meter feeds no machine with such a card
        ("jetson", "cuda:0", "jetson"),
        ("pmic", "cpu", "rapl"),
        ("battery", "cpu", "rapl"),
        ("um25c", "cpu", "rapl"),
    ],
)
def test_auto_ranks_by_how_much_of_the_device_is_inside(
    probes: dict[str, object], here: str, torch_device: str, chosen: str
) -> None:
    probes[here] = Found(Fake(here, "power"), "it is here")
    assert choose("auto", device=torch_device).source.info.name == chosen
    if chosen == "rapl":
        probes["rapl"] = NotFound("absent")
        named_only = here in ("battery", "um25c")
        assert choose("auto", device=torch_device).source.info.name == ("codecarbon" if named_only else here)


def test_auto_says_when_a_counter_is_here_but_barred(probes: dict[str, object]) -> None:
    probes["rapl"] = NoPermission("only root may read it")
    choice = choose()
    assert choice.source.info.name == "codecarbon"
    assert "rapl is here, but only root may read it" in choice.why


def test_a_named_source_is_never_replaced(probes: dict[str, object]) -> None:
    probes["rapl"] = NotFound("this kernel has none")
    with pytest.raises(SourceUnavailableError, match="rapl cannot be used: this kernel has none"):
        choose("rapl")
    assert "does not see work done on cpu" in choose("nvml", device="cpu").why


def test_nothing_found_names_every_reason_and_the_way_out(probes: dict[str, object]) -> None:
    probes["rapl"] = NotFound("reason one")
    probes["codecarbon"] = RuntimeError("reason two")
    with pytest.raises(SourceUnavailableError) as caught:
        choose()
    message = str(caught.value)
    assert "reason one" in message
    assert "RuntimeError: reason two" in message
    assert "'none'" in message


def test_probing_survives_whatever_a_driver_does(probes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()
    probes["rapl"] = ZeroDivisionError("oops")
    probes["nvml"] = SourceUnavailableError("in our own words")
    probes["codecarbon"] = lambda: hanging.wait(60)
    monkeypatch.setattr(registry, "PROBE_LIMIT_S", 1.0)
    found = dict(probe_all())
    hanging.set()
    assert list(found) == list(registry.SOURCES)
    assert found["rapl"] == NotFound("ZeroDivisionError: oops")
    assert found["nvml"] == NotFound("in our own words")
    assert isinstance(found["codecarbon"], NotFound)
    assert "did not answer within" in found["codecarbon"].reason


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("rappl", "did you mean 'rapl'"),
        ("code-carbon", "did you mean 'codecarbon'"),
        ("zzz", "choose from auto, hwmon"),
        ("simulated?watts=3", "unknown parameter of 'simulated' 'watts'"),
        ("none?x=1", "takes no parameters"),
        ("rapl?psys=1", "takes no parameters"),
        ("rapl:0", "'rapl' takes nothing after a colon, not '0'"),
        ("rappl:0?x=1", "did you mean 'rapl'"),
        ("battery:solar", "choose from counter, power"),
        ("nvml-power:averag", "did you mean 'average'"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnknownSourceError) as caught:
        choose(name)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_with_arguments(tmp_path: Path) -> None:
    trace = tmp_path / "a?b=c:d.csv"
    trace.write_text("t_s,power_w\n0,1\n1,1\n2,1\n")
    # results are published, so the name has no folders of this machine
    found = choose(f"replay:{trace}")
    assert found.source.info.name == f"replay:{trace.name}"
    assert found.source.info.params["sha256"] == hashlib.sha256(trace.read_bytes()).hexdigest()
    assert str(trace.parent) not in found.why
    with pytest.raises(SourceUnavailableError, match="cannot read"):
        choose("replay:nowhere.csv")
    with pytest.raises(SourceUnavailableError, match="name the trace"):
        choose("replay")
    source = open_source("simulated?power_w=9&idle_w=1")
    assert source.info.params == {"power_w": 9.0, "idle_w": 1.0, "period_s": 0.02}
    assert choose("none").source.info.kind == "none"


def test_the_page_on_sources_names_each_of_them_and_the_order_of_auto() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sources.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, entry in registry.SOURCES.items():
        assert any(re.search(rf"`{re.escape(name)}[`:?]", row) for row in rows), name
        assert not entry.argument or f"`{name}:" in page
    order = page.partition("in order\n\n")[2].partition("\n\n")[0]
    assert re.findall(r"`([\w-]+)`", order) == [name for name, entry in registry.SOURCES.items() if entry.auto_for]


QUIET = """
import time
from pathlib import Path
import hardware
for name, probe in hardware.probe_all():
    assert type(probe).__name__ in ("Found", "NotFound", "NoPermission"), probe
for name in ("codecarbon", "simulated"):
    sampler = hardware.Sampler(hardware.choose(name).source, Path("traces"))
    sampler.start()
    idle = sampler.measure_idle(0.2)
    window = sampler.open_window("w", guard_s=0.05)
    t0 = time.monotonic()
    time.sleep(0.6)
    result = window.close(t0_s=t0, t1_s=time.monotonic(), idle=idle)
    assert result.energy_gross_j > 0, result
    sampler.stop()
"""


def _clean_environment(folder: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith("CODECARBON_")}
    return kept | {"PYTHONPATH": root, "HOME": str(folder)}


def test_nothing_is_ever_printed_and_no_file_left_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        cwd=tmp_path,
        env=_clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["traces"]
    idle, window = sorted(path.name for path in (tmp_path / "traces").iterdir())
    assert idle.startswith("idle_")
    assert window == "w.csv.gz"


def test_silence_reaches_descriptors_and_loggers_and_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced():
        os.write(1, b"from C")
        os.write(2, b"from C")
        print("from Python")
        print("from Python", file=sys.stderr)
    logger = logging.getLogger("a.loud.package")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    muted = Muted("a.loud.package")
    logger.error("the sky\nis falling")
    logger.removeHandler(handler)
    assert muted.last_warning == "the sky"
    print("audible again")
    assert capfd.readouterr() == ("audible again\n", "")


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, hardware, hardware.device.machine; "
        "print(sorted({'torch', 'pandas', 'numpy', 'zeus', 'codecarbon', 'psutil', 'bench'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=_clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_facts_of_a_raspberry_pi(tmp_path: Path) -> None:
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    put(
        tmp_path,
        "proc/cpuinfo",
        "processor\t: 0\nBogoMIPS\t: 108\n\nModel\t: Raspberry Pi 5 Model B Rev 1.0\n",
    )
    put(tmp_path, "proc/meminfo", "MemTotal:        8256000 kB\nMemFree: 1 kB\n")
    put(tmp_path, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n')
    for cpu, khz in enumerate((1500000, 2400000)):
        put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{khz}\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "2400000\n")
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48250\n")
    put(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    facts = device.facts(tmp_path)
    assert facts.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert facts.memory_bytes == 8256000 * 1024
    assert (facts.os, facts.governor) == ("Debian GNU/Linux 12", "ondemand")
    assert (facts.frequency_min_hz, facts.frequency_max_hz, facts.virtual) == (None, 2.4e9, None)
    now = device.snapshot(tmp_path)
    assert (now.temperature_c, now.frequency_hz, now.throttle_bits) == (pytest.approx(48.25), 1.95e9, 0x50005)
    assert (now.frequency_min_hz, now.frequency_max_hz) == (1.5e9, 2.4e9)


def test_the_throttle_bits_of_a_raspberry_pi_5_and_of_one_that_must_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "e0008\n")
    assert device.snapshot(tmp_path).throttle_bits == 0xE0008
    program = tmp_path / "bin/vcgencmd"
    put(tmp_path, "bin/vcgencmd", "#!/bin/sh\n[ $1 = get_throttled ] && echo throttled=0x50005\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(device, "ROOT", tmp_path / "sysless")
    assert device.snapshot(tmp_path / "sysless").throttle_bits == 0x50005
    for answer in ("exit 255", "echo rubbish", "echo throttled="):
        program.write_text(f"#!/bin/sh\n{answer}\n")
        assert device.snapshot(tmp_path / "sysless").throttle_bits is None


def test_bits_of_a_raspberry_pi_and_counts_of_x86_are_two_things(tmp_path: Path) -> None:
    for cpu, count in enumerate((3, 4)):
        put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/package_throttle_count", f"{count}\n")
    now = device.snapshot(tmp_path)
    assert (now.throttle_bits, now.throttle_count) == (None, 7)
    put(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n")
    assert device.snapshot(tmp_path).throttle_bits == 0x50000


def test_a_machine_that_tells_nothing_has_no_facts_and_no_errors(tmp_path: Path) -> None:
    assert device.facts(tmp_path).memory_bytes is None
    nothing = device.Snapshot(temperature_c=None, frequency_hz=None, governor=None)
    assert device.snapshot(tmp_path) == nothing
    assert device.cpu_times(tmp_path) is None


def test_the_load_of_the_machine_comes_from_proc_stat(tmp_path: Path) -> None:
    put(tmp_path, "proc/stat", "cpu  10 1 5 80 4 0 2 1 7 7\ncpu0 10 1 5 80 4 0 2 1 7 7\n")
    assert device.cpu_times(tmp_path) == (19.0, 103.0)
