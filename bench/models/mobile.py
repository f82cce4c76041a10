"""Mobile nets of inverted residual blocks, with the parameter names of the released MCUNet and ProxylessNAS weights."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from bench.catalog.mobile import Architecture, Block


class MobileNet(nn.Module):
    """A net of an architecture: first_conv, blocks, feature_mix_layer (or none), mean over the map, classifier.

    Args:
        n_classes: outputs.
    """

    def __init__(self, architecture: Architecture, n_classes: int) -> None:
        super().__init__()
        norm = {"eps": architecture.eps, "momentum": architecture.momentum}
        channels = architecture.first
        self.first_conv = _layer(3, channels, 3, 2, norm)
        blocks: list[nn.Module] = []
        for number, block in enumerate(architecture.blocks):
            if block is None:
                blocks.append(nn.Identity())
                continue
            expands = block.mid != channels or number in architecture.expands_equal
            blocks.append(_Residual(channels, block, norm, expands=expands))
            channels = block.out
        self.blocks = nn.ModuleList(blocks)
        mix = architecture.mix
        self.feature_mix_layer = _layer(channels, mix, 1, 1, norm) if mix is not None else None
        self.classifier = nn.Sequential(OrderedDict(linear=nn.Linear(mix or channels, n_classes)))

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> logits [N, n_classes]."""
        return self.classifier(self.features(x))  # type: ignore[no-any-return]  # a Sequential gives a tensor

    def features(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> what reaches the classifier, [N, n_features]."""
        x = self.upto(x, len(self.blocks))
        if self.feature_mix_layer is not None:
            x = self.feature_mix_layer(x)
        return x.mean((2, 3))

    def upto(self, x: Tensor, cut: int) -> Tensor:
        """Images [N, 3, H, W] -> the map [N, C, H', W'] that reaches block `cut`; after all blocks, what they give."""
        x = self.first_conv(x)
        for block in self.blocks[:cut]:
            x = block(x)
        return x


class _Residual(nn.Module):
    def __init__(self, channels: int, block: Block, norm: dict[str, float], *, expands: bool) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expands:
            layers["inverted_bottleneck"] = _layer(channels, block.mid, 1, 1, norm)
        layers["depth_conv"] = _layer(block.mid, block.mid, block.kernel, block.stride, norm, groups=block.mid)
        layers["point_linear"] = _layer(block.mid, block.out, 1, 1, norm, activates=False)
        self.mobile_inverted_conv = nn.Sequential(layers)
        self.skip = block.skip

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        out: Tensor = self.mobile_inverted_conv(x)
        return x + out if self.skip else out


def _layer(
    channels: int,
    out: int,
    kernel: int,
    stride: int,
    norm: dict[str, float],
    *,
    groups: int = 1,
    activates: bool = True,
) -> nn.Sequential:
    """A convolution that keeps the map's size, BatchNorm, and ReLU6 where it `activates`."""
    layers = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        bn=nn.BatchNorm2d(out, eps=norm["eps"], momentum=norm["momentum"]),
    )
    if activates:
        layers["act"] = nn.ReLU6()
    return nn.Sequential(layers)
