"""Streams and inference: order, batches, the online form of each method, and what a method can get hold of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

import bench
from bench.catalog.methods import load_method, method_names
from bench.errors import RequestError
from bench.models.source_facts import fisher
from bench.suite.load import load_suite
from bench.suite.suite import Suite
from bench.suite.work import Stream
from bench.training.entropy import laplacian_assignments, neighbours, support_head
from bench.work.stream import arrange, in_batches
from tests.bench.methods.conftest import Lab

LABELS = np.repeat(np.arange(5), 20)[np.random.default_rng(1).permutation(100)]
TEST = np.random.default_rng(2).permutation(100)[:60]
ONLINE = [name for name in method_names() if load_method(name).online is not None]
QUICK: dict[str, dict[str, Any]] = {"memo": {"views": 3}, "cotta": {"views": 2}}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# -- order ------------------------------------------------------------------------------------------


def test_an_iid_stream_is_the_test_images_by_chance() -> None:
    first, again, other = (arrange(LABELS, TEST, Stream(), [0, seed]) for seed in (1, 1, 2))
    assert sorted(first) == sorted(TEST)
    assert (first == again).all()
    assert (first != other).any()
    assert (first != TEST).any()
    few = arrange(LABELS, TEST, Stream(images=7), [0, 1])
    assert (few == first[:7]).all()


@pytest.mark.parametrize("block", [None, 4])
def test_a_stream_by_classes_has_blocks_of_a_class(block: int | None) -> None:
    order = arrange(LABELS, TEST, Stream(order="classes", block=block), [0, 1])
    assert sorted(order) == sorted(TEST)
    labels = LABELS[order]
    changes = np.flatnonzero(np.diff(labels)) + 1
    runs = np.diff([0, *changes, len(labels)])
    counts = {label: int((LABELS[TEST] == label).sum()) for label in range(5)}
    if block is None:
        assert sorted(runs) == sorted(counts.values())
    else:
        assert max(runs) <= 2 * block  # where the others are through, two blocks of a class meet
        assert (labels[:20].reshape(5, 4) == labels[:20:4, None]).all()
        assert len(set(labels[:20])) == 5


def test_a_prior_shift_lets_some_classes_come() -> None:
    order = arrange(LABELS, TEST, Stream(classes=2), [0, 1])
    assert len(set(LABELS[order])) == 2
    assert len(order) == sum(int(label in set(LABELS[order])) for label in LABELS[TEST])


def test_no_batch_has_a_single_image_that_is_left_over() -> None:
    images = torch.arange(17).reshape(17, 1)
    assert [len(batch) for batch in in_batches(images, 8)] == [8, 9]
    assert [len(batch) for batch in in_batches(images, 5)] == [5, 5, 5, 2]
    assert [len(batch) for batch in in_batches(images, 1)] == [1] * 17
    assert [len(batch) for batch in in_batches(images[:1], 8)] == [1]
    assert torch.equal(torch.cat(in_batches(images, 8)), images)


# -- online forms -----------------------------------------------------------------------------------


def start(lab: Lab, name: str, **options: Any) -> tuple[Any, Callable[[torch.Tensor], torch.Tensor]]:
    """A task without images, and what a method predicts a stream with."""
    torch.manual_seed(1)
    model = lab.Net()
    facts = {"fisher": fisher(model, lab.images(30, seed=9).x)} if name == "eata" else None
    task = lab.task(name, model=model, train=lab.images(0), source_facts=facts)
    loaded = load_method(name)
    task.begin()
    return task, loaded.online(task, loaded.options(QUICK.get(name, {}) | options))


def first_and_second(lab: Lab) -> tuple[torch.Tensor, torch.Tensor]:
    return lab.images(12, seed=3).x, lab.images(12, seed=4).x


@torch.no_grad()
def normalised_by(task: Any, x: torch.Tensor) -> torch.Tensor:
    """What the model, as it is, predicts with the batch's own statistics."""
    from bench.training.layers import batch_statistics

    with batch_statistics(task.model, keep=False):
        return task.model(x)


def test_all_methods_without_labels_have_an_online_form_but_those_that_need_all_images() -> None:
    unlabelled = {name for name in method_names() if load_method(name).method.labels == "unused"}
    assert set(ONLINE) == unlabelled - {"shot", "auto-unlabelled"}


@pytest.mark.parametrize("name", ONLINE)
def test_a_stream_starts_anew_and_gives_the_same(lab: Lab, name: str) -> None:
    task, predict = start(lab, name)
    assert len(task.images) == 0
    batches = first_and_second(lab)
    before = [predict(x).clone() for x in batches]
    assert all(logits.shape == (12, 3) and logits.isfinite().all() for logits in before)
    task.begin()
    loaded = load_method(name)
    predict = loaded.online(task, loaded.options(QUICK.get(name, {})))
    assert all(torch.equal(predict(x), logits) for x, logits in zip(batches, before, strict=True))
    task.begin()
    assert not [*task.model.fc._forward_pre_hooks]
    assert all(torch.equal(value, task.source_state[key]) for key, value in task.model.state_dict().items())


def test_none_and_adabn_predict_only(lab: Lab) -> None:
    for name in ("none", "adabn"):
        task, predict = start(lab, name)
        for x in first_and_second(lab):
            task.model.eval() if name == "none" else None
            wanted = task.model(x) if name == "none" else normalised_by(task, x)
            if name == "adabn":
                task.begin()
                predict = load_method(name).online(task, load_method(name).options({}))
            assert torch.allclose(predict(x), wanted, atol=1e-6)
        assert all(torch.equal(value, task.source_state[key]) for key, value in task.model.state_dict().items())


@pytest.mark.parametrize("name", ["tent", "eata", "sar"])
def test_a_batch_is_predicted_before_it_is_learned_from(lab: Lab, name: str) -> None:
    """The first batch as AdaBN has it, then the step of the offline form on that batch, then the second batch."""
    first, second = first_and_second(lab)
    options = {"margin": 1.0} if name in ("eata", "sar") else {}
    task, predict = start(lab, name, lr=0.05, **options)
    source = lab.Net()
    source.load_state_dict(task.source_state)
    bare = lab.task("none", model=source)
    assert torch.allclose(predict(first), normalised_by(bare, first), atol=1e-6)
    facts = task.source_facts
    offline = lab.task(name, model=lab.Net(), train=lab.images(12, seed=3), source_facts=facts)
    offline.model.load_state_dict(task.source_state)
    offline._source_state = dict(task.source_state)
    offline.batches = lambda size, shuffle=True: iter([first])  # in the order of the stream
    lab.run(name, offline, lr=0.05, batch=12, **options)
    for key, value in task.model.named_parameters():
        assert torch.allclose(value, dict(offline.model.named_parameters())[key], atol=1e-6), key
    assert any(not torch.equal(value, task.source_state[key]) for key, value in task.model.named_parameters())
    wanted = normalised_by(lab.task("none", model=offline.model), second)
    assert torch.allclose(predict(second), wanted, atol=1e-5)


def test_t3a_keeps_the_supports_of_all_images_so_far(lab: Lab) -> None:
    batches = [lab.images(12, seed=seed).x for seed in range(3, 8)]
    task, predict = start(lab, "t3a", keep=4)
    features, logits = [], []
    with torch.no_grad():
        for x in batches:
            z = torch.relu(task.model.norm1(task.model.stem(x)))
            z = torch.relu(task.model.norm2(task.model.body(z))).mean((2, 3))
            features.append(z)
            logits.append(task.model.fc(z))
            head = task.model.fc
            rows, _ = support_head(head.weight, head.bias, torch.cat(features), torch.cat(logits), 4)
            assert torch.allclose(predict(x), F.linear(z, rows), atol=1e-5)


def test_lame_settles_each_batch_by_itself(lab: Lab) -> None:
    task, predict = start(lab, "lame", neighbours=2)
    with torch.no_grad():
        for x in first_and_second(lab):
            z = torch.relu(task.model.norm1(task.model.stem(x)))
            z = torch.relu(task.model.norm2(task.model.body(z))).mean((2, 3))
            settled = laplacian_assignments(task.model.fc(z), neighbours(z, z, 2, skip_self=True))
            assert torch.allclose(predict(x).softmax(1), settled, atol=1e-5)


def test_memo_starts_from_the_source_at_each_image(lab: Lab) -> None:
    task, predict = start(lab, "memo", lr=0.5)
    x = lab.images(4, seed=3).x
    logits = predict(x)
    task.model.eval()
    assert not torch.allclose(logits, task.model(x), atol=1e-4)  # it moved, and went back
    assert all(torch.equal(value, task.source_state[key]) for key, value in task.model.named_parameters())
    state = task.generator.get_state()
    alone = predict(x[3:])
    task.generator.set_state(state)
    assert torch.equal(predict(x[3:]), alone)


def test_cotta_answers_by_its_teacher(lab: Lab) -> None:
    first, second = first_and_second(lab)
    task, predict = start(lab, "cotta", unsure=0.0, average=0.0, restore=0.0, lr=0.1)
    source = lab.Net()
    source.load_state_dict(task.source_state)
    assert torch.allclose(predict(first), normalised_by(lab.task("none", model=source), first), atol=1e-6)
    # the teacher is the student here, as nothing of it stays
    student = lab.Net()
    student.load_state_dict(task.model.state_dict())
    assert torch.allclose(predict(second), normalised_by(lab.task("none", model=student), second), atol=1e-5)


# -- suites -----------------------------------------------------------------------------------------


def stream_of(make_suite: Callable[..., Suite], work: object, **changes: object) -> Suite:
    given = {"blocks": None, "methods": ["none", "tent"], "train_size": None, "exclude": None, "train": None}
    return make_suite(**{**given, "work": work, **changes})


def test_options_of_work_multiply_and_stand_in_the_id(make_suite: Callable[..., Suite]) -> None:
    work = {"stream": {"order": ["iid", "classes"], "block": 8, "batch": [1, 64]}}
    suite = stream_of(make_suite, work, data=[{"dataset": "digits", "shift": "noise"}], seeds=[0])
    ids = [cell.cell_id for cell in suite.cells()]
    assert len(ids) == len(set(ids)) == 8
    assert "digits-noise/n=0/stream/tent/s=0" in ids
    assert "digits-noise/n=0/stream(batch=1,order=classes,block=8)/none/s=0" in ids
    again = Suite.of_content(json.loads(json.dumps(suite.content())))
    assert (again.cells(), again.digest()) == (suite.cells(), suite.digest())
    inference = make_suite(work={"infer": {"batch": [1, 64]}}, exclude=None)
    assert "digits-noise/n=40/infer(batch=1)/full/s=0" in {cell.cell_id for cell in inference.cells()}
    assert "work" not in make_suite(work="adapt").content()
    assert make_suite(work="adapt").digest() == make_suite().digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["full"]}, "methods: full needs labels, and a stream has none"),
        ({"methods": ["none", "bn"]}, "methods: bn needs labels, and a stream has none"),
        ({"methods": None, "blocks": ["fc"]}, "blocks: fc needs labels, and a stream has none"),
        ({"methods": ["shot"]}, "methods: shot has no form for streams"),
        ({"train_size": [0.1]}, "train_size: a stream has no training images; drop it"),
        ({"train": {"engine": ["fast", "truncated"]}}, "train.engine: a stream is not trained on; give it one value"),
        ({"work": "strem"}, "work: 'strem' is no work; did you mean 'stream'?"),
        ({"work": {"stream": {"ordre": "iid"}}}, "work.stream.ordre: unknown key; did you mean 'order'?"),
        ({"work": {"stream": {"order": "class"}}}, "'class' is not valid; did you mean 'classes'?"),
        ({"work": {"stream": {"batch": 0}}}, "work.stream.batch: "),
        ({"work": {"stream": {"batch": [8, 8]}}}, "work.stream.batch[1]: 8 is given twice"),
        ({"work": {"stream": {"block": 4}}}, "work.stream.block: is of `order: classes` alone"),
        ({"work": {"adapt": {"batch": 4}}}, "work.adapt: adapt has no options"),
        ({"work": 3}, "work: expected adapt, infer, stream"),
        ({"work": {"infer": {}}}, "train_size is missing"),
        (
            {"data": [{"dataset": "digits", "shift": "continual", "corruptions": ["noise", "nois"]}]},
            "data[0].corruptions[1]: 'nois' is not a corruption; did you mean 'noise'?",
        ),
        (
            {"data": [{"dataset": "digits", "shift": "continual", "corruptions": ["noise", "saturate"]}]},
            "saturate needs colour images",
        ),
        ({"data": [{"dataset": "digits", "shift": "continual"}]}, "corruptions is missing"),
    ],
)
def test_wrong_work_is_refused_in_one_line(
    write_suite: Callable[..., Path], valid: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    content = (
        valid | {"blocks": None, "methods": ["none"], "work": "stream", "train_size": None, "train": None} | changes
    )
    path = write_suite({key: value for key, value in content.items() if value is not None})
    with pytest.raises(RequestError) as caught:
        load_suite(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shifts_in_a_row_are_for_streams_alone(write_suite: Callable[..., Path], valid: dict[str, Any]) -> None:
    data = [{"dataset": "digits", "shift": "continual", "corruptions": ["noise", "blur"]}]
    with pytest.raises(RequestError, match="several shifts in a row, which only a stream meets; add work: stream"):
        load_suite(str(write_suite(valid | {"data": data})))


# -- whole runs -------------------------------------------------------------------------------------

SUITE: dict[str, Any] = {
    "name": "flow",
    "model": {"name": "resnet8", "width": 4, "source_train": {"epochs": 2}},
    "data": [{"dataset": "digits", "shift": "noise"}],
    "seeds": [0],
    "train": {"epochs": 2, "batch_size": 16, "lr": 0.01, "threads": 1},
    "energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0.1, "guard_s": 0, "cooldown_s": 0},
}

SPY = '''
import gc, os, sys
from bench.methods import Adapted, Method, Options

class SpyOptions(Options):
    pass

METHOD = Method(name="theirs", about="looks for labels", labels="LABELS", options=SpyOptions)

def look(task):
    """Arrays and tensors of whole numbers from 0 to 9 that could be labels, wherever in the process they are."""
    import numpy as np, torch
    todo, seen, found = [task, *gc.get_objects()], set(), []
    frame = sys._getframe()
    while frame is not None:
        todo += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        try:
            if isinstance(one, (np.ndarray, torch.Tensor)):
                flat = np.asarray(one).ravel()
                if flat.dtype.kind in "iu" and len(flat) >= 30 and 0 <= flat.min() and flat.max() == 9:
                    found.append(str(one.shape))
            elif isinstance(one, (list, tuple)) and len(one) >= 30 and set(map(type, one)) == {int} and max(one) == 9:
                found.append("list")
            elif isinstance(one, dict) and one is not seen:
                todo += [*one.values()]
            todo += gc.get_referents(one)
        except Exception:
            pass
    handles = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    maps = open("/proc/self/maps").read()
    opened = [path for path in handles if path.endswith("_y.npy")] + ["map"] * ("_y.npy" in maps)
    return found, opened

def adapt(task, options):
    found, opened = look(task)
    if len(found) + len(opened):
        raise ValueError(f"labels: {len(found)} {len(opened)}")
    return Adapted()

def online(task, options):
    looked = []
    def predict(x):
        if len(looked) == 1:  # at the second batch, when all is there; once, as it takes seconds
            adapt(task, options)
        looked.append(1)
        return task.logits(x).detach()
    return predict
'''  # noqa: E501  # a module that is written to a file


def run(folder: Path, code: str = "", **changes: Any) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Run a suite with a method of another package in it; the command and its records."""
    site = folder / "site"
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (site / "theirs.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[jouletune.methods]\ntheirs = theirs\n" if code else "")
    (folder / "s.yaml").write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))
    done = subprocess.run(
        [sys.executable, "-c", "from bench.cli import main; main()", "run", "s.yaml", "--out", "r",
         "--source", "simulated"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(Path(bench.__file__).parents[1])])},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    lines = (folder / "r" / "cells.jsonl").read_text().splitlines() if (folder / "r" / "cells.jsonl").exists() else []
    return done, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "changes", [{"train_size": [0.2]}, {"work": {"stream": {"batch": 20}}}], ids=["adapt", "stream"]
)
def test_there_are_no_labels_in_the_process_that_gets_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    """In batches of 20, so that what was predicted is not taken for labels."""
    done, records = run(tmp_path, SPY.replace("LABELS", "unused"), methods=["theirs"], **changes)
    assert [record["error"] for record in records] == [None], done.stderr
    assert records[0]["accuracy_after"] == records[0]["accuracy_before"]  # which were counted with labels


def test_the_search_for_labels_finds_them_where_they_are(tmp_path: Path) -> None:
    _, records = run(tmp_path, SPY.replace("LABELS", "needed"), methods=["theirs"], train_size=[0.2])
    assert records[0]["error"].startswith("ValueError: labels: ")


def test_a_stream_of_two_shifts_with_and_without_reset(tmp_path: Path) -> None:
    data = [
        {"dataset": "digits", "shift": "noise", "name": "one"},
        {"dataset": "digits", "shift": "continual", "corruptions": ["noise", "contrast", "noise"], "name": "three"},
    ]
    work = {"stream": {"reset": [False, True], "images": 60, "batch": 20}}
    done, records = run(tmp_path, data=data, work=work, methods=["none", {"tent": {"lr": 0.05}}, "adabn"])
    assert done.returncode == 0, done.stderr
    found = {record["cell_id"]: record for record in records}
    assert len(found) == 12

    def of(reset: str, arm: str, data: str = "three") -> dict[str, Any]:
        return found[f"{data}/n=0/stream(batch=20,images=60{reset})/{arm}/s=0"]

    for record in records:
        n = record["n_images"]
        assert n == record["n_test"] == (180 if record["data"] == "three" else 60)
        shifts = record["stream"]["shifts"]
        right = sum(shift["images"] * shift["accuracy"] for shift in shifts)
        assert record["accuracy_after"] == pytest.approx(right / n)
        assert record["work"].startswith("stream(")
        assert {*record["phases"]} == {*record["phase_macs"]} == {"stream"}
        assert record["energy_gross_j"] > 0
        assert record["labels"] == "unused"
        assert (record["stream"]["seed"], len(record["stream"]["order_sha256"])) == (0, 64)
    none = of("", "none")
    assert none["accuracy_after"] == none["accuracy_before"]
    assert none["trained_parameters"] == 0
    assert none["phase_macs"]["stream"] == 180 * none["forward_macs"]
    tent, anew = of("", "tent(lr=0.05)"), of(",reset=true", "tent(lr=0.05)")
    assert tent["stream"]["shifts"][0] == anew["stream"]["shifts"][0]  # before anything was reset
    assert tent["stream"]["shifts"] != anew["stream"]["shifts"]
    assert tent["trained_parameters"] > 0
    orders = {record["stream"]["order_sha256"] for record in records if record["data"] == "three"}
    assert len(orders) == 1  # the same for every arm
    # an online method without memory of the batches before cannot tell
    assert of("", "adabn")["stream"]["shifts"] == of(",reset=true", "adabn")["stream"]["shifts"]


def test_inference_is_measured_with_the_model_that_the_arm_left(tmp_path: Path) -> None:
    done, records = run(
        tmp_path,
        methods=["none", "full", "lame"],
        train_size=[60],
        work={"infer": {"images": 300, "batch": [1, 64]}},
        train={"epochs": 6, "batch_size": 16, "lr": 0.05, "threads": 1},
    )
    assert done.returncode == 0, done.stderr
    found = {(record["arm"], record["work"]): record for record in records}
    assert len(found) == 6
    one, many = found["full", "infer(batch=1,images=300)"], found["full", "infer(images=300)"]
    assert one["accuracy_after"] == many["accuracy_after"] > one["accuracy_before"]
    assert one["n_images"] == 300
    assert one["phase_macs"] == {"infer": 300 * one["forward_macs"]}
    assert {*one["phases"]} == {"infer"}
    assert one["steps"] == many["steps"] > 0  # of the adapting, which is in no window
    assert one["train_time_s"] > 1.5 * many["train_time_s"]
    none = found["none", "infer(images=300)"]
    assert none["energy_gross_j"] > 0
    assert none["accuracy_after"] == none["accuracy_before"]
