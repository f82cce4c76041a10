"""The firmware on an emulated Cortex-M4 and M7 against its arithmetic in Python and against onnxruntime."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hardware.firmware import head
from hardware.firmware.arrays import BOARDS, memory, write
from hardware.firmware.board import JouletuneDut, note
from hardware.firmware.net import NetError, Plan, fixed, multiplied, plan
from hardware.wire.dut import DutError
from tests.bench.targets.conftest import Emulate, Images, Small, as_inputs, quantised, trained

Digits = tuple[Images, npt.NDArray[np.int64]]


def outputs(dut: JouletuneDut, images: Images, part: bool = False) -> npt.NDArray[np.int8]:
    found = []
    for image in images:
        dut.load(image.tobytes())
        dut.infer(1, 0, silence_s=60)
        found.append(dut.output(part))
    return np.stack(found)


@pytest.mark.parametrize(
    ("board", "rounding"), [("mps2-an386", "onnxruntime"), ("mps2-an500", "onnxruntime"), ("mps2-an500", "tflite")]
)
def test_logits_are_those_of_the_reference_to_the_last_bit(
    board: str, rounding: str, digits: Digits, digits_model: Small, emulate: Emulate
) -> None:
    images = digits[0][900:1000]
    net, runtime = quantised(digits_model, digits[0], rounding)
    expected = net.run(images)[net.output]
    with emulate(net, board=board) as dut:
        assert np.array_equal(outputs(dut, images), expected)
    rest = digits[0][900:]
    by_runtime = runtime(as_inputs(rest)).numpy().argmax(1)  # type: ignore[union-attr]  # one output
    assert np.mean(net.run(rest)[net.output].argmax(1) == by_runtime) >= 0.99
    assert np.mean(by_runtime == digits[1][900:]) > 0.8


def test_logits_of_photographs_are_those_of_the_reference(pets: Images, emulate: Emulate) -> None:
    model = trained(pets, np.arange(len(pets)) % 3, 1)
    net, runtime = quantised(model, pets)
    expected = net.run(pets)[net.output]
    with emulate(net, classes=3) as dut:
        assert np.array_equal(outputs(dut, pets[:20]), expected[:20])
    by_runtime = runtime(as_inputs(pets)).numpy().argmax(1)  # type: ignore[union-attr]  # one output
    assert np.mean(expected.argmax(1) == by_runtime) >= 0.95  # of few images; a net that has learnt nothing is unsure


def test_a_head_is_trained_and_stages_decide_as_in_numpy(digits: Digits, digits_model: Small, emulate: Emulate) -> None:
    model = copy.deepcopy(digits_model)
    model.features = True
    net, _ = quantised(model, digits[0])
    train, labels, test = digits[0][900:960], digits[1][900:960], digits[0][1000:1100]
    known, seen = net.run(train), net.run(test)
    assert net.part is not None
    x, y = (net.real(net.output, one[net.output]) for one in (known, seen))
    x_part, y_part = (net.real(net.part, one[net.part]) for one in (known, seen))
    how = {"classes": 10, "epochs": 20, "rate": 0.05, "decay": 0.001, "seed": 7}
    full, part = (head.train(one, labels, **how) for one in (x, x_part))  # type: ignore[arg-type]
    share = 0.5
    limit = head.threshold(part.probabilities(x_part).max(axis=1), share)
    with emulate(net, slots=60) as dut:
        assert dut.about is not None
        assert (dut.about.features, dut.about.part_features) == (24, 8)
        dut.clear()
        for place, (image, label) in enumerate(zip(train, labels, strict=True)):
            dut.load(image.tobytes())
            dut.add(int(label), place + 1)
        assert np.array_equal(dut.stored(59), np.concatenate([known[net.output][59], known[net.part][59]]))
        with pytest.raises(DutError, match="No place"):
            dut.add(0, 61)
        dut.mode("both")
        dut.set({"rate": 0.05, "decay": 0.001}, seed=7)
        dut.train(20, 1, silence_s=60)
        for ours, theirs in ((full, dut.head()), (part, dut.head(part=True))):
            assert np.abs(ours.weight - theirs.weight).max() < 1e-5
            assert np.abs(ours.bias - theirs.bias).max() < 1e-5
        assert dut.threshold(share) == pytest.approx(limit, abs=1e-5)
        confidence = part.probabilities(y_part).max(axis=1)
        early = confidence >= limit
        expected = np.where(early, part.probabilities(y_part).argmax(1), full.probabilities(y).argmax(1))
        dut.mode("stage")
        exits, answers = [], []
        for image in test:
            dut.load(image.tobytes())
            timed = dut.infer(1, 0, silence_s=60)
            exits.append(note(timed, "exits-part") == 1)
            answers.append(int(np.argmax(timed.results)))
        assert 10 < sum(exits) < 90
        assert exits == early.tolist()
        assert answers == expected.tolist()
        assert np.mean(np.array(answers) == digits[1][1000:1100]) > 0.6


def test_laps_are_equal_from_run_to_run(digits: Digits, digits_model: Small, emulate: Emulate) -> None:
    net, _ = quantised(digits_model, digits[0])
    seen = []
    for _ in range(2):
        with emulate(net) as dut:
            dut.load(digits[0][3].tobytes())
            timed = dut.infer(5, 1, silence_s=60)
            seen.append((timed.lap_s, note(timed, "ticks")))
    assert seen[0] == seen[1]
    assert dut.about is not None
    ticks = seen[0][1]
    assert ticks is not None
    assert 2 < (dut.about.instructions(ticks, 5) or 0) / net.macs < 40


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("nothing", "e-[Unknown command: nothing]"),
        ("infer 0 0", "e-[Inference iterations must be >0]"),
        ("train 1 0", "e-[No features are stored]"),
        ("db 123", "e-[Insufficent number of hex digits]"),
        ("db 0g", "e-[Invalid hex digit '0g']"),
        ("db load 65", "e-["),
        ("db load 99999999999", "e-["),
        ("feature add 10", "e-[No such class]"),
        ("feature print 0", "e-["),
        ("set rate 7f800000", "e-["),
        ("set seed 0", "e-["),
        ("mode none", "e-["),
        ("threshold 3f000000", "e-["),
    ],
)
def test_what_is_asked_wrongly_is_an_error_and_nothing_else(
    command: str, answer: str, protocol_board: JouletuneDut
) -> None:
    with pytest.raises(DutError) as caught:
        protocol_board.command(command)
    assert answer in str(caught.value)
    assert protocol_board.name() == "jouletune"


def test_the_whole_protocol(protocol_board: JouletuneDut) -> None:
    dut = protocol_board
    assert dut.profile() == ("ULPMark for tinyML Firmware V0.0.1", "small")
    assert dut.command("timestamp")[0].startswith("m-lap-us-")
    dut.load(bytes(range(64)))
    dut.piece = 31  # as the reference takes it
    dut.load(bytes(range(64)))
    timed = dut.infer(2, 1, silence_s=60)
    assert "m-warmup-done" in timed.notes
    assert dut.results() == list(timed.results)
    assert dut.can("train 0 0")


@pytest.fixture(scope="module")
def protocol_board(digits: Digits, digits_model: Small, tmp_path_factory: pytest.TempPathFactory) -> object:
    from hardware.instruments.emulated import EmulatedBoard, build, missing
    from hardware.meters.link import SerialLink

    if lacks := missing():
        pytest.skip(lacks)
    model = copy.deepcopy(digits_model)
    model.features = True
    net, _ = quantised(model, digits[0])
    folder = tmp_path_factory.mktemp("firmware")
    write(net, folder, slots=4, classes=10, board="mps2-an386", model="small", weights_sha256="0" * 64)
    with EmulatedBoard(build(folder, "mps2-an386"), "mps2-an386", folder / "port"):
        link = SerialLink(str(folder / "port"), 115200)
        dut = JouletuneDut(link)
        dut.connect()
        yield dut
        link.close()


# -- without an emulator ---------------------------------------------------------------------------------


def test_the_account_of_memory_is_what_the_compiler_says(digits: Digits, digits_model: Small, tmp_path: Path) -> None:
    import shutil
    import subprocess

    from hardware.instruments.emulated import build, missing

    if lacks := missing():
        pytest.skip(lacks)
    net, _ = quantised(digits_model, digits[0])
    needs = memory(net, slots=0, classes=10)
    write(net, tmp_path / "f", slots=0, classes=10, board="mps2-an500", model="m", weights_sha256="0")
    size = shutil.which("arm-none-eabi-size")
    assert size is not None
    said = subprocess.run([size, str(build(tmp_path / "f", "mps2-an500"))], capture_output=True, text=True, check=True)
    text, data, bss = (int(word) for word in said.stdout.splitlines()[1].split()[:3])
    assert 0.75 * needs.flash < text + data <= needs.flash
    assert 0.75 * needs.sram < data + bss + 4096 <= 1.02 * needs.sram


def test_what_does_not_fit_is_refused_before_anything_is_written(
    digits: Digits, digits_model: Small, tmp_path: Path
) -> None:
    model = copy.deepcopy(digits_model)
    model.features = True
    net, _ = quantised(model, digits[0])
    with pytest.raises(NetError, match=r"stm32f746ng: SRAM .* KiB more than there is"):
        write(net, tmp_path / "f", slots=20_000, classes=10, board="stm32f746ng", model="m", weights_sha256="0")
    assert not (tmp_path / "f").exists()
    assert BOARDS["stm32f746ng"].sram == 320 << 10


def test_tensors_that_live_at_once_do_not_overlap(digits: Digits, digits_model: Small) -> None:
    model = copy.deepcopy(digits_model)
    model.features = True
    net, _ = quantised(model, digits[0])
    placed: Plan = plan(net)
    last = {name: index for index, op in enumerate(net.ops) for name in op.inputs} | {
        name: len(net.ops) for name in (net.output, net.part)
    }
    for index, op in enumerate(net.ops):
        start, size = placed.offsets[op.output], net.tensors[op.output].size
        assert start + size <= placed.arena
        for other in net.ops[:index]:
            if last[other.output] > index or (other.output in op.inputs and op.kind in ("conv", "depthwise", "mean")):
                begin = placed.offsets[other.output]
                assert start + size <= begin or begin + net.tensors[other.output].size <= start


def test_fixed_point_factors_are_those_of_tensorflow_lite() -> None:
    # worked by hand: 0.75 = 0.75 * 2^31 / 2^31, and 0.3 * 1000 = 300, halves away from 0
    assert fixed(0.75) == (1610612736, 0)
    assert fixed(3.0) == (1610612736, 2)
    assert fixed(0.0) == (0, 0)
    numbers = [np.array([one], np.int64) for one in (1000, *fixed(0.3))]
    assert multiplied(*numbers)[0] == 300
    for value, expected in ((1, 1), (-1, 0), (3, 2), (-3, -1)):  # times a half: as the reference rounds, upwards
        assert multiplied(*(np.array([one], np.int64) for one in (value, *fixed(0.5))))[0] == expected


def test_the_order_of_examples_is_that_of_the_generator() -> None:
    places, state = head.order(5, 1)
    assert sorted(places) == [0, 1, 2, 3, 4]
    # xorshift32 from 1: 270369, 67634689, 2647435461, 307599695 (Marsaglia 2003)
    assert state == 307599695
