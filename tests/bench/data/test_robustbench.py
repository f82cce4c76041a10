"""robustbench is optional: with it the import works and is silent, without it one line says what to do."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.data.robustbench_compat import INSTALL, import_robustbench

ROOT = Path(__file__).resolve().parents[3]

needs_robustbench = pytest.mark.skipif(
    importlib.util.find_spec("robustbench") is None, reason=f"the robustbench extra is absent ({INSTALL})"
)

TRY = """
from bench.data.robustbench_compat import import_robustbench
from bench.errors import RequestError
try:
    import_robustbench()
except RequestError as error:
    print(error)
"""

USE = """
import sys, warnings
from bench.data.robustbench_compat import import_robustbench
filters, before = list(warnings.filters), set(sys.modules)
robustbench = import_robustbench()
assert robustbench is import_robustbench()
assert robustbench.data.load_cifar10c and robustbench.utils.load_model
assert warnings.filters[-len(filters):] == filters
for name in ("autoattack", "autoattack.state", "pkg_resources"):
    assert name not in sys.modules or sys.modules[name].__spec__.name == name, name
"""


def python(*arguments: str, path: Path = ROOT) -> tuple[int, str, str]:
    """Status, stdout and stderr of a fresh interpreter that finds the project and one more folder."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{path}"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=path
    )
    return done.returncode, done.stdout, done.stderr


# -S hides every installed package, so that these three say the same with the extra and without it


def test_absent_extra_is_one_line_with_the_command(tmp_path: Path) -> None:
    line = "robustbench is not installed here; run: pip install 'robustbench==1.1.1'\n"
    assert python("-S", "-c", TRY, path=tmp_path) == (0, line, "")


def test_half_installed_extra_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "robustbench.py").write_text("import autoattack\n")
    line = "robustbench needs pyautoattack, which is absent; run: pip install 'robustbench==1.1.1'\n"
    assert python("-S", "-c", TRY, path=tmp_path) == (0, line, "")


def test_borrowed_names_are_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "pyautoattack").mkdir()
    (tmp_path / "pyautoattack" / "__init__.py").write_text("class AutoAttack: ...\n")
    (tmp_path / "pyautoattack" / "state.py").write_text("class EvaluationState: ...\n")
    (tmp_path / "robustbench.py").write_text(
        "import pkg_resources\n"
        "from autoattack import AutoAttack\n"
        "from autoattack.state import EvaluationState\n"
        "print(AutoAttack.__module__, EvaluationState.__module__)\n"
        "print(pkg_resources.resource_filename(__name__, 'list.txt'))\n"
    )
    after = "import sys; print({'autoattack', 'autoattack.state', 'pkg_resources'} & set(sys.modules))"
    status, out, err = python("-S", "-c", TRY + after, path=tmp_path)
    assert (status, err) == (0, "")
    assert out.splitlines() == ["pyautoattack pyautoattack.state", str(tmp_path / "list.txt"), "set()"]


@needs_robustbench
def test_import_works_and_prints_nothing() -> None:
    assert python("-c", USE) == (0, "", "")


@needs_robustbench
def test_load_cifar10c_reads_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.arange(8))
    np.save(folder / "gaussian_noise.npy", np.full((8, 32, 32, 3), 255, dtype=np.uint8))
    load = import_robustbench().data.load_cifar10c
    images, labels = load(5, severity=1, data_dir=str(tmp_path), corruptions=["gaussian_noise"])
    assert images.shape == (5, 3, 32, 32)
    assert float(images.max()) == 1.0
    assert labels.tolist() == [0, 1, 2, 3, 4]
