"""Released checkpoints by name: which file each is and where it comes from. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class Released:
    """A checkpoint somebody published.

    Attributes:
        file: where it lies below a data folder.
        sha256: of its content.
        url: where it was published, pinned to a commit.
        pixels: what it was trained on, see `ModelSpec`.
        norm: of the net, likewise.
        inside: key of the state dict in what is published there, which is more than that; `sha256` is then of the
            state dict alone, as safetensors. None: the file itself is used.
    """

    file: str
    sha256: str
    url: str
    about: str
    pixels: Literal["signed", "unit"] = "signed"
    norm: Literal["batch", "group"] = "batch"
    inside: str | None = None


_TBFT = "https://raw.githubusercontent.com/yushan-huang/AdaptivePersonalization"

_MCUNET = "https://hanlab18.mit.edu/projects/tinyml/mcunet/release"

CHECKPOINTS: Mapping[str, Released] = MappingProxyType(
    {
        "tbft-cifar10": Released(
            "tbft/resnet26_cifar10.pth",
            "180bed4d18710d383644b2cdbc43fe1013a05f3d82e6fd68f9e12e7d5d62a569",
            f"{_TBFT}/36bb590f8581bcea824adf457c202b84a1eda60d/motivation_exp/resnet26_model.pth",
            "ResNet-26 trained on CIFAR-10, released with arXiv 2403.15905",
        ),
        "tbft-living17": Released(
            "tbft/resnet26_living17.pth",
            "79cda8775915af6c978b3b39fab51919436090d1617568930d77bf9606d4b45e",
            f"{_TBFT}/0e16319efe0ad2132c15fa024c18ad0f59120231/main_exp/ResNet26_origin_Living17_val_acc_0.8406.pth",
            "ResNet-26 trained on Living17 at 128x128, released with arXiv 2403.15905",
            # the first BatchNorm's means, solved for the mean of the images, give 0.46, 0.43, 0.36: Living17's own
            # colours on the scale from 0 to 1
            pixels="unit",
        ),
        "memo-cifar10": Released(
            "memo/resnet26_gn8_cifar10.safetensors",
            "7fff0efea196479d366f4e84f3954c98f5bce5c9eb701c4b32b6ac475d1c9802",
            "https://raw.githubusercontent.com/zhangmarvin/memo/02ad0262671e52efcf71002e043cc73c49070bb0/"
            "cifar-10-exps/results/cifar10_rn26_gn/ckpt.pth",
            "ResNet-26 with GroupNorm trained on CIFAR-10, released with arXiv 2110.09506",
            norm="group",
            inside="net",
        ),
        "mcunet-in3": Released(
            "mcunet/mcunet-320kb-1mb_imagenet.pth",
            "c0d4ccf4bb8ba93ef69a609c60ca053be2c6bab3b4ece19d9b7e66cec8a485e5",
            f"{_MCUNET}/mcunet-320kb-1mb_imagenet.pth",
            "MCUNet-in3 trained on ImageNet, released with arXiv 2007.10319",
        ),
        "mcunet-5fps-vww": Released(
            "mcunet/mcunet-5fps_vww.pth",
            "429dc5baa914d29df19bab6182ac8aeb0c791454a71310ec86f504ad07e0b9d6",
            f"{_MCUNET}/mcunet-5fps_vww.pth",
            "MCUNet (5 frames a second) trained on Visual Wake Words, released with arXiv 2007.10319",
        ),
        "proxyless-w0.3": Released(
            "mcunet/proxyless-w0.3-r176_imagenet.pth",
            "5c94b02905bff62a4b1c11454b32e90d5c3e355d576aedf48257e2393de18d20",
            f"{_MCUNET}/proxyless-w0.3-r176_imagenet.pth",
            "ProxylessNAS of width 0.3 trained on ImageNet, released with arXiv 2007.10319",
        ),
    }
)
