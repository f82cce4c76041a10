"""The meters' frames, byte for byte. Captures are of real meters; whatever a test calls synthetic was made here."""

from __future__ import annotations

import re
import struct
from functools import reduce
from operator import xor
from pathlib import Path

import pytest

from hardware.wire import csv_lines, fnirsi, lpm01a, ppk2, tc66, um
from hardware.wire.crc import crc8_fnirsi, crc16_modbus
from hardware.wire.reading import Reading

CAPTURES = Path(__file__).resolve().parents[1] / "captures"


def capture(name: str) -> bytes:
    """The bytes of a file in captures/; its first line says where they are from."""
    lines = (CAPTURES / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


UM24C_CAPTURE = capture("um24c")
TC66C_CAPTURE = capture("tc66c")


def um25c_synthetic(watts: str = "000018b4") -> bytes:
    frame = capture("um25c-synthetic")
    return frame[:6] + bytes.fromhex(watts) + frame[10:]


# -- checksums and ciphers ------------------------------------------------------------------------------


def test_crc16_modbus_gives_the_published_check_value() -> None:
    assert crc16_modbus(b"123456789") == 0x4B37


@pytest.mark.parametrize(("number", "crc"), [(0x81, 0x8E), (0x82, 0x96), (0x83, 0x9E)])
def test_fnirsi_commands_carry_the_published_checksums(number: int, crc: int) -> None:
    sent = fnirsi.command(number)
    assert (len(sent), sent[0], sent[1], sent[63]) == (64, 0xAA, number, crc)
    assert not any(sent[2:63])


def test_aes_256_decrypts_the_example_c3_of_fips_197() -> None:
    key = bytes(range(32))
    assert (
        tc66.decrypt(bytes.fromhex("8ea2b7ca516745bfeafc49904b496089"), key).hex() == "00112233445566778899aabbccddeeff"
    )
    assert (
        tc66.encrypt(bytes.fromhex("00112233445566778899aabbccddeeff"), key).hex() == "8ea2b7ca516745bfeafc49904b496089"
    )


# -- UM -------------------------------------------------------------------------------------------------


def test_um24c_capture() -> None:
    assert len(UM24C_CAPTURE) == 130
    frame = um.decode(UM24C_CAPTURE)
    assert frame == um.UmFrame(
        model=um.MODELS[0x0963],
        volts=5.02,
        amps=0.05,
        watts=0.251,
        temperature_c=24,
        temperature_f=75,
        group=0,
        groups=((403, 2016),) + ((0, 0),) * 9,
        d_plus_v=3.06,
        d_minus_v=0.0,
        charge_mode=0,
        recorded_mah=403,
        recorded_mwh=2016,
        record_threshold_a=0.03,
        recorded_s=13240,
        recording=True,
        screen_timeout_min=3,
        backlight=5,
        resistance_ohm=100.4,
        screen=0,
    )
    assert frame.reading == Reading(volts=5.02, amps=0.05, watts=0.251, energy_j=2016 * 3.6)
    assert frame.model.scale.complaint(frame.reading) is None


def test_um25c_synthetic_has_finer_scales() -> None:
    reading = um.decode(um25c_synthetic()).reading
    assert (reading.volts, reading.amps, reading.watts) == (5.123, 1.2345, 6.324)
    assert um.MODELS[0x09C9].scale.complaint(reading) is None


def test_um25c_synthetic_with_ten_times_the_power_is_refused() -> None:
    reading = um.decode(um25c_synthetic("0000f70b")).reading
    assert reading.watts == 63.243
    assert "63.243 W" in (um.MODELS[0x09C9].scale.complaint(reading) or "")


def test_um34c_synthetic_is_checked_by_its_checksum() -> None:
    frame = capture("um34c-synthetic")
    assert reduce(xor, (frame[i] for i in um.CHECKED_BYTES)) == 0x1E
    decoded = um.decode(frame)
    assert (decoded.volts, decoded.amps, decoded.watts, decoded.resistance_ohm) == (5.12, 1.234, 6.318, 10.0)
    assert decoded.groups[0] == (1234, 5678)
    with pytest.raises(um.UmError, match="checksum"):
        um.decode(frame[:129] + b"\x1f")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (UM24C_CAPTURE[:-1], "129 bytes"),
        (b"\x12\x34" + UM24C_CAPTURE[2:], "0x1234"),
        (UM24C_CAPTURE[:-1] + b"\xf0", "fff0"),
    ],
)
def test_a_broken_um_frame_says_why(broken: bytes, why: str) -> None:
    with pytest.raises(um.UmError, match=why):
        um.decode(broken)


# -- TC66 -----------------------------------------------------------------------------------------------


def test_tc66c_capture() -> None:
    plain = tc66.decrypt(TC66C_CAPTURE)
    assert plain[:12] == b"pac1TC661.18"
    crcs = [crc16_modbus(plain[start : start + 60]) for start in (0, 64, 128)]
    assert crcs == [0x77BE, 0x816A, 0x0528]
    frame = tc66.decode(TC66C_CAPTURE)
    assert frame == tc66.Tc66Frame(
        product="TC66",
        firmware="1.18",
        serial=48724,
        runs=40,
        volts=5.1609,
        amps=0.0199,
        watts=0.1026,
        resistance_ohm=259.3,
        groups=((0, 5), (0, 0)),
        temperature_c=27,
        d_plus_v=2.81,
        d_minus_v=2.8,
    )
    assert frame.reading.energy_j == pytest.approx(18.0)
    assert tc66.SCALE.complaint(frame.reading) is None
    # volts over amperes: the scale of the resistance is right
    assert frame.volts / frame.amps == pytest.approx(frame.resistance_ohm, rel=2e-4)


def test_tc66_blocks_are_found_by_name_and_frost_by_its_sign_synthetic() -> None:
    plain = bytearray(tc66.decrypt(TC66C_CAPTURE))
    struct.pack_into("<I", plain, 64 + 24, 1)
    struct.pack_into("<I", plain, 64 + 60, crc16_modbus(bytes(plain[64:124])))
    swapped = tc66.encrypt(bytes(plain[128:192] + plain[64:128] + plain[0:64]))
    frame = tc66.decode(swapped)
    assert (frame.serial, frame.temperature_c) == (48724, -27)


@pytest.mark.parametrize("spoilt", [60, 124, 188])
def test_each_of_the_three_checksums_of_a_tc66_counts(spoilt: int) -> None:
    plain = bytearray(tc66.decrypt(TC66C_CAPTURE))
    plain[spoilt] ^= 1
    with pytest.raises(tc66.Tc66Error, match="checksum of pac"):
        tc66.decode(tc66.encrypt(bytes(plain)))


def test_a_tc66_reply_with_a_block_twice_is_refused() -> None:
    plain = tc66.decrypt(TC66C_CAPTURE)
    with pytest.raises(tc66.Tc66Error, match="pac1, pac2 and pac3"):
        tc66.decode(tc66.encrypt(plain[:64] + plain[:64] + plain[128:]))


# -- FNIRSI, all synthetic ------------------------------------------------------------------------------


def fnirsi_report(*samples: tuple[float, float], kind: int = 0x04) -> bytes:
    body = bytes([kind])
    for volts, amps in samples:
        body += struct.pack("<IIHHBH", round(volts * 1e5), round(amps * 1e5), 2700, 2710, 1, 253)
    body += bytes(62 - len(body))
    return b"\xaa" + body + bytes([crc8_fnirsi(body)])


FOUR = ((5.1, 1.0), (5.11, 1.25), (5.12, 1.5), (5.13, 0.00001))


def test_a_synthetic_fnirsi_report_has_four_samples() -> None:
    assert fnirsi_report(*FOUR) == capture("fnirsi-synthetic")
    samples = fnirsi.decode(fnirsi_report(*FOUR))
    assert [(sample.volts, sample.amps) for sample in samples] == list(FOUR)
    assert (samples[0].d_plus_v, samples[0].d_minus_v, samples[0].temperature_c) == (2.7, 2.71, 25.3)


def test_synthetic_fnirsi_stream_drops_the_first_report_and_counts_what_it_could_not_read() -> None:
    decoder = fnirsi.FnirsiDecoder()
    good = fnirsi_report(*FOUR)
    assert decoder.feed(good) == []
    assert [reading.device_s for reading in decoder.feed(good)] == [0.0, 0.01, 0.02, 0.03]
    assert decoder.feed(good[:-1] + bytes([good[-1] ^ 1])) == []
    assert decoder.feed(fnirsi_report(kind=0x03)) == []
    assert decoder.bad == 1
    # the broken report took its 40 ms all the same
    assert decoder.feed(good)[0].device_s == pytest.approx(0.08)


# -- PPK2, all synthetic --------------------------------------------------------------------------------

CALIBRATION = (CAPTURES / "ppk2-calibration-synthetic.txt").read_bytes()


def test_a_synthetic_ppk2_sample_and_its_current() -> None:
    samples = ppk2.decode(bytes.fromhex("e8831405"))
    assert (samples.adc[0], samples.range[0], samples.logic[0]) == (4000, 2, 5)
    amps = ppk2.Calibration().amps(samples, 3.3)
    assert amps[0] * 1e6 == pytest.approx(4348.33, abs=0.01)


def test_ppk2_calibration_skips_nan_and_shunts_of_nothing() -> None:
    calibration = ppk2.decode_calibration(CALIBRATION)
    assert calibration.constants["R"] == (1003.3506, 101.5865, 10.15, 0.94, 0.052)
    assert calibration.constants["GS"][4] == 1.0
    assert calibration.constants["O"][0] == 112.789
    assert calibration.reported == 10
    # 0 of the converter, with the offset taken off, in the first range
    g = -112.789 * ppk2.ADC_VOLTS / 1003.3506
    expected = g * (g + 1) + 0.000000048 * 3.3 - 0.000000104
    assert calibration.amps(ppk2.decode(bytes(4)), 3.3)[0] == pytest.approx(expected)
    with pytest.raises(ppk2.Ppk2Error, match="END"):
        ppk2.decode_calibration(CALIBRATION[:-4])
    with pytest.raises(ppk2.Ppk2Error, match="shunts"):
        ppk2.decode_calibration(b"hello\nEND\n")


def ppk2_stream(count: int, *, start: int = 0) -> bytes:
    """Samples whose converter shows their own number."""
    words = [(index & 0x3FFF) | 2 << 14 | (index % 64) << 18 | 0xA5 << 24 for index in range(start, start + count)]
    return struct.pack(f"<{count}I", *words)


def test_synthetic_ppk2_stream_loses_only_what_is_missing_and_finds_the_frame_again() -> None:
    stream = ppk2_stream(400)
    decoder = ppk2.Ppk2Decoder()
    # 10 samples missing; then one byte
    samples = decoder.feed(stream[:400] + stream[440:800] + stream[801:])
    assert list(samples.index) == [*range(100), *range(110, 200), *range(201, 400)]
    assert list(samples.adc // 4) == list(samples.index)
    assert (decoder.lost, decoder.bad) == (11, 1)


def test_ppk2_text_before_the_stream_is_passed_over() -> None:
    decoder = ppk2.Ppk2Decoder()
    samples = decoder.feed(CALIBRATION + ppk2_stream(50))
    assert (len(samples), decoder.lost, decoder.bad) == (50, 0, 1)


# -- LPM01A, all synthetic ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "amps"), [("6409-07", 640.9e-6), ("0012+00", 12.0), ("1234+01", 12340.0), ("0000-09", 0.0)]
)
def test_synthetic_lpm01a_lines_with_either_sign(line: str, amps: float) -> None:
    assert lpm01a.decode_line(line) == lpm01a.Item("current", pytest.approx(amps, rel=1e-15))


def test_synthetic_lpm01a_text_stream() -> None:
    decoder = lpm01a.TextDecoder()
    items = decoder.feed(
        b"PowerShield > ack start\r\n\r\n6409-07\r\nTimeStamp: 1s 250ms, buff 3%\r\n409-07\r\n6410-07\r\nend\r\n"
    )
    assert [item.kind for item in items] == ["message", "current", "time", "current", "end"]
    assert items[2].value == 1.25
    assert decoder.bad == 1


def test_synthetic_lpm01a_binary_stream() -> None:
    assert lpm01a.decode_sample(bytes.fromhex("528e")).value == pytest.approx(0.00062370, abs=5e-9)
    decoder = lpm01a.BinaryDecoder()
    items = decoder.feed(
        bytes.fromhex("f0f380000bb805ffff528ef0f70ce4ffff0001f0f5ffff") + b"\xf0\xf1too much\xff\xff\xf0\xf4\xff\xff"
    )
    assert [item.kind for item in items] == ["time", "current", "voltage", "current", "overcurrent", "error", "end"]
    # the top bit of the time marks an overflow
    assert (items[0].value, items[2].value, items[3].value, items[5].text) == (3.0, 3.3, 1.0, "too much")
    assert decoder.bad == 0
    assert [item.value for item in decoder.feed(bytes.fromhex("f9f90002"))] == [2.0]
    assert decoder.bad == 1


# -- CSV lines ------------------------------------------------------------------------------------------


def test_the_example_in_the_documentation_of_the_csv_lines_is_right() -> None:
    doc = csv_lines.__doc__ or ""
    text = "\n".join(re.findall(r"^    (.*)$", doc, re.MULTILINE)) + "\n"
    decoder = csv_lines.CsvDecoder()
    readings = decoder.feed(text.encode())
    assert readings == [
        Reading(volts=5.10125, amps=0.8431, watts=4.3, device_s=1.000234),
        Reading(volts=5.10125, amps=0.842975, watts=4.299, device_s=1.01829),
    ]
    assert (decoder.bad, decoder.lost) == (0, 0)


def rows(header: str, *lines: str) -> tuple[csv_lines.CsvDecoder, list[Reading]]:
    decoder = csv_lines.CsvDecoder()
    return decoder, decoder.feed("\n".join((header, *lines, "")).encode())


def test_csv_units_and_order_are_the_header_s() -> None:
    _, readings = rows("current_A,energy_mJ,bus_V,t_ms", "0.5,1500,5,10")
    assert readings == [Reading(volts=5.0, amps=0.5, watts=2.5, device_s=0.01, energy_j=1.5)]


@pytest.mark.parametrize(
    "line",
    [
        "1,2",
        "1,2,3,4",
        "1,2,x",
        "1,,3",
        "1, 2,3",
        "1e3,2,3",
        "nan,2,3",
        "1,2,3\x00",
        "0x1,2,3",
        "1_0,2,3",
        "\u0661,2,3",
    ],
)
def test_a_csv_row_that_is_not_of_the_format_is_counted_and_never_guessed_at(line: str) -> None:
    decoder, readings = rows("t_us,bus_mV,current_uA", line, "7,5000,1000")
    assert ([reading.amps for reading in readings], decoder.bad) == ([0.001], 1)


@pytest.mark.parametrize(
    "header",
    ["t_us,bus_mV", "bus_mV,bus_V,current_A", "crc,bus_V,current_A", "bus_V,current_A,volts", "bus_V,current_A "],
)
def test_a_csv_header_that_is_not_of_the_format_is_refused(header: str) -> None:
    with pytest.raises(csv_lines.CsvError):
        csv_lines.decode_header(header)


def test_csv_loss_duplicates_wraps_and_resets() -> None:
    decoder, readings = rows(
        "t_us,bus_V,current_A,seq",
        "4294967000,5,1,65534",
        "4294967000,5,1,65534",  # twice
        "4294967200,5,1,65535",
        "104,5,1,0",  # both wrap
        "304,5,1,4",  # 1, 2 and 3 are lost
        "50,5,1,0",  # a reset loses nothing that anybody knows of
        "250,5,1,1",
    )
    times_s = [reading.device_s for reading in readings]
    wrapped_s = 2**32 / 1e6
    assert times_s == pytest.approx([4294.967, 4294.9672, wrapped_s + 104e-6, wrapped_s + 304e-6, 50e-6, 250e-6])
    assert (decoder.lost, decoder.restarts, decoder.bad) == (3, 1, 0)


def test_csv_rows_say_nothing_before_the_header_nor_does_the_first_torn_line() -> None:
    decoder, readings = rows(
        "00,5000,1000", "12,5000,1000", "# hello", "", "t_us,bus_mV,current_uA\r", "14,5000,1000\r"
    )
    assert ([reading.device_s for reading in readings], decoder.bad) == ([14e-6], 0)
    assert decoder.feed(b"x" * 5000 + b"\n16,5000,1000\n")[0].device_s == 16e-6
    assert decoder.bad == 1
