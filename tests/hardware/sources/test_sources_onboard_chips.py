"""The power chip of a Raspberry Pi 5 behind a made-up vcgencmd, GPUs and Apple silicon behind made-up libraries."""

from __future__ import annotations

import os
import socket
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import SourceError, choose
from hardware.device import vcgencmd
from hardware.source import Found, NoPermission, NotFound
from hardware.sources import codecarbon, nvml, pmic, zeus_soc

LISTING = """\
3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=10.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""
"""A real listing of a Raspberry Pi 5."""

VOLTS_ONLY = "     EXT5V_V volt(24)=5.06788000V\n      BATT_V volt(25)=3.01110800V\n"


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``vcgencmd`` prints, in a file; it is the only one on the PATH besides the shell's own."""
    answer = tmp_path / "answer"
    answer.write_text(LISTING)
    program = tmp_path / "bin" / "vcgencmd"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = pmic_read_adc ] || exit 9\ncat {answer}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return answer


def test_the_real_listing_has_twelve_rails_and_their_sum() -> None:
    rails_w = pmic.rail_powers_w(LISTING)
    assert len(rails_w) == 12
    assert sum(rails_w.values()) == pytest.approx(10.799894, abs=1e-6)
    assert rails_w["VDD_CORE"] == pytest.approx(9.76143, abs=1e-5)
    assert not {"EXT5V", "BATT"} & rails_w.keys()
    # some print several entries on a line
    assert pmic.rail_powers_w(LISTING.replace("\n", " ")) == rails_w


@pytest.mark.parametrize("listing", [VOLTS_ONLY, "", "error=1 error_msg='Command not registered'", "A_A current(0)=1A"])
def test_no_current_is_no_power_and_not_a_power_of_0(listing: str) -> None:
    with pytest.raises(SourceError, match="no rail's current and voltage"):
        pmic.rail_powers_w(listing)


def test_a_rail_twice_is_nonsense() -> None:
    with pytest.raises(SourceError, match="gives HDMI_A twice"):
        pmic.rail_powers_w(LISTING + "HDMI_A current(22)=0.1A\n")


def spliced(where: int, length: int, text: str) -> str:
    return LISTING[:where] + text + LISTING[where + length :]


DAMAGED = st.builds(spliced, st.integers(0, len(LISTING)), st.integers(0, 400), st.text(max_size=8))


@pytest.mark.parametrize("inputs", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_whatever_the_firmware_prints_is_a_power_or_a_source_error(inputs: int) -> None:
    @settings(max_examples=inputs, deadline=None, database=None)
    @given(st.one_of(DAMAGED, st.text(max_size=40)))
    def check(listing: str) -> None:
        try:
            rails_w = pmic.rail_powers_w(listing)
        except SourceError:
            return
        assert rails_w
        assert all(0 <= power_w < 1e8 for power_w in rails_w.values())

    check()


def test_the_pmic_is_found_and_polled(firmware: Path) -> None:
    choice = choose("pmic")
    assert "12 rails show 10.80 W" in choice.why
    source = choice.source
    assert isinstance(source, pmic.PmicSource)
    assert (source.info.scope, source.info.gain_u, len(source.info.covers)) == ("rail", 0.07, 12)
    assert source.info.period_s >= 0.2
    source.open()
    [(_, power_w)] = source.poll()
    assert power_w == pytest.approx(10.799894, abs=1e-6)


def test_a_reading_that_fails_or_lacks_a_rail_is_a_missing_sample(firmware: Path) -> None:
    source = choose("pmic").source
    assert isinstance(source, pmic.PmicSource)
    firmware.write_text("\n".join(line for line in LISTING.splitlines() if "HDMI" not in line))
    assert source.poll() == []
    assert (source.health.lost, source.health.problem) == (1, "11 rails instead of 12")
    firmware.unlink()
    assert source.poll() == []
    assert source.health.lost == 2
    firmware.write_text(LISTING)
    assert len(source.poll()) == 1
    firmware.unlink()
    with pytest.raises(SourceError, match="does not answer"):
        source.open()


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ('echo "Can\'t open device file: /dev/vcio" >&2; exit 255', NoPermission, "usermod -aG video"),
        ("echo 'error=1 error_msg=\"Command not registered\"'", NotFound, "only the Raspberry Pi 5"),
        ("echo 'error=1'; exit 1", NotFound, "only the Raspberry Pi 5"),
        ("printf '\\377\\376'", NotFound, "only the Raspberry Pi 5"),
        ("exec sleep 30", NotFound, "did not answer within"),
    ],
)
def test_a_pi_that_does_not_tell_says_why(
    firmware: Path, monkeypatch: pytest.MonkeyPatch, script: str, kind: type, text: str
) -> None:
    monkeypatch.setattr(vcgencmd, "LIMIT_S", 0.5)
    (firmware.parent / "bin/vcgencmd").write_text(f"#!/bin/sh\n{script}\n")
    probe = pmic.probe("", {}, "cpu")
    assert isinstance(probe, kind)
    assert text in str(probe)


def test_no_vcgencmd_is_no_raspberry_pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(pmic.probe("", {}, "cpu"), NotFound)
    with pytest.raises(vcgencmd.VcgencmdError, match="not installed"):
        vcgencmd.ask("measure_temp")


class Cards:
    """What the sources ask zeus's collection of cards."""

    gpus = ("first", "second")

    def __init__(self) -> None:
        self.lost = False

    def get_name(self, index: int) -> str:
        return f"Card {index}"

    def get_instant_power_usage(self, index: int) -> int:
        if self.lost:
            raise RuntimeError("GPU is lost")
        return 61_500 + index

    def get_average_power_usage(self, index: int) -> int:
        raise RuntimeError("Not Supported")

    def supports_get_total_energy_consumption(self, index: int) -> bool:
        return index == 0

    def get_total_energy_consumption(self, index: int) -> int:
        return 1000


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    import zeus.device.gpu as zeus_gpu

    made = Cards()
    monkeypatch.setattr(zeus_gpu, "nvml_is_available", lambda: True)
    monkeypatch.setattr(zeus_gpu, "get_gpus", lambda: made)
    return made


def test_the_power_of_a_card_is_sampled_and_its_loss_ends_the_source(cards: Cards) -> None:
    probe = nvml.probe_power("", {}, "cuda:1")
    assert isinstance(probe, Found)
    source = probe.source
    assert isinstance(source, nvml.NvmlPowerSource)
    source.open()
    assert source.poll()[0][1] == pytest.approx(61.501)
    assert (source.info.kind, source.info.name, source.info.device["index"]) == ("power", "nvml-power", 1)
    cards.lost = True
    with pytest.raises(SourceError, match="GPU is lost"):
        source.poll()
    average = nvml.probe_power("average", {}, "cuda")
    assert isinstance(average, NotFound)
    assert "does not show its average power" in average.reason


def test_cards_without_a_counter_and_cards_that_are_not_there(cards: Cards) -> None:
    assert isinstance(nvml.probe("", {}, "cuda"), Found)
    for device, text in (("cuda:1", "has no energy counter"), ("cuda:2", "there is no card 2")):
        probe = nvml.probe("", {}, device)
        assert isinstance(probe, NotFound)
        assert text in probe.reason


def test_an_amd_card_is_counted_through_zeus(cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    import zeus.device.gpu as zeus_gpu

    assert "use nvml" in str(registry_probe("zeus-gpu", "cuda"))
    monkeypatch.setattr(zeus_gpu, "nvml_is_available", lambda: False)
    monkeypatch.setattr(zeus_gpu, "amdsmi_is_available", lambda: True)
    probe = registry_probe("zeus-gpu", "cuda")
    assert isinstance(probe, Found)
    assert (probe.source.info.name, probe.source.info.kind) == ("zeus-gpu", "counter")
    assert "does not trust" in str(registry_probe("zeus-gpu", "cuda:1"))


def registry_probe(name: str, device: str) -> object:
    from hardware.registry import probe_one

    return probe_one(name, device=device)[1]


def test_the_parts_of_an_apple_chip_are_added_and_cores_not_counted_twice() -> None:
    measured = types.SimpleNamespace(
        cpu_total_mj=4000, efficiency_cores_mj=[1, 2], dram_mj=500, gpu_mj=1000, gpu_sram_mj=None, ane_mj=0
    )
    source = zeus_soc.ZeusSocSource(types.SimpleNamespace(get_total_energy_consumption=lambda: measured))
    assert source.info.covers == ("cpu", "memory", "gpu", "neural engine")
    source.open()
    measured.gpu_mj = 2500
    assert source.read()[1] == pytest.approx(7.0)
    measured.gpu_mj = 0
    with pytest.raises(SourceError, match="backwards"):
        source.read()
    measured.gpu_mj = None
    with pytest.raises(SourceError, match="not counted any more"):
        source.read()
    assert isinstance(zeus_soc.probe("", {}, "cpu"), Found | NotFound)


def test_codecarbon_makes_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"codecarbon went to the network: {args}")

    for key in [key for key in os.environ if key.upper().startswith("CODECARBON_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    probe = codecarbon.probe("", {}, "cpu")
    assert isinstance(probe, Found)
    source = probe.source
    assert isinstance(source, codecarbon.CodecarbonSource)
    source.open()
    source.begin()
    assert source.end() >= 0
    source.close()
