"""Sparse updates: which convolutions of which net train, and how much of each, as MCUNetV3 found them offline.

Found there by contribution analysis and evolutionary search (arXiv 2206.15472), and used with output channels of the
largest weights by arXiv 2312.05282. The budgets are weights; `mbv2-5` is printed as 675,540. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Scheme:
    """A static choice.

    Attributes:
        net: that it was found for, in words.
        last: this many last convolutions train their bias; of one with BatchNorm, its scale and shift.
        ratios: number of a convolution, from 0, -> share of its output channels.
        budget: weights that these are.
    """

    net: str
    last: int
    ratios: Mapping[int, float]
    budget: int


def _scheme(net: str, last: int, numbers: str, ratios: str, budget: int) -> Scheme:
    pairs = zip(map(int, numbers.split("-")), map(float, ratios.split("-")), strict=True)
    return Scheme(net, last, MappingProxyType({number: ratio for number, ratio in pairs if ratio}), budget)


_MBV2, _IN1, _PROXYLESS = "MobileNetV2", "MCUNet-in1", "ProxylessNAS-w0.3"

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "mbv2-1": _scheme(_MBV2, 16, "36-39-40-41-42-45-48-49", "1-1-0-.25-.125-.125-.125-.125", 192_312),
        "mbv2-2": _scheme(_MBV2, 20, "32-33-36-39-41-42-45-48", ".125-.5-.5-1-.25-.125-.125-1", 330_240),
        "mbv2-3": _scheme(_MBV2, 25, "27-30-33-36-39-42-45-48", "1-1-1-1-1-.125-.5-1", 464_640),
        "mbv2-4": _scheme(_MBV2, 31, "27-30-33-36-39-42-45-48", "1-1-1-1-1-.5-1-1", 599_040),
        "mbv2-5": _scheme(_MBV2, 34, "27-30-33-36-39-42-45-48", "1-1-1-1-1-1-1-1", 675_840),
        "mcunet-in1-1": _scheme(_IN1, 20, "23-24-27-30-33-39", "0-.25-.5-.5-0-0", 12_096),
        "mcunet-in1-2": _scheme(_IN1, 21, "21-23-24-26-27-30", "1-0-1-0-.5-1", 29_440),
        "mcunet-in1-3": _scheme(_IN1, 22, "21-24-27-30-36-39", "1-1-1-1-.125-.25", 52_480),
        "mcunet-in1-4": _scheme(_IN1, 24, "21-24-27-30-33-39", ".25-1-1-1-.5-.5", 75_328),
        "mcunet-in1-5": _scheme(_IN1, 23, "21-24-27-30-36-39", "1-1-1-1-1-.5", 98_560),
        # its convolution 39 lies outside of the last 21, so as published it trains its weights and not its bias
        "proxyless-w0.3-1": _scheme(_PROXYLESS, 21, "39-42-44-45-50-51-54-57", ".25-1-0-1-0-.125-.25-.25", 20_736),
        "proxyless-w0.3-2": _scheme(_PROXYLESS, 28, "33-36-39-42-45-51-54-57", ".5-.25-1-1-1-.5-.25-.5", 36_288),
        "proxyless-w0.3-3": _scheme(_PROXYLESS, 25, "36-39-42-45-48-51-54-57", "1-.5-1-1-.25-.5-1-1", 62_976),
        "proxyless-w0.3-4": _scheme(_PROXYLESS, 32, "36-39-42-45-48-51-54-57", "1-1-1-1-.5-1-1-1", 76_800),
        "proxyless-w0.3-5": _scheme(_PROXYLESS, 45, "36-39-42-45-48-51-54-57", "1-1-1-1-1-1-1-1", 89_088),
    }
)
"""By name. Each budget is the sum of its channels' weights in its net, by which another net is told."""
