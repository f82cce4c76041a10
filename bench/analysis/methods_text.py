"""The methods paragraph of a paper, and the BibTeX of what a run used, from its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.analysis.findings import Analysis
from bench.analysis.latex import breakable, escape_latex
from bench.analysis.wording import count
from bench.read.results import Results
from bench.store.manifest import Manifest

_ENTRIES: Mapping[str, str] = {
    "tbft": """@misc{tbft,
  author = {Huang, Yushan and Millar, Josh and Long, Yuxuan and Zhao, Yuchen and Haddadi, Hamed},
  title = {Towards Low-Energy Adaptive Personalization for Resource-Constrained Devices},
  eprint = {2403.15905},
  archivePrefix = {arXiv},
  year = {2024}
}""",
    "student": """@article{student1908,
  author = {{Student}},
  title = {The Probable Error of a Mean},
  journal = {Biometrika},
  volume = {6},
  number = {1},
  pages = {1--25},
  year = {1908}
}""",
    "bretz": """@article{bretz2009,
  author = {Bretz, Frank and Maurer, Willi and Brannath, Werner and Posch, Martin},
  title = {A graphical approach to sequentially rejective multiple test procedures},
  journal = {Statistics in Medicine},
  volume = {28},
  number = {4},
  pages = {586--604},
  year = {2009}
}""",
}
"""Works that a paragraph may cite, by the word that asks for them."""

_WORDS = {"power": "a power meter", "counter": "an energy counter", "estimate": "an estimate, not a measurement"}


def methods_text(results: Results, analysis: Analysis) -> str:
    r"""Describe how each run was made and evaluated, as LaTeX to \input; facts that are not in its manifest are left
    out."""
    paragraphs = [" ".join(_run(manifest)) for manifest in results.manifests if manifest.jouletune]
    quality = analysis.quality
    left = [f"{n} {status}" for status, n in quality.statuses.items() if status != "ok"]
    lost = f" Left out: {', '.join(left)} of {count(quality.records, 'repeat')}." if left else ""
    graded = f" Energy: {quality.energy}." if quality.has_joules else ""
    evaluated = (
        r"Intervals are 95\,\% $t$ intervals over seeds~\cite{student1908}, repeats of a seed averaged first; those of "
        r"joules include that of the meter's gain, zero and idle baseline. Arms are compared in pairs of the "
        r"same seed. ``Clearly'' is said of a difference beyond one test image that holds, at a family-wise error rate "
        r"of 5\,\%, for every arm that it was picked from and every case~\cite{bretz2009}."
    )
    return "\n\n".join([*paragraphs, evaluated + " " + breakable(graded + lost), ""])


def bibtex(results: Results) -> str:
    """The entries of what `methods_text` cites: jouletune as it was, its statistics, and the paper where it is used."""
    entries = [_software(manifest) for manifest in results.manifests[:1] if manifest.jouletune]
    return "\n\n".join([*entries, _ENTRIES["tbft"], _ENTRIES["student"], _ENTRIES["bretz"], ""])


def _software(manifest: Manifest) -> str:
    commit = f",\n  note = {{commit {escape_latex(manifest.git_commit)}}}" if manifest.git_commit else ""
    year = (manifest.created_at or "")[:4]
    return (
        f"@software{{jouletune,\n  title = {{jouletune: benchmarking on-device fine-tuning with energy profiling}},\n"
        f"  version = {{{escape_latex(str(manifest.jouletune))}}},\n  year = {{{escape_latex(year)}}}{commit}\n}}"
    )


def _run(manifest: Manifest) -> Iterator[str]:
    content: Mapping[str, Any] = (manifest.suite and manifest.suite.content) or {}
    name = breakable(str(content.get("name", "the suite")))
    version = escape_latex(str(manifest.jouletune))
    yield rf"The suite \texttt{{{name}}} was run with jouletune~{version}~\cite{{jouletune}}{_machine(manifest)}."
    model, train = _mapping(content.get("model")), _mapping(content.get("train"))
    if model.get("name"):
        settings = [f"{train[key]} {word}" for key, word in (("epochs", "epochs"),) if train.get(key) is not None]
        settings += [
            f"{word} {train[key]}" for key, word in (("batch_size", "batches of"), ("lr", "a learning rate of"))
            if train.get(key) is not None
        ]  # fmt: skip
        if train.get("bn_mode"):
            settings.append(f"BatchNorm in mode {train['bn_mode']}")
        yield breakable(f"The model is {model['name']}, tuned for {', '.join(settings)}.") if settings else ""
    sizes = content.get("train_size")
    if isinstance(sizes, list):
        yield breakable(f"Train sizes are {', '.join(map(str, sizes))} (a fraction of the target, or images).")
    energy, seeds = _mapping(content.get("energy")), manifest.seeds or content.get("seeds") or []
    if seeds:
        yield breakable(f"Each cell ran in a process of its own, with {count(len(seeds), 'seed')} "
                        f"({', '.join(map(str, seeds[:20]))}) and {count(energy.get('repeats', 1), 'repeat')} each, "
                        "in random order.")  # fmt: skip
    yield breakable(_meter(manifest, energy))


def _machine(manifest: Manifest) -> str:
    device = manifest.device
    if device is None:
        return ""
    where = [device.board, device.cpu_model, device.logical_cores and count(device.logical_cores, "core")]
    system = [device.os, device.kernel and f"kernel {device.kernel}"]
    with_torch = manifest.versions.get("torch")
    known = [str(fact) for fact in (*where, *system, with_torch and f"PyTorch {with_torch}") if fact]
    return f" on {breakable(', '.join(known))}" if known else ""


def _meter(manifest: Manifest, energy: Mapping[str, Any]) -> str:
    source = manifest.source
    if source is None or source.name in (None, "none"):
        return "Energy was not measured."
    kind = _WORDS.get(source.kind or "", source.kind or "")
    parts = ", ".join(source.covers or ())
    text = f"Energy is from {source.name}, {kind}" + (f", which covers {parts}" if parts else "") + "."
    if source.kind == "estimate":
        return f"{text} It must not be published as measured."
    windows = energy.get("min_window_s")
    return text + (
        f" Windows last at least {windows:g} s; net energy is gross less idle power, taken from baselines of "
        f"{energy.get('idle_s', 0):g} s before and after." if isinstance(windows, int | float) else ""
    )  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
