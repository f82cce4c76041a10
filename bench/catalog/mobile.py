"""Mobile nets of inverted residual blocks (MCUNet, ProxylessNAS, MobileNetV2): the released ones, and any from a JSON.

The JSON is that of once-for-all and MCUNet (mit-han-lab), beside their weights. Imports neither numpy nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import RequestError

MAX_JSON_BYTES = 4_000_000
"""Of an architecture; a released one has 20 kB."""

MAX_BLOCKS = 512
MAX_CHANNELS = 65_536


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block: 1x1 to `mid` channels, depth-wise, 1x1 to `out`; with BatchNorm after each.

    Attributes:
        kernel: side of the depth-wise kernel, odd.
        mid: its channels; the first 1x1 is left out where they are those that come in.
        skip: whether the input is added to the output.
    """

    kernel: int
    mid: int
    out: int
    stride: int
    skip: bool


@dataclass(frozen=True, slots=True)
class Architecture:
    """A net of such blocks.

    Attributes:
        first: output channels of the 3x3 convolution that halves the image.
        blocks: None for one that was searched away and hands its input on.
        mix: output channels of the 1x1 convolution after the blocks; None where there is none.
        resolution: pixels of a side of the images that it was made for.
        outputs: of the classifier that was released with it.
        expands_equal: whether a block has its first 1x1 also where it keeps the number of channels.
        eps, momentum: of BatchNorm.
    """

    first: int
    blocks: tuple[Block | None, ...]
    mix: int | None
    resolution: int
    outputs: int
    expands_equal: frozenset[int] = frozenset()
    eps: float = 1e-5
    momentum: float = 0.1

    def block_map(self) -> Mapping[str, tuple[str, ...]]:
        """Block -> modules: a stage ends where the resolution halves; the head is called fc."""
        stages: list[list[str]] = [["first_conv"]]
        for number, block in enumerate(self.blocks):
            if block is None:
                continue
            if block.stride > 1:
                stages.append([])
            stages[-1].append(f"blocks.{number}")
        if self.mix is not None:
            stages[-1].append("feature_mix_layer")
        named = {f"block{number}": tuple(paths) for number, paths in enumerate(stages, start=1)}
        return MappingProxyType({**named, "fc": ("classifier",)})


def _net(rows: str, *, mix: int | None, resolution: int, outputs: int = 1000, eps: float = 1e-5) -> Architecture:
    """Rows of kernel, mid, out, stride; `-` for a block that was searched away."""
    first = channels = 16
    blocks: list[Block | None] = []
    for row in rows.split(","):
        if row.strip() == "-":
            blocks.append(None)
            continue
        kernel, mid, out, stride = map(int, row.split())
        blocks.append(Block(kernel, mid, out, stride, skip=stride == 1 and channels == out))
        channels = out
    return Architecture(first, tuple(blocks), mix, resolution, outputs, eps=eps)


RELEASED: Mapping[str, Architecture] = MappingProxyType(
    {
        "mcunet-in3": _net(
            "3 16 8 1, 7 24 16 2, 3 80 16 1, 7 80 16 1, 5 64 16 1, 5 80 24 2, 5 120 24 1, 5 120 24 1, 3 120 40 2,"
            "7 240 40 1, 5 160 40 1, 5 200 48 1, 7 240 48 1, 3 240 48 1, 3 288 96 2, 7 480 96 1, 3 384 96 1,"
            "7 480 160 1",
            mix=None, resolution=176,
        ),
        "mcunet-5fps-vww": _net(
            "3 16 8 1, 3 48 16 2, 3 48 16 1, 3 48 16 1, 7 48 24 2, 3 144 24 1, 5 120 24 1, 7 144 40 2, 7 240 40 1,"
            "3 240 48 1, 3 192 48 1, 5 240 96 2, 3 480 96 1, 3 384 96 1, 7 288 160 1",
            mix=None, resolution=80, outputs=2,
        ),
        "proxyless-w0.3": _net(
            "3 16 8 1, 5 24 16 2, 3 48 16 1, -, -, 7 48 16 2, 3 48 16 1, 5 48 16 1, 5 48 16 1, 7 96 24 2, 5 72 24 1,"
            "5 72 24 1, 5 72 24 1, 5 144 32 1, 5 96 32 1, 5 96 32 1, 5 96 32 1, 7 192 64 2, 7 384 64 1, 7 192 64 1,"
            "7 192 64 1, 7 384 96 1",
            mix=384, resolution=176, eps=1e-3,
        ),
    }
)  # fmt: skip
"""By name: the nets that were released with weights (mit-han-lab/mcunet, MIT licence)."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Conv(_Part):
    in_channels: int = Field(ge=1, le=MAX_CHANNELS)
    out_channels: int = Field(ge=1, le=MAX_CHANNELS)
    kernel_size: int = Field(ge=1, le=31)
    stride: Literal[1, 2]
    dilation: Literal[1] = 1
    groups: Literal[1] = 1
    bias: Literal[False] = False
    has_shuffle: Literal[False] = False
    use_bn: Literal[True] = True
    act_func: Literal["relu6"] = "relu6"
    ops_order: Literal["weight_bn_act"] = "weight_bn_act"


class _Inverted(_Part):
    name: Literal["MBInvertedConvLayer", "ZeroLayer"]
    in_channels: int = Field(default=1, ge=1, le=MAX_CHANNELS)
    out_channels: int = Field(default=1, ge=1, le=MAX_CHANNELS)
    kernel_size: Literal[1, 3, 5, 7, 9, 11] = 3
    stride: Literal[1, 2] = 1
    expand_ratio: float | int = Field(default=1, gt=0, le=64)
    mid_channels: int | None = Field(default=None, ge=1, le=MAX_CHANNELS)
    act_func: Literal["relu6"] = "relu6"
    use_se: Literal[False] = False

    @property
    def mid(self) -> int:
        return self.mid_channels or round(self.in_channels * self.expand_ratio)


class _Shortcut(_Part):
    name: Literal["IdentityLayer", "ZeroLayer"]


class _Residual(_Part):
    name: Literal["MobileInvertedResidualBlock"]
    mobile_inverted_conv: _Inverted | None
    shortcut: _Shortcut | None = None


class _Linear(_Part):
    in_features: int = Field(ge=1, le=MAX_CHANNELS)
    out_features: int = Field(ge=1, le=1_000_000)
    bias: Literal[True] = True
    use_bn: Literal[False] = False
    act_func: None = None


class _BatchNorm(_Part):
    momentum: float = Field(gt=0, le=1)
    eps: float = Field(gt=0, lt=1)
    ws_eps: None = None


class _File(_Part):
    first_conv: _Conv
    blocks: list[_Residual] = Field(min_length=1, max_length=MAX_BLOCKS)
    feature_mix_layer: _Conv | None = None
    classifier: _Linear
    bn: _BatchNorm = _BatchNorm(momentum=0.1, eps=1e-5)
    resolution: int = Field(default=224, ge=8, le=4096)


def read_architecture(path: Path) -> Architecture:
    """The architecture in a JSON file.

    Raises:
        RequestError: it cannot be read, or holds what these nets do not have.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON_BYTES + 1)
        if len(text) > MAX_JSON_BYTES:
            raise RequestError(f"{path}: over {MAX_JSON_BYTES / 1e6:g} MB; expected the JSON of a net's architecture")
        raw: Any = json.loads(text)
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file; expected the JSON of a net's architecture") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise RequestError(f"{path}: not JSON ({reason}); expected a net's architecture") from None
    if not isinstance(raw, dict):
        raise RequestError(f"{path}: expected a mapping with first_conv, blocks and classifier")
    try:
        return _checked(_File.model_validate(raw), path)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RequestError(f"{path}: {where}: {_said(first)}{more}") from None


def _said(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing; expected the architecture of an MCUNet, ProxylessNAS or MobileNetV2"
    said = str(error["msg"]).replace("Input should be", "expected")
    return f"{said[:1].lower()}{said[1:]}, got {str(error.get('input'))[:60]!r}"


def _checked(file: _File, path: Path) -> Architecture:
    """Check that each part takes what the one before it gives."""
    if file.first_conv.in_channels != 3 or file.first_conv.kernel_size != 3 or file.first_conv.stride != 2:
        raise RequestError(f"{path}: first_conv: expected a 3x3 convolution of stride 2 on colour images")
    channels = file.first_conv.out_channels
    blocks: list[Block | None] = []
    equal: set[int] = set()
    for number, one in enumerate(file.blocks):
        conv, where = one.mobile_inverted_conv, f"{path}: blocks.{number}"
        skip = one.shortcut is not None and one.shortcut.name == "IdentityLayer"
        if conv is None or conv.name == "ZeroLayer":
            if not skip or (conv is not None and conv.stride != 1):
                raise RequestError(f"{where}: hands nothing on: neither a convolution nor its input")
            blocks.append(None)
            continue
        if conv.in_channels != channels:
            raise RequestError(f"{where}: takes {conv.in_channels} channels, the part before it gives {channels}")
        if skip and (conv.stride != 1 or conv.out_channels != channels):
            raise RequestError(f"{where}: a shortcut needs equal shapes, stride 1 and {channels} output channels")
        if conv.mid > MAX_CHANNELS or (conv.expand_ratio == 1 and conv.mid != channels):
            raise RequestError(f"{where}: {conv.mid} channels inside do not go with expand_ratio {conv.expand_ratio}")
        if conv.expand_ratio != 1 and conv.mid == channels:
            equal.add(number)
        blocks.append(Block(conv.kernel_size, conv.mid, conv.out_channels, conv.stride, skip))
        channels = conv.out_channels
    if not any(blocks):
        raise RequestError(f"{path}: blocks: none has a convolution")
    mix = file.feature_mix_layer
    if mix is not None:
        if mix.in_channels != channels or mix.kernel_size != 1 or mix.stride != 1:
            raise RequestError(f"{path}: feature_mix_layer: expected a 1x1 convolution on {channels} channels")
        channels = mix.out_channels
    if file.classifier.in_features != channels:
        raise RequestError(f"{path}: classifier: takes {file.classifier.in_features} features, there are {channels}")
    return Architecture(
        file.first_conv.out_channels,
        tuple(blocks),
        mix.out_channels if mix is not None else None,
        file.resolution,
        file.classifier.out_features,
        frozenset(equal),
        file.bn.eps,
        file.bn.momentum,
    )
