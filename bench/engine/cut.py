"""Cut: a model in two parts, the frozen front whose output can be kept and the rest that is tuned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

_RANDOM_FUNCTIONS = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.rand_like, torch.randn_like, torch.bernoulli),
}
_RANDOM_MODULES = ("StochasticDepth", "DropPath")
"""Classes of torchvision and timm that drop whole branches at random."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Both parts share the model's modules: what one changes, the model has too.

    Attributes:
        front: images [N, C, H, W] -> the one tensor that the rest needs.
        rest: that tensor -> logits [N, n_classes].
        at: name of the value between them, as the trace calls it.
    """

    front: fx.GraphModule
    rest: fx.GraphModule
    at: str


class CutError(Exception):
    """The model cannot be cut; the text says why."""


class _Tracer(fx.Tracer):
    """Goes into modules that are made of others, and takes the rest as they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step of the graph."""
        return super().is_leaf_module(m, module_qualified_name) or not any(m.children())


def cut(model: nn.Module, parameters: list[nn.Parameter]) -> Cut:
    """Cut as late as possible before the first use of a tuned parameter, where a single tensor passes.

    Raises:
        CutError: nothing is frozen in front, the model's course depends on its input, or it draws random numbers
            where a trace cannot hold them.
    """
    graph = _trace(model)
    nodes = list(graph.nodes)
    tuned = {id(parameter) for parameter in parameters}
    first = next((i for i, node in enumerate(nodes) if _uses(model, node, tuned)), None)
    if first is None:
        raise CutError("the trace uses no tuned parameter")
    order = {node: i for i, node in enumerate(nodes)}
    inputs = [node for node in nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise CutError(f"the model takes {len(inputs)} inputs")
    for position in range(first, 0, -1):
        passing = [node for node in nodes[:position] if any(order[user] >= position for user in node.users)]
        # a constant is not an input of the rest: both parts hold it
        passing = [node for node in passing if node.op != "get_attr"]
        if len(passing) == 1 and passing[0] is not inputs[0] and _is_tensor(passing[0]):
            return _split(model, nodes, position, passing[0])
    raise CutError("nothing in front of what is tuned is frozen")


def varies(part: nn.Module) -> str | None:
    """The first module of a part that gives an image another output each time, in the mode it is in; None if none."""
    for name, module in part.named_modules():
        if not module.training:
            continue
        drops = isinstance(module, _DropoutNd) or type(module).__name__ in _RANDOM_MODULES
        if isinstance(module, _BatchNorm) or (drops and getattr(module, "p", 1.0) > 0):
            return f"{name} ({type(module).__name__})"
    return None


def _trace(model: nn.Module) -> fx.Graph:
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever a model's own code does not stand
        raise CutError(f"torch.fx cannot trace it: {' '.join(str(error).split())[:120]}") from None
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _RANDOM_FUNCTIONS:
            raise CutError(f"it calls {node.target.__name__}, which a trace cannot switch off for evaluation")
    return graph


def _uses(model: nn.Module, node: fx.Node, tuned: set[int]) -> bool:
    if node.op == "call_module":
        return any(id(p) in tuned for p in model.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        return id(getattr(model.get_submodule(owner), name, None)) in tuned
    return False


def _is_tensor(node: fx.Node) -> bool:
    """False for what asks a tensor for its size, which is a number."""
    return not (node.op == "call_method" and node.target in ("size", "dim", "numel")) and node.target is not getattr


def _split(model: nn.Module, nodes: list[fx.Node], position: int, between: fx.Node) -> Cut:
    front, rest = fx.Graph(), fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    for node in nodes[:position]:
        values[node] = front.node_copy(node, lambda n: values[n])
    front.output(values[between])
    later: dict[fx.Node, fx.Node] = {between: rest.placeholder("x")}
    needed = {node for later_node in nodes[position:] for node in later_node.all_input_nodes}
    constants = [node for node in nodes[:position] if node.op == "get_attr" and node in needed]
    for node in [*constants, *nodes[position:]]:
        later[node] = rest.node_copy(node, lambda n: later[n])
    return Cut(fx.GraphModule(model, front), fx.GraphModule(model, rest), between.name)
