"""Multiply-accumulates of the paper's nets in closed form, for the published costs. Imports no torch.

`bench.cost` gives the same integers for these nets, and those of any other, by following the torch module.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.catalog.models import FULL, POOL, BlockSet, paper_resnet_depth


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or the head: its block and the multiply-accumulates of one image, forward."""

    block: str
    macs: int


def resnet_layers(
    name: str, *, width: int, in_channels: int, image_size: int, n_classes: int
) -> tuple[Layer, ...] | None:
    """The layers in the order of the forward pass, or None for a net that is not the paper's.

    A 3x3 convolution from c_in to c_out on h x h pixels costs 9 c_in c_out h^2. The head sees what 8x8 pooling leaves.
    """
    n = paper_resnet_depth(name)
    if n is None:
        return None
    layers = [Layer("block1", 9 * in_channels * width * image_size**2)]
    channels, size = width, image_size
    for stage in range(3):
        out = width * 2**stage
        if stage:
            size = -(-size // 2)
        block = f"block{stage + 1}"
        layers.append(Layer(block, 9 * channels * out * size**2))
        layers += [Layer(block, 9 * out * out * size**2)] * (2 * n - 1)
        channels = out
    return (*layers, Layer("fc", channels * (size // min(POOL, size)) ** 2 * n_classes))


def forward_macs(layers: tuple[Layer, ...]) -> int:
    """Of one image."""
    return sum(layer.macs for layer in layers)


def step_macs(layers: tuple[Layer, ...], blocks: BlockSet) -> int:
    """Of one image in a training step: forward, and the gradients that these blocks need.

    A weight's gradient costs what its layer does. So does the gradient of a layer's input, which every layer after the
    first trained parameter needs: in block2 and block3 that is a BatchNorm before the first convolution, so theirs is
    needed too; conv1's, that of the image, and the head's where it trains alone, are not.
    """
    trained = {layer.block for layer in layers} if blocks == (FULL,) else set(blocks)
    first = next(number for number, layer in enumerate(layers) if layer.block in trained)
    after = layers[first:] if layers[first].block in ("block2", "block3") else layers[first + 1 :]
    weights = sum(layer.macs for layer in layers if layer.block in trained)
    return forward_macs(layers) + weights + forward_macs(after)
