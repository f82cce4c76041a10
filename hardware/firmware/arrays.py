"""Arrays: write a net as C for the firmware, with its memory, and check that a board holds it."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hardware.firmware.net import Net, NetError, Op, add_factors, fixed, plan, ratio

CODE_BYTES, TRAINING_BYTES = 10_000, 4_000
"""Of the program, and of its training, with the parts of libc and libm, on a Cortex-M4 or M7; rounded up."""

STACK_BYTES = 4_096
COMMAND_BYTES = 1_028
"""Longest command: 512 bytes of input as hexadecimal digits, and `db `."""

MAX_CLASSES = 1_000
KINDS = {
    "conv": "JT_CONV", "depthwise": "JT_DEPTHWISE", "add": "JT_ADD", "mean": "JT_MEAN", "maximum": "JT_MAXIMUM",
    "affine": "JT_AFFINE", "copy": "JT_COPY",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Board:
    """A microcontroller: flash and SRAM in bytes, and whether jouletune has a port that builds for it."""

    flash: int
    sram: int
    port: bool = False


BOARDS = {
    "mps2-an386": Board(4 << 20, 4 << 20, port=True),
    "mps2-an500": Board(4 << 20, 4 << 20, port=True),
    "stm32h7a3zi": Board(2 << 20, 1_024 << 10),
    "stm32l4r5zi": Board(2 << 20, 640 << 10),
    "stm32f746ng": Board(1 << 20, 320 << 10),
}
"""Of an STM32H7A3 the AXI SRAM, which is one piece; data sheets DS13195, DS12023, DS10916. The MPS2's are QEMU's."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a net needs on a board, by this program's own account.

    Attributes:
        weights: constants of the net, in flash.
        flash: all of it.
        image: the input buffer.
        activations: the arena, with the largest window.
        features: stored examples with their labels.
        head: weights of the heads.
        sram: all of it, with stack and command.
    """

    weights: int
    flash: int
    image: int
    activations: int
    features: int
    head: int
    sram: int

    def lacks(self, board: Board) -> list[str]:
        """What of it a board does not hold, in words."""
        return [
            f"{name} {needed / 1024:.1f} KiB, {(needed - there) / 1024:.1f} KiB more than there is"
            for name, needed, there in (("flash", self.flash, board.flash), ("SRAM", self.sram, board.sram))
            if needed > there
        ]


def memory(net: Net, *, slots: int, classes: int) -> Memory:
    """The memory of a net with so many stored examples and classes."""
    placed = plan(net)
    full = net.tensors[net.output].size
    part = net.tensors[net.part].size if net.part else 0
    weights = sum(_constant_bytes(net, op) for op in net.ops) + net.table.size
    image = net.tensors[net.input].size
    activations = placed.arena + max(placed.patch, 1)
    # label, place in the order, confidence
    features = slots * (full + part + 2 + 2 + 4)
    head = 4 * classes * (full + 1 + part + 1) if slots else 0
    results = 4 * max(classes, full)
    return Memory(
        weights=weights,
        flash=weights + CODE_BYTES + (TRAINING_BYTES if slots else 0),
        image=image,
        activations=activations,
        features=features,
        head=head,
        sram=image + activations + features + head + results + COMMAND_BYTES + STACK_BYTES,
    )


def write(
    net: Net, folder: Path, *, slots: int, classes: int, board: str, model: str, weights_sha256: str
) -> dict[str, Any]:
    """Write a folder that `make` builds the firmware in: program, arrays, and a manifest with hashes.

    Args:
        slots: examples whose features the board stores; 0: it does not train.
        classes: that a head tells apart; of a net with logits their number.
        model: name that the board answers `profile` with.
        weights_sha256: of the model that was quantised, so that a run knows its board.

    Returns:
        The manifest.

    Raises:
        NetError: there are too many classes or stored examples, or it does not fit the board.
    """
    if not 0 < classes <= MAX_CLASSES or not 0 <= slots < 1 << 16:
        raise NetError(f"{classes} classes and {slots} stored examples; at most {MAX_CLASSES} and 65535")
    if slots and not net.head:
        raise NetError("the net ends in logits; to store features it has to end in them")
    needs = memory(net, slots=slots, classes=classes)
    if lacks := needs.lacks(BOARDS[board]):
        raise NetError(f"{board}: {'; '.join(lacks)}")
    folder.mkdir(parents=True, exist_ok=True)
    source = resources.files("hardware.firmware") / "c"
    with resources.as_file(source) as program:
        shutil.copytree(program, folder, dirs_exist_ok=True)
    arrays = _arrays(net)
    digest = hashlib.sha256(arrays.encode()).hexdigest()
    header = _header(net, needs, slots=slots, classes=classes, model=model, hashes=(digest, weights_sha256))
    (folder / "net_data.c").write_text(arrays)
    (folder / "net_data.h").write_text(header)
    if BOARDS[board].port:
        makefile = (folder / "Makefile").read_text()
        (folder / "Makefile").write_text(makefile.replace("BOARD ?= mps2-an500", f"BOARD ?= {board}", 1))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in {".c", ".h", ".ld"})
    manifest = {
        "net_sha256": digest, "weights_sha256": weights_sha256, "board": board, "model": model, "classes": classes,
        "slots": slots, "rounding": net.rounding, "macs": net.macs, "memory": asdict(needs), **net.facts,
        "files": {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def _constant_bytes(net: Net, op: Op) -> int:
    sizes = [one.nbytes for one in (op.weight, op.bias, op.factor, op.addend) if one is not None]
    factors = 0 if op.kind in ("affine", "maximum") else 3 if op.kind == "add" else len(ratio(op, net.tensors))
    return sum(sizes) + factors * (5 if net.rounding == "tflite" else 4) + 80  # the step itself


def _header(net: Net, needs: Memory, *, slots: int, classes: int, model: str, hashes: tuple[str, str]) -> str:
    placed, image, output = plan(net), net.tensors[net.input], net.tensors[net.output]
    part = net.tensors[net.part] if net.part else None
    values: dict[str, object] = {
        "OPS": len(net.ops), "PART_OPS": net.part_ops, "HEIGHT": image.height, "WIDTH": image.width,
        "CHANNELS": image.channels, "INPUT": image.size, "ARENA": placed.arena, "PATCH": placed.patch,
        "CLASSES": classes, "FEATURES": output.size, "OUTPUT_AT": placed.offsets[net.output],
        "OUTPUT_ZERO": output.zero, "OUTPUT_SCALE": _float(output.scale),
        "PART_FEATURES": part.size if part else 0, "PART_AT": placed.offsets[net.part] if net.part else 0,
        "PART_ZERO": part.zero if part else 0, "PART_SCALE": _float(part.scale if part else 1.0), "SLOTS": slots,
        "RESULTS": max(classes, output.size), "COMMAND": COMMAND_BYTES, "FIXED": int(net.rounding == "tflite"),
        "MACS": net.macs, "PART_MACS": net.macs_of(net.part_ops),
        "FLASH": needs.flash, "SRAM": needs.sram, "MODEL": json.dumps(model), "NET_SHA256": json.dumps(hashes[0]),
        "WEIGHTS_SHA256": json.dumps(hashes[1]),
    }  # fmt: skip
    lines = [f"#define JT_{name} {value}" for name, value in values.items()]
    return (
        "/* Written by jouletune firmware. */\n#ifndef NET_DATA_H\n#define NET_DATA_H\n"
        + "\n".join(lines)
        + "\n#endif\n"
    )


def _arrays(net: Net) -> str:
    lines = ["/* Written by jouletune firmware. */", '#include "jt.h"', ""]
    lines.append("const uint8_t jt_table[JT_CHANNELS][256] = {")
    lines += [f"    {{{_numbers(row.view(np.uint8))}}}," for row in net.table]
    lines.append("};")
    offsets = plan(net).offsets
    steps = []
    for number, op in enumerate(net.ops):
        made = _constants(net, op)
        for name, (kind, values) in made.items():
            lines.append(f"static const {kind} {name}_{number}[{len(values)}] = {{{_numbers(values)}}};")
        steps.append(_step(net, op, number, made, offsets))
    lines += ["const struct jt_op jt_ops[JT_OPS] = {", *steps, "};", ""]
    return "\n".join(lines)


def _constants(net: Net, op: Op) -> dict[str, tuple[str, Any]]:
    made: dict[str, tuple[str, Any]] = {}
    if op.weight is not None:
        made["weight"] = ("int8_t", op.weight.ravel())
        channels = net.tensors[op.output].channels
        bias = np.zeros(channels, np.int64) if op.bias is None else op.bias.astype(np.int64)
        if op.kind == "conv":  # what the zero point of the input adds to each sum is taken off beforehand
            sums = op.weight.reshape(len(op.weight), -1).sum(axis=1, dtype=np.int64)
            bias = bias - net.tensors[op.inputs[0]].zero * sums
        if np.abs(bias).max(initial=0) >= 1 << 31:
            raise NetError(f"{op.output}: a bias of more than 32 bits")
        made["bias"] = ("int32_t", bias)
    if op.kind == "affine":
        assert op.factor is not None
        assert op.addend is not None
        made["factor"], made["addend"] = ("float", op.factor), ("float", op.addend)
        return made
    if op.kind == "maximum":
        return made
    one, out = net.tensors[op.inputs[0]], net.tensors[op.output]
    if op.kind == "add":
        two = net.tensors[op.inputs[1]]
        pairs = list(add_factors(one, two, out))
        factors = np.array([np.float32(t.scale) / np.float32(out.scale) for t in (one, two)], np.float32)
    else:
        factors = ratio(op, net.tensors)
        pairs = [fixed(float(value)) for value in factors]
    if net.rounding == "tflite":
        made["multiplier"] = ("int32_t", [a for a, _ in pairs])
        made["exponent"] = ("int8_t", [b for _, b in pairs])
    else:
        made["factor"] = ("float", factors)
    return made


def _step(net: Net, op: Op, number: int, made: dict[str, Any], offsets: Any) -> str:
    one, out = net.tensors[op.inputs[0]], net.tensors[op.output]
    two = net.tensors[op.inputs[1]] if op.kind == "add" else one
    place = ["JT_IMAGE" if name == net.input else offsets[name] for name in op.inputs]
    if net.input in op.inputs and op.kind not in ("conv", "depthwise", "mean", "maximum"):
        raise NetError(f"{op.output}: the image goes into a convolution or a pooling first")
    fields: dict[str, object] = {
        "kind": KINDS[op.kind], "kernel_h": op.kernel[0], "kernel_w": op.kernel[1], "stride_h": op.stride[0],
        "stride_w": op.stride[1], "pad_h": op.pad[0], "pad_w": op.pad[1], "in_h": one.height, "in_w": one.width,
        "in_c": one.channels, "out_h": out.height, "out_w": out.width, "out_c": out.channels, "shift": op.shift,
        "in": place[0], "other": place[1] if op.kind == "add" else 0, "out": offsets[op.output], "in_zero": one.zero,
        "other_zero": two.zero, "out_zero": out.zero, "low": op.low, "high": op.high,
        "per_channel": int(op.weight_scale is not None),
    }  # fmt: skip
    fields |= {name: f"{name}_{number}" for name in made}
    return "    {" + ", ".join(f".{name} = {value}" for name, value in fields.items()) + "},"


def _numbers(values: Iterable[Any]) -> str:
    return ", ".join(_float(value) if isinstance(value, np.floating) else str(int(value)) for value in values)


def _float(value: Any) -> str:
    """A constant in single precision, exactly."""
    single = struct.unpack("f", struct.pack("f", value))[0]
    return f"{single.hex()}f"
