"""Methods: how a model is adapted, by name. One file of `bench.methods` is one method. Imports no torch.

Other packages bring methods by entry points in the group `jouletune.methods`: the entry point's name is the method's,
and it points to a module with METHOD and adapt, like those in `bench.methods`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.errors import RequestError, nearest

GROUP = "jouletune.methods"
PACKAGE = "bench.methods"
NAME = r"[a-z][a-z0-9-]{0,30}"
"""Brackets, `=`, `,`, `+` and `/` have a meaning in the id of a cell, so no name contains them."""

Need = Literal["BatchNorm", "normalisation", "linear head", "biases", "convolutions"]
"""What a method acts on: BatchNorm with running statistics; scales and shifts of normalisation layers; a last layer
that is linear; biases; two-dimensional convolutions. A model without it is refused when the suite is prepared."""


class Options(BaseModel):
    """Base of a method's options. Each is a single value with a default; in a suite, a list makes one arm each."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What is known of a method before a model is there.

    Attributes:
        name: in a suite and in the id of a cell.
        about: one line on what it does.
        labels: whether it gets the labels of the training images and the validation images. Where they are `unused` it
            is handed a task without labels.
        needs: what the model must have.
        source_facts: of `bench.models.source_facts`, computed once while a run is prepared.
        options: their types and defaults.
        cite: where the method was published.
        part: whether it leaves a model whose part can answer alone, which needs `model.cut`.
        idle: whether nothing is done, so that there are no joules to be measured.
        extra: a package it needs that is not installed with jouletune, and the extra that brings it.
    """

    name: str
    about: str
    labels: Literal["needed", "unused"]
    needs: tuple[Need, ...] = ()
    source_facts: tuple[str, ...] = ()
    options: type[Options] = Options
    cite: str = ""
    part: bool = False
    idle: bool = False
    extra: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A method with its code.

    Attributes:
        adapt: (task, options) -> Adapted, see `bench.methods`.
        package: that brings it.
        rebuild: (model, state, options) -> the module that answers, made from the source's architecture and its state
            dict, for a method whose model is of another class; None: it has the source's.
        check: (model, options) -> None; raises RequestError where the options do not go with a model, which is asked
            while a run is prepared; None: they always do.
        online: (task, options) -> what predicts a batch and adapts to it; None: the method has no form for streams.
        trained_form: (model, options) puts what is trained into a model, in place, where that is taken off again before
            `adapt` returns, so that the arithmetic of a step knows it; None: the model's own parameters are trained.
    """

    method: Method
    adapt: Callable[..., Any]
    package: str
    online: Callable[..., Any] | None = None
    rebuild: Callable[..., Any] | None = None
    trained_form: Callable[..., Any] | None = None
    check: Callable[..., None] | None = None

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options given and the defaults of the others.

        Raises:
            pydantic.ValidationError: an unknown option, or a value that it cannot have.
        """
        return self.method.options.model_validate(dict(given))


def method_names() -> tuple[str, ...]:
    """Names of the methods that can be had, those of other packages last. Imports none of them."""
    return (*_built_in(), *(name for name in sorted(_entries()) if name not in _built_in()))


def is_built_in(name: str) -> bool:
    """Whether a method is one of jouletune's own."""
    return name in _built_in()


def load_method(name: str) -> Loaded:
    """Import a method by name.

    Raises:
        RequestError: no method has this name, or the package that brings it, or one that it needs, cannot be used.
    """
    if name in _built_in():
        return _checked(importlib.import_module(f"{PACKAGE}.{name.replace('-', '_')}"), name, "jouletune")
    found = _entries().get(name)
    if found is None:
        raise RequestError(f"{name!r} is not a method; {nearest(name, method_names())}")
    packages = sorted({_package(entry) for entry in found})
    if len(packages) > 1:
        raise RequestError(f"several packages bring a method {name!r} ({', '.join(packages)}): uninstall all but one")
    try:
        module = found[0].load()
    except (Exception, SystemExit) as error:  # code of unknown quality
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RequestError(f"method {name!r}: {packages[0]} does not load ({reason})") from None
    return _checked(module, name, packages[0])


def code_sha256(name: str) -> str | None:
    """Hash of the code of another package's method: of its module's file, or of all files of its package.

    None for ours, which the version and the commit name.

    Raises:
        RequestError: as `load_method`.
    """
    if is_built_in(name):
        return None
    load_method(name)
    module = _entries()[name][0].load()
    file = Path(module.__file__)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    for one in files:
        digest.update(f"{one.relative_to(file.parent)}\0".encode() + one.read_bytes())
    return digest.hexdigest()


@functools.cache
def _built_in() -> dict[str, None]:
    """Names of the files of `bench.methods`, in alphabetical order."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    return dict.fromkeys(sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(folders)))


@functools.cache  # a search of all installed packages
def _entries() -> dict[str, list[metadata.EntryPoint]]:
    """Entry points of other packages by name. A package that is found twice is used once."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


def _checked(module: Any, name: str, package: str) -> Loaded:
    method, adapt = getattr(module, "METHOD", None), getattr(module, "adapt", None)
    if not isinstance(method, Method) or not callable(adapt):
        raise RequestError(
            f"method {name!r}: {package} has no METHOD (a bench.methods.Method) and adapt(task, options)"
        )
    if method.name != name:
        raise RequestError(f"method {name!r}: {package} calls it {method.name!r}; both names must be the same")
    if method.extra is not None and importlib.util.find_spec(method.extra[0]) is None:
        needed, extra = method.extra
        raise RequestError(f"method {name!r} needs the package {needed}: pip install 'jouletune[{extra}]'")
    others = {name: getattr(module, name, None) for name in ("online", "rebuild", "trained_form", "check")}
    return Loaded(method, adapt, package, **{name: one for name, one in others.items() if callable(one)})
