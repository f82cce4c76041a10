"""Step: the multiply-accumulates and bytes of a training step, by operation and by block, for any torch module.

A step costs the whole forward pass, and in the backward pass each product (a convolution, a matrix product) once more
for each of its operands that a trained parameter reaches. For a chain of layers that is the known rule: forward of all,
weight gradients of what trains, input gradients of every layer at or after the first trained parameter. A layer
that comes after a trained BatchNorm of its own block is after the first trained parameter, even if it is the first
convolution there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one training step on the traced batch. MACs are multiply-accumulates (half of torch's FLOPs).

    Bytes are what each operation reads and writes if nothing stays in a cache between two of them; the optimiser's own
    are not among them.

    Attributes:
        forward_macs, forward_bytes: the whole forward pass.
        frozen_macs: the part of it that no trained parameter reaches. It gives the same for an image in every epoch, so
            long as BatchNorm is held, and may then come from a cache.
        weight_macs: gradients of weights.
        input_macs: gradients of activations.
        backward_bytes: of both gradients and of everything between them.
    """

    forward_macs: int = 0
    frozen_macs: int = 0
    weight_macs: int = 0
    input_macs: int = 0
    forward_bytes: int = 0
    backward_bytes: int = 0

    @property
    def macs(self) -> int:
        return self.forward_macs + self.weight_macs + self.input_macs

    @property
    def bytes(self) -> int:
        return self.forward_bytes + self.backward_bytes

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*(mine + theirs for mine, theirs in pairs))


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that an operation takes.

    Attributes:
        reach: bit i is set where parameter i had a part in it.
        bytes: its size.
        parameter: whether it is a parameter itself.
    """

    reach: int
    bytes: int
    parameter: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """One kernel of the forward pass.

    Attributes:
        module: path of the innermost module that called it.
        name: torch's, e.g. aten::convolution.
        macs: of the product of its first two operands; 0 where it is none.
        operands: floating-point tensors it takes.
        bytes: that it writes.
    """

    module: str
    name: str
    macs: int
    operands: tuple[Operand, ...]
    bytes: int

    def cost(self, trained: int, shares: Mapping[int, float] = MappingProxyType({})) -> Cost:
        """Its share of a step, where the bits of `trained` are the parameters that train.

        Args:
            shares: bit of a parameter of which only some channels train -> their share.
        """
        reached = [operand for operand in self.operands if operand.reach & trained]
        read = sum(operand.bytes for operand in self.operands)
        forward = read + self.bytes
        if not reached:
            return Cost(self.macs, self.macs, forward_bytes=forward)
        factors = self.operands[:2] if self.macs else ()
        weights = sum(shares.get(one.reach, 1.0) for one in factors if one.reach & trained and one.parameter)
        inputs = sum(1 for operand in factors if operand.reach & trained and not operand.parameter)
        backward = 0
        if self.macs:
            # a factor's gradient is made of the output's and the other factor
            for number, operand in enumerate(factors):
                if operand.reach & trained:
                    own = operand.bytes * (shares.get(operand.reach, 1.0) if operand.parameter else 1.0)
                    backward += self.bytes + factors[1 - number].bytes + round(own)
        elif self.name not in _PASS_ON:
            kept = 0 if self.name in _KEEP_NOTHING else read
            backward = self.bytes + kept + sum(operand.bytes for operand in reached)
        return Cost(
            self.macs,
            weight_macs=round(weights * self.macs),
            input_macs=inputs * self.macs,
            forward_bytes=forward,
            backward_bytes=backward,
        )


_PASS_ON = {"aten::add", "aten::add_"}
"""Their gradient is that of the output, as it is."""

_KEEP_NOTHING = {"aten::avg_pool2d", "aten::mean", "aten::constant_pad_nd", "aten::cat", "aten::clone", "aten::sum",
                 "aten::_adaptive_avg_pool2d", "aten::upsample_nearest2d"}  # fmt: skip
"""Their gradient needs the output's alone."""


@dataclass(frozen=True)
class Trace:
    """The forward pass of a model on a batch, as a list of operations; answers for any choice of what trains.

    Attributes:
        parameters: names; the bit of a parameter is its place.
        batch: images traced.
    """

    operations: tuple[Operation, ...]
    parameters: tuple[str, ...]
    batch: int

    def step(self, trained: Collection[str], shares: Mapping[str, float] = MappingProxyType({})) -> Cost:
        """Cost of a step on the batch that trains these parameters, given by name.

        Args:
            shares: name of a weight among them of which only some channels train -> their share. Its gradient takes so
                much of the multiply-accumulates; its bytes are an upper bound, as if it read all of its factors.
        """
        places = {name: place for place, name in enumerate(self.parameters)}
        bits = sum(1 << places[name] for name in set(trained))
        parts = {1 << places[name]: share for name, share in shares.items()}
        return sum((operation.cost(bits, parts) for operation in self.operations), Cost())
