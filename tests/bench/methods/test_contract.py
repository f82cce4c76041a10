"""The contract of a method: found by its file, options with file and line, a task without labels, arms as identity."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import types
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import bench.methods
from bench.catalog import methods as catalog
from bench.catalog.methods import Method, Options, load_method, method_names
from bench.errors import RequestError
from bench.suite.load import load_suite
from bench.suite.suite import Suite
from bench.training.task import MAX_SPANS, Spans, Task, UnlabelledTask


def test_every_file_is_a_method() -> None:
    files = {path.stem.replace("_", "-") for path in Path(bench.methods.__file__).parent.glob("*.py")} - {"--init--"}
    assert set(method_names()) == files
    for name in method_names():
        loaded = load_method(name)
        assert loaded.method.name == name
        assert loaded.method.about
        assert all(
            field.default is not None or not field.is_required()
            for field in type(loaded.options({})).model_fields.values()
        )


def test_importing_methods_imports_no_torch() -> None:
    code = (
        "import sys; from bench.catalog.methods import load_method, method_names\n"
        "for name in method_names(): load_method(name)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_arms_are_methods_with_their_options(make_suite: Callable[..., Suite]) -> None:
    suite = make_suite(
        blocks=None,
        methods=["full", ["block2", "block1"], "bn", {"random": {"count": [1, 2, 3]}}, "tbft"],
        exclude=None,
    )
    labels = [arm.label for arm in suite.arms]
    assert labels == ["full", "block1+block2", "bn", "random", "random(count=2)", "random(count=3)", "tbft"]
    ids = {cell.cell_id for cell in suite.cells()}
    assert {"digits-noise/n=40/random(count=2)/s=0", "digits-noise/n=40/block1/s=0"} <= ids
    assert len(ids) == len(suite.cells())


def test_a_suite_read_back_from_its_manifest_has_the_same_arms(make_suite: Callable[..., Suite]) -> None:
    suite = make_suite(methods=[{"random": {"count": 2}}, {"bn": {"lr": 0.5}}, "bias", ["block1", "fc"]])
    again = Suite.of_content(json.loads(json.dumps(suite.content())))
    assert (again.arms, again.digest()) == (suite.arms, suite.digest())


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["randm"], "'randm' is neither a method nor a block; did you mean 'random'?"),
        (["blok1"], "did you mean 'block1'?"),
        ([{"random": {"cuont": 2}}], "methods[0].random.cuont: unknown key; did you mean 'count'?"),
        ([{"random": {"count": 0}}], "methods[0].random.count: "),
        ([{"random": {"count": [1, 0]}}], "methods[0].random.count[1]: "),
        ([{"random": {"count": [1, 1]}}], "methods[0].random.count[1]: 1 is given twice"),
        ([{"random": {"count": []}}], "methods[0].random.count: empty"),
        ([{"random": {"count": "many"}}], "expected a whole number, got 'many'"),
        ([{"auto-rgn": {"form": "papre"}}], "'papre' is not valid; did you mean 'paper'?"),
        (["random", {"random": {"count": 1}}], "methods[1]: random is given twice"),
        (["bn", "bn"], "methods[1]: 'bn' is given twice"),
        (["full"], "two arms are called 'full'"),
        ([["blok1"]], "methods[0]: 'blok1' is not a block of the model; did you mean 'block1'?"),
        ([{"fixed": {"blocks": "full"}}], "'fixed' is written as the blocks that it tunes"),
        ([{"bn": {}, "bias": {}}], "expected a method's name"),
        ([{"bn": 3}], "expected a method's name"),
        ([3], "expected a method's name"),
        ([], "methods: empty"),
        ("bn", "methods: expected a list"),
    ],
)
def test_wrong_arms_are_refused_in_one_line(
    write_suite: Callable[..., Path], valid: dict[str, Any], methods: object, message: str
) -> None:
    path = write_suite(valid | {"methods": methods})
    with pytest.raises(RequestError) as caught:
        load_suite(str(path))
    assert message in str(caught.value)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), start=1) if text.startswith("methods"))
    if "two arms" not in message:
        assert int(str(caught.value).removeprefix(f"{path}:").partition(":")[0]) >= line


def test_a_suite_needs_an_arm(write_suite: Callable[..., Path], valid: dict[str, Any]) -> None:
    del valid["blocks"]
    with pytest.raises(RequestError, match="blocks is missing, or methods"):
        load_suite(str(write_suite(valid)))


# -- methods of other packages ----------------------------------------------------------------------


class Entry:
    """An entry point as importlib.metadata gives it."""

    def __init__(self, name: str, found: object, package: str = "theirs") -> None:
        self.name, self.module, self.value = name, package, package
        self.dist = types.SimpleNamespace(name=package)
        self._found = found

    def load(self) -> object:
        if isinstance(self._found, BaseException):
            raise self._found
        return self._found


def _module(name: str = "mine") -> object:
    method = Method(name=name, about="nothing", labels="unused")
    return types.SimpleNamespace(METHOD=method, adapt=lambda task, options: bench.methods.Adapted())


def _installed(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: list(entries) if group == catalog.GROUP else [])
    monkeypatch.setattr(catalog, "_entries", catalog._entries.__wrapped__)  # not what was found before


def test_a_method_of_another_package(monkeypatch: pytest.MonkeyPatch, make_suite: Callable[..., Suite]) -> None:
    _installed(monkeypatch, Entry("mine", _module()), Entry("mine", _module()))  # found twice, as when editable
    assert method_names()[-1] == "mine"
    assert load_method("mine").package == "theirs"
    assert make_suite(methods=["mine"]).methods[0].label == "mine"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [Entry("mine", ImportError("no module named torhc"))],
            "theirs does not load (ImportError: no module named torhc)",
        ),
        ([Entry("mine", SystemExit(3))], "theirs does not load (SystemExit: 3)"),
        ([Entry("mine", types.SimpleNamespace())], "theirs has no METHOD"),
        ([Entry("mine", _module("other"))], "theirs calls it 'other'"),
        (
            [Entry("mine", _module()), Entry("mine", _module(), "hers")],
            "several packages bring a method 'mine' (hers, theirs)",
        ),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch,
    write_suite: Callable[..., Path],
    valid: dict[str, Any],
    entries: list[Entry],
    message: str,
) -> None:
    _installed(monkeypatch, *entries)
    path = write_suite(valid | {"methods": ["mine"]})
    with pytest.raises(RequestError) as caught:
        load_suite(str(path))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")


def test_a_built_in_method_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, Entry("bn", _module("bn")))
    assert load_method("bn").package == "jouletune"
    assert method_names().count("bn") == 1


# -- tasks ------------------------------------------------------------------------------------------


def reachable(start: object) -> list[object]:
    """All objects that references lead to, but not through modules, classes and the globals of functions."""
    seen: dict[int, object] = {}
    waiting = [start]
    while waiting:
        one = waiting.pop()
        skipped = (types.ModuleType, type, types.FrameType, types.BuiltinFunctionType)
        if id(one) in seen or isinstance(one, skipped):
            continue
        seen[id(one)] = one
        if isinstance(one, types.FunctionType):
            waiting += [cell.cell_contents for cell in one.__closure__ or ()]
        else:
            waiting += gc.get_referents(one)
    return [*seen.values()]


def test_an_unlabelled_method_cannot_reach_labels(lab: Any) -> None:
    train = lab.images(24)
    labels = train.y.clone()
    for name in method_names():
        task = lab.task(name, train=train)
        found = [one for one in reachable(task) if isinstance(one, torch.Tensor) and torch.equal(one.cpu(), labels)]
        unlabelled = load_method(name).method.labels == "unused"
        assert bool(found) is not unlabelled, name
        assert isinstance(task, Task) is not unlabelled
        assert isinstance(task, UnlabelledTask)


def test_what_is_done_in_no_phase_is_adapting() -> None:
    waits = []
    spans = Spans(lambda: waits.append(1))
    spans.enter("adapt", 1.0)
    spans.enter("adapt", 2.0)
    spans.enter("select", 3.0)
    spans.enter("adapt", 4.0)
    spans.close(6.0)
    assert spans.take() == (("adapt", 1.0, 3.0), ("select", 3.0, 4.0), ("adapt", 4.0, 6.0))
    assert not waits
    spans.clear()
    assert spans.take() == ()


def test_a_phase_waits_for_the_device_and_gives_back_the_one_before(lab: Any) -> None:
    task = lab.task("random")
    task.spans.enter("adapt", 0.0)
    with task.phase("select"), task.phase("look"):
        pass
    task.spans.close()
    names = [name for name, _, _ in task.spans.take()]
    assert names == ["adapt", "select", "look", "select", "adapt"]
    ends = [end for _, _, end in task.spans.take()]
    starts = [start for _, start, _ in task.spans.take()]
    assert starts[1:] == ends[:-1]


def test_too_many_changes_of_phase_are_not_kept() -> None:
    spans = Spans()
    for number in range(MAX_SPANS + 1):
        spans.enter("ab"[number % 2], float(number))
    assert spans.take()[0] == ("a", 0.0, 1.0)
    spans.enter("c", 1e6)
    assert spans.take() == ()


def test_a_task_starts_anew(lab: Any) -> None:
    task = lab.task("random")
    task.begin()
    drawn = torch.rand(3), torch.rand(3, generator=task.generator)
    with torch.no_grad():
        task.model.fc.weight.zero_()
    task.begin()
    assert torch.equal(drawn[0], torch.rand(3))
    assert torch.equal(drawn[1], torch.rand(3, generator=task.generator))
    assert task.model.fc.weight.abs().sum() > 0


def test_batches_are_of_nearly_equal_size_and_never_of_one(lab: Any) -> None:
    task = lab.task("random", train=lab.images(17))
    sizes = [len(batch) for batch in task.batches(8)]
    assert sorted(sizes) == [5, 6, 6]
    task.images = task.images[:3]
    assert [len(batch) for batch in task.batches(1)] == [3]


def test_an_option_is_a_single_value() -> None:
    with pytest.raises(ValueError, match="extra"):
        Options.model_validate({"a": 1})
