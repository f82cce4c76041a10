"""What surrounds the code: the table of extras, the site of the documents, the container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_of_extras_has_all_of_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    table = text[text.index("## Extras") :]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([a-z]+)`", row.split("|")[1])}
    assert listed == {*project["optional-dependencies"]}


def test_the_site_has_every_document_and_no_dead_link(tmp_path: Path) -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert {name for entry in nav for name in entry.values()} == {path.name for path in (ROOT / "docs").glob("*.md")}
    pytest.importorskip("material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").glob("*.html")]
    assert len(pages) > len(nav)
    assert not [page for page in pages if "fonts.googleapis.com" in page], "the site asks nobody for a font"


def test_the_container_copies_what_is_there_and_runs_as_no_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    given = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ")]
    sources = [source for words in given for source in words[:-1]]
    assert sources
    assert not [source for source in sources if not (ROOT / source).exists()]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {f"!{source}" for source in sources} <= {*allowed}
    assert re.findall(r"^USER (\S+)", text, flags=re.M)[-1] != "root"


def test_the_container_is_linted() -> None:
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no hadolint")
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    if "No such file" in done.stderr or done.returncode > 1:
        pytest.skip(f"hadolint does not run here: {done.stderr[:200]}")
    assert done.returncode == 0, done.stdout
