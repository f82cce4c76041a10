"""Neurons: the channels of a net's convolutions as things to choose from under a budget, and how to choose them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.catalog.sparse_update import Scheme
from bench.errors import RequestError
from bench.training.partial import Axis, Plan, convolutions, n_units, take, unit_size

Recursion = Literal["paper", "released"]
Norm = Literal["all", "live", "shift", "none"]
"""What trains beside convolutions and head: every other parameter; those of layers at or after the earliest live
convolution, so that no gradient is needed below it; of these the shifts of normalisation alone, whose gradient needs no
stored activation; nothing."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """All channels of all convolutions, numbered in the net's order.

    Attributes:
        convs: path -> convolution.
        owner: number of the convolution of each channel.
        place: number of the channel in it.
        cost: of each channel, in the unit of the budget, int64.
    """

    convs: Mapping[str, nn.Conv2d]
    axis: Axis
    owner: Tensor
    place: Tensor
    cost: Tensor

    @classmethod
    def of(cls, model: nn.Module, axis: Axis, costs: Mapping[str, int] | None = None) -> Neurons:
        """The channels of a net.

        Args:
            costs: path -> cost of one channel; None: its weights (k x k of a depth-wise one).
        """
        convs = convolutions(model)
        counts = torch.tensor([n_units(conv, axis) for conv in convs.values()])
        each = [unit_size(conv, axis) if costs is None else costs[path] for path, conv in convs.items()]
        owner = torch.repeat_interleave(torch.arange(len(convs)), counts)
        place = torch.cat([torch.arange(count) for count in counts.tolist()])
        return cls(convs, axis, owner, place, torch.tensor(each)[owner])

    @property
    def total(self) -> int:
        """Cost of all channels."""
        return int(self.cost.sum())

    def budget(self, given: float) -> int:
        """A budget in the unit of the cost: a share of the total, or a count as it is.

        Raises:
            RequestError: it is more than there is.
        """
        if isinstance(given, float) or given == 1:
            return int(given * self.total)
        if given > self.total:
            raise RequestError(f"budget {given:,} is more than the convolutions have, {self.total:,}")
        return int(given)

    def fill(self, order: Tensor, budget: int) -> Tensor:
        """The longest front part of an order of channels whose cost is within a budget.

        Args:
            order: numbers of channels, the most wanted first.
        """
        return order[: int((self.cost[order].cumsum(0) <= budget).sum())]

    def plan(self, kept: Tensor) -> Plan:
        """Kept channels by convolution."""
        found: dict[str, Tensor] = {}
        owner, place = self.owner[kept], self.place[kept]
        for number, path in enumerate(self.convs):
            mine = place[owner == number]
            if len(mine):
                found[path] = mine.sort().values
        return found

    def rounded(self, kept: Tensor, order: Tensor, multiple: int, budget: int) -> Tensor:
        """Kept channels with a multiple of so many in every dense convolution that has more than that.

        Kernels compute that many at once, so that fewer cost as much. Each convolution gives its least wanted channels
        back down to the multiple; then those with the most wanted channels left take a whole multiple more, as the
        budget allows.

        Args:
            order: of all channels, the most wanted first.
        """
        if multiple == 1:
            return kept
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        chosen: list[Tensor] = []
        further: list[tuple[int, Tensor]] = []
        for number, conv in enumerate(self.convs.values()):
            every = (self.owner == number).nonzero()[:, 0]
            every = every[rank[every].argsort()]
            own = int((self.owner[kept] == number).sum())
            if conv.groups == 1 and len(every) > multiple:
                front = own // multiple * multiple
                if front < own:
                    further.append((int(rank[every[front]]), every[front : front + multiple]))
                own = front
            chosen.append(every[:own])
        found = torch.cat(chosen)
        left = budget - int(self.cost[found].sum())
        for _, more in sorted(further, key=lambda one: one[0]):
            cost = int(self.cost[more].sum())
            if cost <= left:
                found, left = torch.cat([found, more]), left - cost
        return found

    def by_magnitude(self) -> Tensor:
        """Channels by the root mean square of their weights, the largest first."""
        values = [
            take(
                conv, conv.weight.detach(), torch.arange(n_units(conv, self.axis), device=conv.weight.device), self.axis
            )
            for conv in self.convs.values()
        ]
        return torch.cat([value.flatten(1).square().mean(1) for value in values]).cpu().argsort(descending=True)

    def of_scheme(self, scheme: Scheme) -> Tensor:
        """The channels of a sparse update: of each of its convolutions those with the largest L2 norm.

        Raises:
            RequestError: the scheme is another net's.
        """
        kept, convs = [], [*self.convs.values()]
        for number, ratio in scheme.ratios.items():
            if number >= len(convs):
                raise RequestError(f"the scheme is for {scheme.net}; this net has {len(convs)} convolutions")
            norms = convs[number].weight.detach().flatten(1).norm(dim=1).cpu()
            first = int((self.owner < number).sum())
            kept.append(first + norms.argsort(descending=True)[: round(ratio * len(norms))])
        found = torch.cat(kept)
        if int(self.cost[found].sum()) != scheme.budget:
            has = int(self.cost[found].sum())
            raise RequestError(
                f"the scheme is for {scheme.net}, where it has {scheme.budget:,} weights; here it would have {has:,}"
            )
        return found


class Velocity:
    """How fast a channel's output on the same images changes from epoch to epoch.

    phi = mean over the images of the cosine of a channel's map now and an epoch ago; d = phi - phi an epoch ago (1 at
    first). `paper`: v = d - mu v_before. `released`: v = d - d_before + mu v_before, which is what the released code
    computes (arXiv 2207.09455, 2312.05282).

    Args:
        mu: momentum.
    """

    def __init__(self, recursion: Recursion, mu: float) -> None:
        self._recursion, self._mu = recursion, mu
        self._maps: list[Tensor] = []
        self._phi: Tensor | float = 1.0
        self._change: Tensor | float = 0.0
        self.value: Tensor | float = 0.0

    def see(self, maps: list[Tensor]) -> None:
        """Take the maps [N, C, H, W] of every convolution, an epoch after those before."""
        if self._maps:
            pairs = zip(self._maps, maps, strict=True)
            self.move(torch.cat([similarity(old, new) for old, new in pairs]).cpu())
        self._maps = maps

    def move(self, phi: Tensor) -> None:
        """Take the similarities [channels] of an epoch with the one before."""
        change = phi - self._phi
        if self._recursion == "paper":
            self.value = change - self._mu * self.value
        else:
            self.value = change - self._change + self._mu * self.value
        self._phi, self._change = phi, change


def similarity(old: Tensor, new: Tensor) -> Tensor:
    """Mean over the images of the cosine of two maps of each channel, [N, C, H, W] -> [C]; 1 where both are zero."""
    a, b = old.flatten(2), new.flatten(2)
    norms = a.norm(dim=2) * b.norm(dim=2)
    cosine = (a * b).sum(2) / norms.clamp(min=torch.finfo(a.dtype).tiny)
    both = (a == 0).all(2) & (b == 0).all(2)
    return torch.where(both, torch.ones_like(cosine), torch.where(norms > 0, cosine, torch.zeros_like(cosine))).mean(0)


@contextlib.contextmanager
def outputs(convs: Mapping[str, nn.Conv2d]) -> Iterator[list[Tensor]]:
    """Collect meanwhile what each convolution gives, before normalisation, in the order of `convs`."""
    seen: dict[str, Tensor] = {}
    made: list[Tensor] = []
    handles = [
        conv.register_forward_hook(lambda _, __, out, path=path: seen.__setitem__(path, out.detach()))
        for path, conv in convs.items()
    ]
    try:
        yield made
        made.extend(seen[path] for path in convs if path in seen)
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, eq=False)
class Layout:
    """The layers of a net in the order in which an image meets them.

    Attributes:
        order: path of every module with parameters of its own.
        shapes: path of a convolution -> shapes of its input and its output for one image, without the image.
    """

    order: tuple[str, ...]
    shapes: Mapping[str, tuple[torch.Size, torch.Size]]

    @classmethod
    def of(cls, model: nn.Module, image: Tensor) -> Layout:
        """Follow one image [1, C, H, W] through the net in evaluation mode."""
        order: dict[str, None] = {}
        shapes: dict[str, tuple[torch.Size, torch.Size]] = {}
        handles = []
        for path, module in model.named_modules():
            if next(module.parameters(recurse=False), None) is None:
                continue

            def note(module: nn.Module, inputs: Any, out: Tensor, path: str = path) -> None:
                order.setdefault(path)
                if isinstance(module, nn.Conv2d):
                    shapes.setdefault(path, (inputs[0].shape[1:], out.shape[1:]))

            handles.append(module.register_forward_hook(note))
        model.eval()
        try:
            with torch.no_grad():
                model(image)
        finally:
            for handle in handles:
                handle.remove()
        return cls(tuple(order), shapes)

    def set_others(self, model: nn.Module, live: Plan, norm: Norm, head: set[int]) -> None:
        """Let the parameters beside the convolutions' weights train, or not.

        Args:
            live: what trains of the convolutions.
            head: ids of the parameters that always train.
        """
        first = next((place for place, path in enumerate(self.order) if path in live), len(self.order))
        for place, path in enumerate(self.order):
            module = model.get_submodule(path)
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, nn.Conv2d) and name == "weight":
                    continue
                below = place >= first and (norm != "shift" or (name == "bias"))
                trains = norm == "all" or (norm != "none" and below)
                parameter.requires_grad_(trains or id(parameter) in head)
                parameter.grad = None

    def set_last(self, model: nn.Module, last: int, head: set[int]) -> None:
        """As a sparse update: biases of the last convolutions, and what normalises after them, train."""
        convs = [path for path in self.order if path in self.shapes]
        first = self.order.index(convs[max(0, len(convs) - last)])
        for place, path in enumerate(self.order):
            module = model.get_submodule(path)
            for name, parameter in module.named_parameters(recurse=False):
                if not (isinstance(module, nn.Conv2d) and name == "weight"):
                    parameter.requires_grad_(place >= first or id(parameter) in head)
                    parameter.grad = None

    def claimed(self, convs: Mapping[str, nn.Conv2d], plan: Plan, axis: Axis) -> float:
        """The saving that the released code prints: frozen share of each convolution, weighted by its forward MACs."""
        macs = {path: self._macs(convs[path], path) for path in convs if path in self.shapes}
        frozen = sum(count * (1 - len(plan.get(path, ())) / n_units(convs[path], axis)) for path, count in macs.items())
        return frozen / (sum(macs.values()) or 1)

    def stored(self, convs: Mapping[str, nn.Conv2d], plan: Plan, axis: Axis) -> int:
        """Values that the weight gradients of the convolutions need stored, for one image."""
        total = 0
        for path, index in plan.items():
            conv, (channels, height, width) = convs[path], self.shapes[path][0]
            by_channel = axis == "input" or conv.groups == conv.in_channels > 1
            kept = len(torch.unique(index // (conv.out_channels // conv.groups))) if axis == "output" else len(index)
            total += (kept if by_channel else channels) * height * width
        return total

    def _macs(self, conv: nn.Conv2d, path: str) -> int:
        return self.shapes[path][1].numel() * conv.weight[:1].numel()
