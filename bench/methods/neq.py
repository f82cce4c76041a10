"""NEq: train the output channels of convolutions whose output still changes, as many as fit into a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from bench.catalog.sparse_update import SCHEMES
from bench.errors import nearest
from bench.methods import Adapted, Method, Options, Task

if TYPE_CHECKING:
    from torch import Tensor, nn


def check_budget(given: Any) -> Any:
    """A share above 0 and up to 1, or a count of at least 2; 1 is all.

    Raises:
        ValueError: anything else.
    """
    if type(given) not in (int, float) or given <= 0 or (type(given) is float and given > 1):
        raise ValueError(f"a share above 0 and up to 1, or a whole number of weights, got {given!r}")
    return given


class NeqOptions(Options):
    """Attributes:
    select: by velocity, at random in each epoch, static (by `scheme`), or full.
    budget: share of the convolutions' weights, or their number. A depth-wise channel has k x k. A named scheme has
        its own.
    scheme: of `select: static` and `start: static`: `magnitude`, the channels with the largest weights, or a sparse
        update by name.
    recursion: of the velocity, `paper` as printed or `released` as the released code computes it.
    start: of the first epoch, which has no velocity: random, static or full.
    images: validation images that velocities are taken on.
    mu: momentum of the velocity.
    norm: what else trains: all, as published; live: at or after the earliest live convolution; shift: of these the
        shifts; or none.
    multiple: kept channels of a dense convolution are rounded to a multiple of so many, within the budget.
    """

    select: Literal["velocity", "random", "static", "full"] = "velocity"
    budget: int | float = 0.1
    scheme: str = "magnitude"
    recursion: Literal["paper", "released"] = "paper"
    start: Literal["random", "static", "full"] = "random"
    images: Annotated[int, Field(ge=1, le=10_000)] = 10
    mu: Annotated[float, Field(ge=0, lt=1)] = 0.5
    norm: Literal["all", "live", "shift", "none"] = "live"
    multiple: Annotated[int, Field(ge=1, le=256)] = 1

    _budget = field_validator("budget", mode="before")(check_budget)

    @field_validator("scheme")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name != "magnitude" and name not in SCHEMES:
            raise ValueError(f"a scheme; {nearest(name, ['magnitude', *SCHEMES])}")
        return name

    @property
    def static(self) -> bool:
        """Whether the scheme is used."""
        return self.select == "static" or (self.select == "velocity" and self.start == "static")


METHOD = Method(
    name="neq",
    about="trains the output channels that still change, or random or fixed ones, as many as fit into a budget",
    labels="needed",
    needs=("convolutions",),
    options=NeqOptions,
    cite="arXiv 2207.09455, 2312.05282",
)


def check(model: nn.Module, options: NeqOptions) -> None:
    """Check the budget and the scheme against a model.

    Raises:
        RequestError: the budget is more than there is, or the scheme is another net's.
    """
    from bench.training.neurons import Neurons

    neurons = Neurons.of(model, "output")
    neurons.budget(options.budget)
    if options.static and options.scheme != "magnitude":
        neurons.of_scheme(SCHEMES[options.scheme])


def head_of(task: Task) -> set[int]:
    """Ids of the parameters of the model's last block, which always train."""
    from bench.models.blocks import block_parameters

    return {id(one) for one in block_parameters(task.model, task.block_map, [*task.block_map][-1])}


def adapt(task: Task, options: NeqOptions) -> Adapted:
    """Choose before each epoch, and train what is chosen by the suite's protocol."""
    import torch

    from bench.training.neurons import Layout, Neurons, Velocity, outputs
    from bench.training.partial import Partial
    from bench.training.selection import Account

    neurons = Neurons.of(task.model, "output")
    scheme = SCHEMES.get(options.scheme) if options.static else None
    budget = neurons.budget(options.budget) if scheme is None or options.select != "static" else scheme.budget
    velocity = Velocity(options.recursion, options.mu)
    with task.phase("select"):
        layout = Layout.of(task.model, task.images[:1])
        task.count_forward(1)
    partial = Partial(task.model, "output")
    account = Account(layout, neurons, budget)
    head = head_of(task)

    def look() -> None:
        task.model.eval()
        with torch.no_grad(), outputs(neurons.convs) as maps:
            task.logits(task.val.x[: options.images])
        velocity.see(maps)

    def order(epoch: int) -> Tensor:
        if options.select == "velocity":
            look()
            if epoch > 1:
                assert isinstance(velocity.value, torch.Tensor)
                return (velocity.value.abs() / neurons.cost).argsort(descending=True, stable=True)
        way = options.select if options.select != "velocity" else options.start
        if way == "random":
            return torch.randperm(len(neurons.cost), generator=task.generator)
        return neurons.by_magnitude()

    def choose(epoch: int) -> Any:
        with task.phase("select"):
            if options.select == "static" and epoch > 1:
                return account.last
            wanted = order(epoch)
            way = options.select if options.select != "velocity" else options.start if epoch == 1 else "velocity"
            if way == "full":
                kept = torch.arange(len(neurons.cost))
            elif way == "static" and scheme is not None:
                kept = neurons.of_scheme(scheme)
            else:
                kept = neurons.fill(wanted, budget)
                kept = account.rounding(kept, neurons.rounded(kept, wanted, options.multiple, budget))
            plan = account.take(kept)
            if options.select == "static" and scheme is not None:
                layout.set_last(task.model, scheme.last, head)
            else:
                layout.set_others(task.model, plan, options.norm, head)
            return plan

    outcome = task.tune(list(task.model.parameters()), partial=partial, plan=choose)
    return account.adapted(task, outcome, partial)
