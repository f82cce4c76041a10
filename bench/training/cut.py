"""Cut: a model in two parts, the frozen front whose output can be kept and the rest that is tuned."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

_RANDOM_FUNCTIONS = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.rand_like, torch.randn_like, torch.bernoulli),
    *(torch.rand, torch.randn),
}
_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)
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
    """The model cannot be cut; the text is the reason."""


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
        if len(passing) == 1 and passing[0] is not inputs[0] and _can_pass(model, passing[0]):
            return _split(model, nodes, position, passing[0])
    raise CutError("nothing in front of what is tuned is frozen")


def varies(part: nn.Module) -> str | None:
    """The first module of a part that gives an image another output each time, in the mode it is in; None if none."""
    for name, module in part.named_modules():
        batchwise = isinstance(module, _BatchNorm) and module.running_mean is None  # also in evaluation
        if not module.training and not batchwise:
            continue
        drops = isinstance(module, _DropoutNd) or type(module).__name__ in _RANDOM_MODULES
        if isinstance(module, _BatchNorm) or (drops and getattr(module, "p", 1.0) > 0):
            return f"{name} ({type(module).__name__})"
    return None


def _trace(model: nn.Module) -> fx.Graph:
    modes = {module: module.training for module in model.modules()}
    try:
        graph = _Tracer().trace(model.train())
        other = _Tracer().trace(model.eval())
    except Exception as error:  # whatever a model's own code does not stand
        raise CutError(f"torch.fx cannot trace it: {' '.join(str(error).split())[:120]}") from None
    finally:
        for module, training in modes.items():
            module.training = training
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _RANDOM_FUNCTIONS:
            raise CutError(f"it calls {node.target.__name__}, which a trace cannot switch off for evaluation")
    if str(graph) != str(other):
        raise CutError("it takes another course in evaluation than in training")
    return graph


def _uses(model: nn.Module, node: fx.Node, tuned: set[int]) -> bool:
    if node.op == "call_module":
        return any(id(p) in tuned for p in model.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        return id(getattr(model.get_submodule(owner), name, None)) in tuned
    return False


def _can_pass(model: nn.Module, node: fx.Node) -> bool:
    """Whether a value is a tensor that can be kept: no number, no tuple, and nothing that a user of it overwrites."""
    if node.target is getattr or (node.op == "call_method" and node.target in ("size", "dim", "numel")):
        return False
    return not any(user.target is operator.getitem or _overwrites(model, user) for user in node.users)


def _overwrites(model: nn.Module, node: fx.Node) -> bool:
    """Whether a step changes its input in place."""
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    method = node.op == "call_method" and name.endswith("_") and not name.endswith("__")
    return method or bool(node.kwargs.get("inplace")) or node.target in _IN_PLACE


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


def cut_after(model: nn.Module, path: str) -> Cut:
    """Cut a model behind a module of it, wherever a single tensor passes there.

    Args:
        path: of the module, e.g. `blocks.8` or `layer2`.

    Raises:
        CutError: the model's course depends on its input, or more than one value passes behind this module.
    """
    graph = _trace(model)
    nodes = list(graph.nodes)
    within = [place for place, node in enumerate(nodes) if path in _owners(node)]
    if not within:
        raise CutError(f"the trace does not come through {path!r}")
    position = max(within) + 1
    order = {node: place for place, node in enumerate(nodes)}
    passing = [node for node in nodes[:position] if any(order[user] >= position for user in node.users)]
    passing = [node for node in passing if node.op != "get_attr"]
    if len(passing) != 1:
        raise CutError(f"behind {path!r} {len(passing)} values pass on; expected one")
    if any(_overwrites(model, user) for user in passing[0].users if order[user] >= position):
        raise CutError(f"what {path!r} gives is overwritten in place")
    return _split(model, nodes, position, passing[0])


def _owners(node: fx.Node) -> set[str]:
    """Paths of the modules that a step of a trace is in, itself included."""
    found = {str(owner[0]) for owner in node.meta.get("nn_module_stack", {}).values()}
    return found | {str(node.target)} if node.op == "call_module" else found
