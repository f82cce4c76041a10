"""robustbench, made importable: version 1.1.1 does not import as published."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from bench.errors import RequestError

INSTALL = "pip install 'robustbench==1.1.1'"
"""What the `robustbench` extra installs."""


def import_robustbench() -> ModuleType:
    """The robustbench package, with its `data` and `utils` loaded. Prints nothing.

    Raises:
        RequestError: it, or something that it needs, is not installed.
    """
    if not _installed("robustbench"):
        raise RequestError(f"robustbench is not installed here; run: {INSTALL}")
    try:
        # timm.models.layers, pkg_resources and torch.jit announce their deprecation on the way
        with warnings.catch_warnings(), _missing_modules():
            warnings.simplefilter("ignore")
            return importlib.import_module("robustbench")
    except ModuleNotFoundError as error:
        raise RequestError(f"robustbench needs {error.name}, which is absent; run: {INSTALL}") from None
    except ImportError as error:
        raise RequestError(f"robustbench cannot be imported here ({error}); run: {INSTALL}") from None


@contextmanager
def _missing_modules() -> Iterator[None]:
    """Provide two modules that robustbench imports by names that no package installs.

    It binds what it needs while it is imported, so both names are gone again afterwards: no other
    package mistakes them for the real ones.
    """
    lent: dict[str, ModuleType] = {}
    if not _installed("autoattack"):  # PyPI has the same code as pyautoattack, and robustbench requires that
        lent["autoattack"] = importlib.import_module("pyautoattack")
        lent["autoattack.state"] = importlib.import_module("pyautoattack.state")
    if not _installed("pkg_resources"):  # setuptools dropped it in version 81
        lent["pkg_resources"] = _pkg_resources()
    sys.modules.update(lent)
    try:
        yield
    finally:
        for name in lent:
            sys.modules.pop(name, None)


def _installed(name: str) -> bool:
    return sys.modules.get(name) is not None or importlib.util.find_spec(name) is not None


def _pkg_resources() -> ModuleType:
    """The one function of pkg_resources that robustbench calls."""

    def resource_filename(module: str, resource: str) -> str:
        """Path of a file that lies beside a module, for robustbench's lists of images."""
        return str(Path(sys.modules[module].__file__ or "").parent / resource)

    stand_in = ModuleType("pkg_resources")
    vars(stand_in)["resource_filename"] = resource_filename
    return stand_in
