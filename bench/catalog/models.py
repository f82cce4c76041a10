"""The models that a suite can name and the blocks each has, known without importing torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bench.catalog.mobile import RELEASED

BlockMap = Mapping[str, tuple[str, ...]]
"""Block name -> paths of the modules that make it up. What no block names belongs to none."""

BlockSet = tuple[str, ...]
"""Names of blocks that are tuned together, or FULL alone."""

RESNET_BLOCKS: BlockMap = {
    "block1": ("conv1", "layer1"), "block2": ("layer2",), "block3": ("layer3",), "fc": ("fc",),
}  # fmt: skip
"""The paper's ResNet. Its final `bn` belongs to no block, as published."""

POOL = 8
"""The paper's net pools 8x8 windows, not the whole map: 128x128 images leave 4x4x64 = 1024 features."""

_FOUR_STAGES: BlockMap = {
    "block1": ("conv1", "bn1", "layer1"), "block2": ("layer2",), "block3": ("layer3",), "block4": ("layer4",),
    "fc": ("fc",),
}  # fmt: skip
_SHUFFLENET: BlockMap = {
    "block1": ("conv1", "stage2"), "block2": ("stage3",), "block3": ("stage4", "conv5"), "fc": ("fc",),
}  # fmt: skip
_DENSENET: BlockMap = {
    "block1": ("features.conv0", "features.norm0", "features.denseblock1", "features.transition1"),
    "block2": ("features.denseblock2", "features.transition2"),
    "block3": ("features.denseblock3", "features.transition3"),
    "block4": ("features.denseblock4", "features.norm5"),
    "fc": ("classifier",),
}


def _features(*ends: int, head: str = "classifier") -> BlockMap:
    """Blocks of a net whose stages are ranges of `features`; each end is the first index of the next stage."""
    blocks: dict[str, tuple[str, ...]] = {}
    start = 0
    for number, end in enumerate(ends, start=1):
        blocks[f"block{number}"] = tuple(f"features.{index}" for index in range(start, end))
        start = end
    return {**blocks, "fc": (head,)}


# A stage ends where the resolution halves; the head is always called fc, so that a suite reads alike for all.
_TORCHVISION: tuple[tuple[str, BlockMap], ...] = (
    (r"resnet(18|34|50|101|152)", _FOUR_STAGES),
    (r"resnext(50_32x4d|101_32x8d|101_64x4d)", _FOUR_STAGES),
    (r"wide_resnet(50|101)_2", _FOUR_STAGES),
    (r"mobilenet_v2", _features(2, 4, 7, 14, 19)),
    (r"mobilenet_v3_small", _features(1, 2, 4, 9, 13)),
    (r"mobilenet_v3_large", _features(2, 4, 7, 13, 17)),
    (r"efficientnet_b[0-7]", _features(2, 3, 4, 6, 9)),
    (r"convnext_(tiny|small|base|large)", _features(2, 4, 6, 8)),
    (r"shufflenet_v2_x(0_5|1_0|1_5|2_0)", _SHUFFLENET),
    (r"densenet(121|161|169|201)", _DENSENET),
)

MODEL_NAMES = ("resnet8", "resnet14", "resnet20", "resnet26", "resnet18", "resnet50", "mobilenet_v2",
             "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "densenet121", "shufflenet_v2_x1_0",
             *RELEASED)  # fmt: skip
"""To suggest to somebody who misspelt one."""

TARGET_BLOCKS: Mapping[str, str] = MappingProxyType({"input": "block1", "feature": "block3", "output": "fc"})
"""The block that TBFT tunes for a shift of each level (arXiv 2403.15905)."""

FULL = "full"
"""Every parameter."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """Facts about a model that need no torch.

    Attributes:
        kind: `paper` (ResNet-(6n+2)), `torchvision`, `mobile` (of `bench.catalog.mobile`), or `python` (the user's
            own `module:function`).
        blocks: None for a user's own model, whose blocks the suite gives, and for one in a JSON, which has them.
    """

    name: str
    kind: str
    blocks: BlockMap | None


def paper_resnet_depth(name: str) -> int | None:
    """n of a ResNet-(6n+2), or None where the name is not one. resnet50 is 6*8+2, but means torchvision's."""
    match = re.fullmatch(r"resnet([0-9]{1,4})", name)
    if match is None or name in ("resnet50", "resnet152"):
        return None
    depth = int(match.group(1))
    return (depth - 2) // 6 if depth >= 8 and depth % 6 == 2 and depth <= 1202 else None


def find_model(name: str) -> ModelEntry | None:
    """The catalogue's entry, or None where no model has this name."""
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        return ModelEntry(name, "python", None)
    if name in RELEASED:
        return ModelEntry(name, "mobile", RELEASED[name].block_map())
    if name.endswith(".json"):
        return ModelEntry(name, "mobile", None)
    if paper_resnet_depth(name) is not None:
        return ModelEntry(name, "paper", RESNET_BLOCKS)
    for pattern, blocks in _TORCHVISION:
        if re.fullmatch(pattern, name):
            return ModelEntry(name, "torchvision", blocks)
    return None
