"""ResNet-(6n+2) as released with TBFT (arXiv 2403.15905): pre-activation, parameter-free shortcut."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.catalog.models import POOL

GROUPS = 8
"""Of GroupNorm, as in MEMO's net (arXiv 2110.09506)."""


def _norm(kind: str, channels: int) -> nn.Module:
    """BatchNorm, or GroupNorm of as many groups as divide the channels, GROUPS at most."""
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(math.gcd(GROUPS, channels), channels)


class PreActBlock(nn.Module):
    """bn1 -> relu -> conv1 -> bn2 -> relu -> conv2, plus the input, pooled and zero-padded where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str = "batch") -> None:
        super().__init__()
        self.bn1 = _norm(norm, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = _norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.stride = stride
        self.padding = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H/stride), ceil(W/stride)]."""
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        shortcut = x
        if self.stride > 1:
            # ceil_mode gives the convolution's size for odd maps too; even maps, as published, are unchanged
            shortcut = F.avg_pool2d(shortcut, self.stride, ceil_mode=True)
        if self.padding:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.padding))
        return torch.add(out, shortcut)


class ResNet(nn.Module):
    """conv1 -> layer1..3 (n blocks each, width x 1, 2, 4) -> bn -> relu -> 8x8 average pool -> fc.

    Args:
        n: blocks per stage; the depth is 6n + 2.
        n_classes: outputs.
        in_channels: 1 for grey images, 3 for colour.
        width: channels of the first stage (16 as published).
        image_size: pixels of a side; decides how many features reach fc.
        norm: `batch`, as published, or `group`.
    """

    def __init__(
        self,
        n: int,
        *,
        n_classes: int,
        in_channels: int = 3,
        width: int = 16,
        image_size: int = 32,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.layer1 = self._stage(width, width, n, stride=1, norm=norm)
        self.layer2 = self._stage(width, 2 * width, n, stride=2, norm=norm)
        self.layer3 = self._stage(2 * width, 4 * width, n, stride=2, norm=norm)
        self.bn = _norm(norm, 4 * width)
        final = math.ceil(image_size / 4)
        self.pool = min(POOL, final)
        self.fc = nn.Linear(4 * width * (final // self.pool) ** 2, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(in_channels: int, out_channels: int, n: int, stride: int, norm: str) -> nn.Sequential:
        blocks = [PreActBlock(in_channels, out_channels, stride, norm)]
        blocks += [PreActBlock(out_channels, out_channels, 1, norm) for _ in range(n - 1)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, n_classes]."""
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        out = F.avg_pool2d(F.relu(self.bn(out)), self.pool)
        logits: Tensor = self.fc(torch.flatten(out, 1))
        return logits
