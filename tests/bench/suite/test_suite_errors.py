"""A malformed suite ends with one clear line on stderr and status 2; nothing is written and nothing in it is run."""

from __future__ import annotations

import copy
import os
import random
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import cli
from bench.errors import RequestError, nearest, show
from bench.suite.load import load_suite
from bench.suite.yaml_file import parse_yaml

ROOT = Path(__file__).resolve().parents[3]

BASE = """\
name: trial
model: {name: resnet8}
data:
  - {dataset: digits, shift: noise}
train_size: [0.1, 0.2]
blocks: [block1, fc, full]
seeds: [0, 1]
train: {epochs: 2, lr: 0.01}
energy: {repeats: 2}
"""


def changed(old: str, new: str) -> str:
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)


def more(line: str) -> str:
    return BASE + line + "\n"


OWN = "{name: 'mynet:make', blocks: {stem: [conv1], fc: [fc]}}"
ENTRY = "{dataset: digits, shift: noise}"
MANY = ", ".join(str(n) for n in range(10, 20_000))


def name(value: str) -> str:
    return changed("name: trial", f"name: {value}")


def model(more: str) -> str:
    return changed("name: resnet8", f"name: resnet8{more}")


def own(more: str) -> str:
    return changed("name: resnet8", f"name: 'mynet:make'{more}")


def entry(whole: str) -> str:
    return changed(ENTRY, whole)


def point(more: str) -> str:
    return changed("shift: noise", f"shift: noise{more}")


def shift(value: str) -> str:
    return changed("shift: noise", f"shift: {value}")


def groups(superclasses: str) -> str:
    return entry(f"{{dataset: digits, shift: subpopulation, superclasses: {superclasses}}}")


def sizes(value: str) -> str:
    return changed("[0.1, 0.2]", value)


def blocks(value: str) -> str:
    return changed("[block1, fc, full]", value)


def seeds(value: str) -> str:
    return changed("seeds: [0, 1]", f"seeds: {value}")


def train(setting: str) -> str:
    return changed("lr: 0.01", setting)


def energy(setting: str) -> str:
    return changed("repeats: 2", setting)


# what is wrong -> (the file, its line, what the message must say)
BROKEN: dict[str, tuple[str | bytes, int | None, tuple[str, ...]]] = {
    # -- not YAML, or not plain data
    "yaml-tab": ("name: trial\n\tmodel: x\n", 2, ("not plain YAML", "\\t")),
    "yaml-unclosed-list": (seeds("[0, 1"), 8, ("line 7",)),
    "yaml-unclosed-quote": (more("title: 'open"), 11, ("quoted scalar that begins in line 10",)),
    "yaml-two-documents": (more("---\nname: b"), 10, ("another document",)),
    "yaml-undefined-alias": (seeds("*s"), 7, ("undefined alias 's'",)),
    "yaml-bad-escape": (more('title: "\\q"'), 10, ("escape",)),
    "yaml-colon-in-value": (more("title: a: b"), 10, ("mapping values",)),
    "empty-file": ("", None, ("empty",)),
    "only-comments": ("# nothing\n# here\n", None, ("empty",)),
    "list-at-top": ("- name: trial\n", 1, ("mapping at the top", "a list")),
    "scalar-at-top": ("trial\n", 1, ("mapping at the top", "a single value")),
    "duplicate-root-key": (more("seeds: [2]"), 10, ("'seeds' is given twice",)),
    "duplicate-nested-key": (changed("epochs: 2,", "epochs: 2, lr: 1,"), 8, ("'lr' is given twice",)),
    "key-is-a-list": (more("? [a, b]\n: 1"), 10, ("plain name",)),
    "alias-bomb": (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        None,
        ("100000 values",),
    ),
    "alias-contains-itself": (seeds("&s [*s]"), 7, ("contains itself",)),
    "merge-contains-itself": (more("exclude: &e {<<: *e}"), 10, ("contains itself",)),
    "object-call": (more("title: !!python/object/apply:os.system [touch pwned]"), 10, ("/apply:os.system",)),
    "object-name": (more("title: !!python/name:os.system"), 10, ("python/name:os.system", "plain data")),
    "object-new": (more("title: !!python/object/new:os.mkdir [pwned]"), 10, ("plain data",)),
    "tag-of-ones-own": (more("title: !env HOME"), 10, ("!env", "plain data")),
    "set-tag": (seeds("[!!set {0}]"), 7, ("!!set",)),
    "binary-tag": (more("title: !!binary aGk="), 10, ("!!binary",)),
    "tag-that-does-not-fit": (seeds("[!!bool maybe]"), 7, ("'maybe'", "true or false")),
    "not-utf8": (BASE.encode() + b"title: caf\xe9\n", 10, ("UTF-8",)),
    "utf-16": (BASE.encode("utf-16"), 1, ("UTF-8",)),
    "control-character": (more("title: a\x01b"), 10, ("0x01",)),
    "nul-byte": (more("title: a\0b"), 10, ("0x00",)),
    "too-large": (BASE + "# " + "x" * 1_000_000, None, ("1,000,000 bytes",)),
    "too-deep": (more("title: " + "[" * 5000), None, ("too deeply",)),
    "deep-but-whole": (more("title: " + "[" * 200 + "]" * 200), 10, ("title", "expected text")),
    # -- keys
    "unknown-root-key": (more("tiemout_s: 5"), 10, ("tiemout_s: unknown key", "'timeout_s'")),
    "unknown-train-key": (train("learning_rate: 0.01"), 8, ("train.learning_rate: unknown key",)),
    "unknown-model-key": (model(", widht: 8"), 2, ("model.widht", "'width'")),
    "unknown-data-key": (point(", severty: 3"), 4, ("data[0].severty", "'severity'")),
    "unknown-energy-key": (energy("repeat: 2"), 9, ("energy.repeat", "'repeats'")),
    "unknown-override-key": (
        train("per_block: {fc: {rl: 1}}"), 8, ("train.per_block.fc.rl: unknown key", "batch_size, lr,")
    ),
    "unknown-source-train-key": (
        changed("resnet8}", "resnet8, source_train: {epoch: 1}}"), 2, ("model.source_train.epoch", "'epochs'")
    ),
    "key-is-a-number": (more("1: x"), 10, ("1: unknown key",)),
    "key-is-a-yaml-1.1-boolean": (more("on: x"), 10, ("on: unknown key",)),
    "key-is-null": (more("null: x"), 10, ("null: unknown key",)),
    "key-is-empty": (more('"": x'), 10, ("unknown key",)),
    "key-with-newline": (more('"a\\nb": x'), 10, ("a\\nb", "unknown key")),
    "key-with-escape-code": (more('"\\e[31mred": x'), 10, ("\\x1b", "unknown key")),
    "key-very-long": (more("x" * 900 + ": 1"), 10, ("unknown key", "902 characters")),
    "key-number-in-per-block": (train("per_block: {1: {lr: 1}}"), 8, ("train.per_block.1", "'1'")),
    "missing-name": (changed("name: trial\n", ""), 1, ("name is missing",)),
    "missing-data": (changed("data:\n  - {dataset: digits, shift: noise}\n", ""), 1, ("data is missing",)),
    "missing-seeds": (changed("seeds: [0, 1]\n", ""), 1, ("seeds is missing",)),
    "missing-model-name": (changed("{name: resnet8}", "{width: 8}"), 2, ("model.name: is missing",)),
    "missing-dataset": (changed("dataset: digits, ", ""), 4, ("data[0]: dataset is missing",)),
    "missing-shift": (changed(", shift: noise", ""), 4, ("data[0]: shift is missing", "noise")),
    # -- types
    "epochs-text": (changed("epochs: 2", "epochs: '2'"), 8, ("train.epochs", "whole number", "'2'")),
    "epochs-boolean": (changed("epochs: 2", "epochs: true"), 8, ("train.epochs", "whole number", "true")),
    "epochs-fraction": (changed("epochs: 2", "epochs: 2.0"), 8, ("train.epochs", "whole number", "2.0")),
    "epochs-null": (changed("epochs: 2", "epochs: null"), 8, ("train.epochs", "null")),
    "epochs-list": (changed("epochs: 2", "epochs: [1, 2]"), 8, ("train.epochs", "[1, 2]")),
    "lr-text": (train("lr: '0.01'"), 8, ("train.lr", "number", "'0.01'")),
    "lr-mapping": (train("lr: {fc: 1}"), 8, ("train.lr", "number", "'fc'")),
    "title-number": (more("title: 5"), 10, ("title", "text", "5")),
    "version-text": (more("version: '1'"), 10, ("version", "whole number")),
    "train-null": (changed("train: {epochs: 2, lr: 0.01}", "train:"), 8, ("train", "mapping of settings")),
    "train-list": (changed("train: {epochs: 2, lr: 0.01}", "train: [1]"), 8, ("train", "mapping of settings")),
    "per-block-list": (train("per_block: [fc]"), 8, ("train.per_block", "mapping")),
    "per-block-number": (train("per_block: {fc: 0.1}"), 8, ("train.per_block.fc", "mapping of settings")),
    "model-text": (changed("model: {name: resnet8}", "model: resnet8"), 2, ("model", "mapping", "'resnet8'")),
    "data-mapping": (
        changed("data:\n  - {dataset: digits, shift: noise}", "data: {dataset: digits, shift: noise}"), 3,
        ("data: expected a list",),
    ),
    "data-text": (entry("digits"), 4, ("data[0]: expected a mapping",)),
    "seeds-number": (seeds("3"), 7, ("seeds: expected a list, got 3",)),
    "seeds-null": (seeds(""), 7, ("seeds: expected a list",)),
    "seeds-mapping": (seeds("[{a: 1}]"), 7, ("seeds[0]", "whole number")),
    "seeds-boolean": (seeds("[1, true]"), 7, ("seeds[1]", "whole number", "true")),
    "seeds-text": (seeds("['0']"), 7, ("seeds[0]", "whole number", "'0'")),
    "seeds-nested": (seeds("[[0, 1]]"), 7, ("seeds[0]", "whole number")),
    "train-size-text": (sizes("['0.1']"), 5, ("train_size[0]", "'0.1'", "fraction between 0 and 1")),
    "train-size-boolean": (sizes("[true]"), 5, ("train_size[0]", "true")),
    "train-size-null": (sizes("[null]"), 5, ("train_size[0]", "null")),
    "blocks-number": (blocks("[1]"), 6, ("blocks[0]", "block's name", "got 1")),
    "blocks-mapping": (blocks("[{fc: 1}]"), 6, ("blocks[0]", "block's name")),
    "blocks-empty-set": (blocks("[[]]"), 6, ("blocks[0]", "block's name")),
    "dataset-number": (changed("dataset: digits", "dataset: 5"), 4, ("data[0].dataset", "5", "digits")),
    "dataset-nested": (changed("dataset: digits", "dataset: [[digits]]"), 4, ("data[0].dataset", "['digits']")),
    "shift-mapping": (shift("{a: b}"), 4, ("data[0].shift",)),
    "shift-null": (shift("null"), 4, ("shift is missing",)),
    "exclude-mapping": (more("exclude: {blocks: full}"), 10, ("exclude: expected a list",)),
    "exclude-text": (more("exclude: [full]"), 10, ("exclude[0]: expected a mapping",)),
    "exclude-empty-rule": (more("exclude: [{}]"), 10, ("exclude[0]: expected a mapping",)),
    # -- values: not finite, out of range
    "train-size-nan": (sizes("[.nan]"), 5, ("train_size[0]", "nan")),
    "train-size-infinite": (sizes("[.inf]"), 5, ("train_size[0]", "inf")),
    "train-size-overflows": (sizes("[1e400]"), 5, ("train_size[0]", "inf")),
    "train-size-huge-integer": (sizes("[1" + "0" * 400 + "]"), 5, ("18 digits", "characters")),
    "train-size-zero": (sizes("[0]"), 5, ("train_size[0]: 0 is out of range",)),
    "train-size-zero-float": (sizes("[0.0]"), 5, ("train_size[0]: 0.0 is out of range",)),
    "train-size-one-image": (sizes("[1]"), 5, ("train_size[0]: 1 is out of range",)),
    "train-size-negative": (sizes("[-5]"), 5, ("train_size[0]: -5 is out of range",)),
    "train-size-float-over-one": (sizes("[1.5]"), 5, ("train_size[0]: 1.5 is out of range",)),
    "train-size-float-count": (sizes("[100.0]"), 5, ("train_size[0]: 100.0 is out of range",)),
    "train-size-over-pool": (sizes("[0.1, 0.9]"), 5, ("train_size[1]", "0.9", "pool", "0.7")),
    "train-size-over-data": (sizes("[40, 700]"), 5, ("train_size[1]", "700", "629", "899")),
    "train-size-twenty-million": (sizes("[20000000]"), 5, ("train_size[0]", "20000000 is out of range")),
    "train-size-rounds-to-one": (sizes("[0.001]"), 5, ("train_size[0]", "fewest")),
    "lr-zero": (train("lr: 0"), 8, ("train.lr", "greater than 0")),
    "lr-negative": (train("lr: -0.1"), 8, ("train.lr", "-0.1")),
    "lr-nan": (train("lr: .nan"), 8, ("train.lr", "nan")),
    "lr-infinite": (train("lr: 1e999"), 8, ("train.lr", "finite", "inf")),
    "override-lr-nan": (train("per_block: {fc: {lr: .nan}}"), 8, ("train.per_block.fc.lr", "nan")),
    "momentum-one": (train("momentum: 1.0"), 8, ("train.momentum", "less than 1")),
    "weight-decay-negative": (train("weight_decay: -1.0"), 8, ("train.weight_decay",)),
    "batch-of-none": (train("batch_size: 0"), 8, ("train.batch_size", "1", "got 0")),
    "noise-without-block": (shift("block_noise"), 4, ("data[0]: noised_block is missing",)),
    "noise-in-no-block": (shift("block_noise, noised_block: blok1"), 3, ("'blok1'", "did you mean 'block1'?")),
    "noise-in-a-number": (shift("block_noise, noised_block: 1"), 4, ("data[0].noised_block", "got 1")),
    "noise-twice": (shift("block_noise, noised_block: [fc, fc]"), 4, ("data[0].noised_block", "twice")),
    "noise-and-level": (shift("block_noise, noised_block: fc, level: input"), 4, ("data[0].level", "noised block")),
    "noise-beyond-accuracy": (
        shift("block_noise, noised_block: fc, noised_accuracy: 15"), 4, ("data[0].noised_accuracy", "15")
    ),
    "noised-block-elsewhere": (point(", noised_block: fc"), 4, ("data[0].noised_block", "block_noise")),
    "classes-elsewhere": (point(", classes: 3"), 4, ("data[0].classes", "random")),
    "classes-of-one": (changed("digits, shift: noise", "random, classes: 1"), 4, ("data[0].classes", "2 to 100")),
    "shifted-random": (changed("digits", "random"), 4, ("data[0].shift", "random has no noise")),
    "epochs-zero": (changed("epochs: 2", "epochs: 0"), 8, ("train.epochs", "got 0")),
    "patience-zero": (train("patience: 0"), 8, ("train.patience",)),
    "threads-zero": (train("threads: 0"), 8, ("train.threads",)),
    "width-zero": (model(", width: 0"), 2, ("model.width",)),
    "width-of-torchvision": (changed("resnet8", "resnet18, width: 8"), 2, ("model.width", "resnet18")),
    "repeats-zero": (energy("repeats: 0"), 9, ("energy.repeats",)),
    "window-nan": (energy("min_window_s: .nan"), 9, ("energy.min_window_s",)),
    "window-infinite": (energy("min_window_s: .inf"), 9, ("energy.min_window_s",)),
    "idle-negative": (energy("idle_s: -1"), 9, ("energy.idle_s",)),
    "timeout-nan": (more("timeout_s: .nan"), 10, ("timeout_s", "nan")),
    "timeout-zero": (more("timeout_s: 0"), 10, ("timeout_s", "greater than 0")),
    "seed-negative": (seeds("[0, -1]"), 7, ("seeds[1]", "-1")),
    "seed-too-large": (seeds("[4294967296]"), 7, ("seeds[0]", "4294967296")),
    "seed-hexadecimal": (seeds("[0x10]"), 7, ("seeds[0]", "'0x10'")),
    "split-sum": (more("split: {pool: 0.7, val: 0.2, test: 0.2}"), 10, ("split", "must be 1, not 1.1")),
    "split-one-key": (more("split: {pool: 0.9}"), 10, ("split", "must be 1, not 1.2")),
    "split-zero": (more("split: {pool: 0.5, val: 0.5, test: 0}"), 10, ("split.test",)),
    "split-leaves-nothing": (more("split: {pool: 0.9996, val: 0.0002, test: 0.0002}"), 10, ("split.val", "no image")),
    # -- values given twice, empty axes
    "seed-twice": (seeds("[0, 1, 0]"), 7, ("seeds[2]: 0 is given twice",)),
    "train-size-twice": (sizes("[0.1, 0.10]"), 5, ("train_size[1]: 0.1 is given twice",)),
    "block-twice": (blocks("[fc, block1, fc]"), 6, ("blocks[2]", "twice")),
    "block-twice-as-set": (blocks("[fc, [fc]]"), 6, ("blocks[1]", "twice")),
    "block-set-twice": (
        blocks("[[block1, fc], [fc, block1]]"), 6, ("blocks[1]", "['fc', 'block1']", "twice")
    ),
    "block-twice-in-set": (blocks("[[fc, fc]]"), 6, ("blocks[0]", "twice")),
    "data-twice": (entry(f"{ENTRY}\n  - {ENTRY}"), 5, ("data[1]", "twice")),
    "shift-twice": (shift("[noise, flip, noise]"), 4, ("data[0].shift", "'noise' is given twice")),
    "severity-twice": (point(", severity: [1, 1]"), 4, ("data[0].severity", "twice")),
    "names-twice": (
        point(", name: a}\n  - {dataset: digits, shift: flip, name: a"), 5, ("'a' is given twice",)
    ),
    "empty-seeds": (seeds("[]"), 7, ("seeds: empty",)),
    "empty-train-size": (sizes("[]"), 5, ("train_size: empty",)),
    "empty-blocks": (blocks("[]"), 6, ("blocks: empty",)),
    "empty-data": (changed("\n  - {dataset: digits, shift: noise}", " []"), 3, ("data: empty",)),
    "empty-shift": (shift("[]"), 4, ("data[0].shift: empty",)),
    # -- names
    "unknown-dataset": (changed("dataset: digits", "dataset: digit"), 4, ("'digit' is not a dataset", "'digits'")),
    "unknown-shift": (shift("noisy"), 4, ("'noisy' is not a shift", "'noise'")),
    "unknown-model": (changed("resnet8", "resnt8"), 2, ("'resnt8' is not a model", "'resnet8'")),
    "unknown-depth": (changed("resnet8", "resnet27"), 2, ("'resnet27' is not a model", "'resnet2")),
    "unknown-block": (blocks("[blok1]"), 6, ("'blok1' is not a block", "'block1'")),
    "unknown-optimizer": (train("optimizer: adamw"), 8, ("train.optimizer", "'adamw'", "'adam'")),
    "unknown-bn-mode": (train("bn_mode: adapt_once"), 8, ("train.bn_mode", "'adapt_once_then_eval'")),
    "unknown-level": (point(", level: inputs"), 4, ("data[0].level", "'input'")),
    "wrong-level": (point(", level: output"), 4, ("data[0].level", "input level")),
    "checkpoint-typo": (model(", checkpoint: tbft-cifar"), 2, ("'tbft-cifar10'",)),
    "checkpoint-nul": (model(', checkpoint: "a\\0.pth"'), 2, ("model.checkpoint",)),
    "checkpoint-home": (
        model(", checkpoint: ~nobody_has_this/a.pth"), 2, ("model.checkpoint", "home")
    ),
    "name-dotdot": (name("../trial"), 1, ("name: expected a-z", "'../trial'")),
    "name-slash": (name("a/b"), 1, ("name: expected a-z", "'a/b'")),
    "name-absolute": (name("/etc/x"), 1, ("name: expected a-z", "'/etc/x'")),
    "name-hidden": (name(".git"), 1, ("name: expected a-z",)),
    "name-of-the-published": (name("paper"), 1, ("published tables",)),
    "name-newline": (name('"a\\nb"'), 1, ("name: expected a-z", "a\\nb")),
    "name-trailing-newline": (name('"a\\n"'), 1, ("name: expected a-z",)),
    "name-unicode": (name("größe"), 1, ("name: expected a-z", "größe")),
    "name-line-separator": (name('"a\\u2028b"'), 1, ("\\u2028",)),
    "name-escape-code": (name('"\\e[2J"'), 1, ("\\x1b[2J",)),
    "name-very-long": (name("n" * 9999), 1, ("10001 characters",)),
    "name-surrogate": (name('"\\ud800"'), 1, ("name",)),
    "name-number": (name("5"), 1, ("name: expected text, got 5",)),
    "data-name-dotdot": (point(", name: ../x"), 4, ("data[0].name", "'../x'")),
    "data-name-slash": (point(", name: a/b"), 4, ("data[0].name", "'a/b'")),
    "data-name-for-many": (shift("[noise, blur], name: x"), 4, ("data[0].name", "several points")),
    # -- data
    "severity-zero": (point(", severity: 0"), 4, ("data[0].severity", "1 to 5")),
    "severity-six": (point(", severity: 6"), 4, ("data[0].severity", "6 is out of range")),
    "severity-fraction": (point(", severity: 2.5"), 4, ("data[0].severity", "2.5")),
    "severity-of-flip": (shift("flip, severity: 2"), 4, ("data[0].severity", "flip has not")),
    "permutation-missing": (shift("permute"), 4, ("permutation is missing",)),
    "permutation-short": (shift("permute, permutation: [1, 0]"), 4, ("0 to 9", "[1, 0]")),
    "permutation-doubled": (
        shift("permute, permutation: [1, 1, 2, 3, 4, 5, 6, 7, 8, 9]"), 4, ("0 to 9 once",)
    ),
    "permutation-identity": (
        shift("permute, permutation: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"), 4, ("nothing would shift",)
    ),
    "permutation-text": (shift("permute, permutation: [a, b]"), 4, ("list of class numbers",)),
    "permutation-empty": (shift("permute, permutation: []"), 4, ("0 to 9",)),
    "permutation-of-noise": (point(", permutation: [1, 0]"), 4, ("belongs to",)),
    "superclasses-of-noise": (point(", superclasses: {a: b}"), 4, ("belongs to",)),
    "superclasses-overlap": (
        groups("{a: {source: [0], target: [1]}, b: {source: [1], target: [2]}}"),
        4, ("superclasses.b", "'1' is given twice", "also in a"),
    ),
    "superclasses-unknown-member": (
        groups("{a: {source: [0], target: [x]}, b: {source: [1], target: [2]}}"),
        4, ("superclasses.a.target", "'x' is not a class of digits"),
    ),
    "superclasses-one": (
        groups("{a: {source: [0], target: [1]}}"), 4, ("at least two",)
    ),
    "superclasses-no-target": (
        groups("{a: {source: [0]}, b: {source: [1], target: [2]}}"),
        4, ("superclasses.a", "source: [...], target: [...]"),
    ),
    "superclasses-empty-side": (
        groups("{a: {source: [], target: [1]}, b: {source: [3], target: [2]}}"),
        4, ("superclasses.a.source", "list of classes"),
    ),
    "superclasses-nested-member": (
        groups("{a: {source: [[0]], target: [1]}, b: {source: [3], target: [2]}}"),
        4, ("superclasses.a.source", "names of classes"),
    ),
    "superclasses-list": (groups("[a, b]"), 4, ("superclasses", "at least two")),
    "folder-without-source": (changed("{dataset: digits, shift", "{dataset: folder, shift"), 4, ("source is missing",)),
    "folder-target-and-shift": (
        entry("{dataset: folder, source: a, target: b, shift: blur, level: input}"),
        4, ("data[0].shift", "drop one"),
    ),
    "folder-subpopulation-without-superclasses": (
        entry("{dataset: folder, source: a, shift: subpopulation}"),
        4, ("superclasses is missing",),
    ),
    "path-nul": (
        entry('{dataset: folder, source: "a\\0b", shift: noise}'), 4, ("data[0].source", "path")
    ),
    "path-number": (
        entry("{dataset: folder, source: 5, shift: noise}"), 4, ("data[0].source", "path")
    ),
    "path-home": (
        entry("{dataset: folder, source: ~nobody_has_this/a, shift: noise}"),
        4, ("data[0].source", "home folder"),
    ),
    "source-of-digits": (point(", source: x"), 4, ("data[0].source", "digits takes no source")),
    "target-of-digits": (changed("shift: noise", "target: x, level: input"), 4, ("data[0].target", "takes no target")),
    "image-size-of-digits": (point(", image_size: 16"), 4, ("data[0].image_size",)),
    "image-size-small": (
        entry("{dataset: folder, source: a, shift: noise, image_size: 4}"),
        4, ("data[0].image_size", "8 to 1024"),
    ),
    # -- rules across parts
    "exclude-unknown-key": (more("exclude: [{block: full}]"), 10, ("exclude[0].block: unknown key", "'blocks'")),
    "exclude-unknown-value": (more("exclude: [{blocks: ful}]"), 10, ("exclude[0].blocks", "'ful'", "'full'")),
    "exclude-quoted-number": (more("exclude: [{train_size: '0.1'}]"), 10, ("exclude[0].train_size", "'0.1'", "quotes")),
    "exclude-matches-nothing": (
        more("exclude: [{blocks: full, seed: [5, 6]}]"), 10, ("exclude[0].seed", "[5, 6]")
    ),
    "exclude-everything": (more("exclude: [{dataset: digits}]"), 10, ("every cell is excluded",)),
    "per-block-unknown": (train("per_block: {block9: {lr: 1}}"), 8, ("train.per_block.block9", "'block")),
    "per-block-unordered-set": (
        train("per_block: {fc+block1: {lr: 1}}"), 8, ("train.per_block.fc+block1", "'fc+block1'", "'block1'")
    ),
    "per-block-tbft": (
        blocks("[tbft, full]").replace("lr: 0.01", "per_block: {tbft: {lr: 1}}"), 8,
        ("train.per_block.tbft", "block1"),
    ),
    "full-in-a-set": (blocks("[[fc, full]]"), 6, ("'full' stands alone",)),
    "tbft-in-a-set": (blocks("[[fc, tbft]]"), 6, ("'tbft' stands alone",)),
    "tbft-without-target-block": (
        blocks("[tbft]").replace("{name: resnet8}", OWN), 6,
        ("'block1'", "not in the model", "stem, fc"),
    ),
    "own-model-without-blocks": (own(''), 2, ("blocks is missing", "mynet:make")),
    "own-model-no-blocks-in-it": (own(", blocks: {}"), 2, ("model.blocks: empty",)),
    "own-model-empty-block": (
        own(", blocks: {stem: []}"), 2, ("model.blocks.stem", "module paths")
    ),
    "own-model-module-twice": (
        own(", blocks: {stem: [a, a]}"), 2, ("model.blocks.stem", "twice")
    ),
    "own-model-block-called-full": (
        own(", blocks: {full: [a]}"), 2, ("model.blocks.full", "cannot be")
    ),
    "own-model-block-number": (
        own(", blocks: {stem: 5}"), 2, ("model.blocks.stem", "list")
    ),
    "ten-million-cells": (
        sizes("[" + ", ".join(str(n) for n in range(2, 602)) + "]").replace(
            "seeds: [0, 1]", "seeds: [" + ", ".join(map(str, range(5556))) + "]"
        ),
        1, ("10000800 cells", "200000"),
    ),
    "lists-that-multiply-to-billions": (
        entry(f"{{dataset: [digits, cifar10], shift: [noise, {MANY}], severity: [1, {MANY}]}}"),
        4, ("data[0].severity", "10 is out of range"),
    ),
}  # fmt: skip


def call(argv: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The real command line in this process: status, stdout, stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jouletune", *argv])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    out, err = capfd.readouterr()
    code = ended.value.code
    return code if isinstance(code, int) else 0, out, err


def check_refusal(status: int, out: str, err: str) -> str:
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    line = err[:-1]
    assert len(line.splitlines()) == 1, line  # splitlines knows every character that a terminal may break at
    assert line.isprintable()
    assert "Traceback" not in line
    assert "pydantic" not in line.lower()
    assert len(line) < 400, f"{len(line)} characters"
    return line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("kind", BROKEN)
def test_refused_in_one_line_and_nothing_is_written(
    kind: str, command: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content, line, words = BROKEN[kind]
    file = folder / "broken.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    argv = [command, "broken.yaml", *(["--out", "out", "--source", "none"] if command == "run" else [])]
    message = check_refusal(*call(argv, capfd))
    place = "broken.yaml:" if line is None else f"broken.yaml:{line}: "
    assert message.startswith(f"error: {place}"), message
    for word in words:
        assert word in message, message
    assert [entry.name for entry in folder.iterdir()] == ["broken.yaml"]


def test_there_are_at_least_thirty_kinds() -> None:
    assert len(BROKEN) >= 30


def test_base_is_valid_so_that_each_kind_fails_for_its_own_reason(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "fine.yaml").write_text(BASE)
    status, out, err = call(["validate", "fine.yaml"], capfd)
    assert (status, len(out.splitlines())) == (0, 12), err


@pytest.mark.parametrize("kind", ["object-call", "name-newline", "ten-million-cells", "not-utf8"])
def test_refused_alike_in_a_process_of_its_own(kind: str, folder: Path) -> None:
    content, _, words = BROKEN[kind]
    (folder / "broken.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    ended = subprocess.run(
        [sys.executable, "-m", "bench.cli", "run", "broken.yaml", "--out", "out"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    message = check_refusal(ended.returncode, ended.stdout, ended.stderr)
    assert all(word in message for word in words)
    assert [entry.name for entry in folder.iterdir()] == ["broken.yaml"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("quikstart", ("'quikstart'", "did you mean 'quickstart'?")),
        ("nosuch.yaml", ("nosuch.yaml: no such file", "quickstart")),
        ("deep/nosuch", ("deep/nosuch: no such file",)),
        ("folder.yaml", ("folder.yaml: a folder",)),
        ("dangling.yaml", ("dangling.yaml: cannot be read",)),
        ("new\nline.yaml", ("new\\nline.yaml: no such file",)),
        ("n" * 5000, ("5002 characters",)),
        ("", ("no suite is called ''",)),
    ],
)
def test_a_suite_that_is_not_there(
    wanted: str, words: tuple[str, ...], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "folder.yaml").mkdir()
    (folder / "dangling.yaml").symlink_to("nowhere")
    message = check_refusal(*call(["validate", wanted], capfd))
    assert all(word in message for word in words), message


def test_an_endless_file_is_no_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert "not a regular file" in check_refusal(*call(["validate", "/dev/zero"], capfd))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1.5E3", 1500.0), (".5", 0.5), ("5.", 5.0), ("-2", -2), ("1_000", 1000),
        # YAML 1.1 takes these for 8, 90, true, and a date
        ("010", 10), ("1:30", "1:30"), ("yes", "yes"), ("2025-01-01", "2025-01-01"),
        ("0x10", "0x10"), ("true", True), ("~", None), ("'1'", "1"), ("=", "="), ("1e400", float("inf")),
    ],
)  # fmt: skip
def test_scalars_are_read_as_yaml_1_2_does(text: str, value: object) -> None:
    got = parse_yaml(f"a: {text}", "x.yaml").content["a"]
    assert (got, type(got)) == (value, type(value))


def test_anchors_and_merges_are_welcome_where_they_are_small() -> None:
    file = parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", "x.yaml")
    assert file.content["b"] == {"x": 1, "y": 3}


def test_byte_order_mark_and_windows_line_ends_are_fine(folder: Path) -> None:
    (folder / "s.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert load_suite("s.yaml").suite.name == "trial"


def test_nearest_and_show() -> None:
    assert nearest("blok1", ["block1", "fc"]) == "did you mean 'block1'?"
    assert nearest("zzz", ["block1", "fc"]) == "choose from block1, fc"
    assert nearest("zzz", "abcdefghij", limit=2) == "choose from a, b, ..."
    assert show("a\nb") == r"'a\nb'"
    assert len(show("x" * 10_000)) < 100


# -- whatever is done to a suite, the answer is a suite or one line ---------------------------------

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["digits", "noise", "flip", "fc", "full", "tbft", "block1", "", "..", "a/b", "\x00", 10**30]),
    st.recursive(
        st.one_of(st.integers(-3, 3), st.text(max_size=3), st.none()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
)  # fmt: skip


def refused(action: Callable[[], object]) -> str | None:
    """What a RequestError said, None where there was none. Any other error fails the test."""
    try:
        action()
    except RequestError as error:
        return str(error)
    return None


def places(node: Any, loc: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [loc]
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            found += places(value, (*loc, key))
    return found


def mutate(content: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    for _ in range(data.draw(st.integers(1, 3))):
        loc = data.draw(st.sampled_from(places(content)[1:] or [()]))
        if not loc:
            break
        parent: Any = content
        for part in loc[:-1]:
            parent = parent[part]
        how = data.draw(st.sampled_from(["replace", "drop", "rename", "double", "wrap"]))
        if how == "drop":
            del parent[loc[-1]]
        elif how == "rename" and isinstance(parent, dict):
            parent[data.draw(st.text(max_size=5) | st.integers() | st.booleans() | st.none())] = parent.pop(loc[-1])
        elif how == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[loc[-1]]))
        elif how == "wrap":
            parent[loc[-1]] = [parent[loc[-1]]]
        else:
            parent[loc[-1]] = data.draw(JUNK)
    return content


FULL_SUITE: dict[str, Any] = {
    **yaml.safe_load(BASE),
    "data": [
        {"dataset": "digits", "shift": ["noise", "blur"], "severity": [1, 5]},
        {"dataset": "digits", "shift": "permute", "permutation": [1, 0, 2, 3, 4, 5, 6, 7, 8, 9], "name": "swap"},
        {
            "dataset": "digits",
            "shift": "subpopulation",
            "superclasses": {"a": {"source": ["0"], "target": ["1"]}, "b": {"source": [2], "target": [3]}},
        },
        {"dataset": "folder", "source": "a", "target": "b", "level": "feature", "image_size": 16},
    ],
    "model": {"name": "pkg.mod:make", "blocks": {"block1": ["a"], "fc": ["fc"]}, "source_train": {"epochs": 3}},
    "blocks": ["block1", ["block1", "fc"], "full"],
    "train": {"lr": 0.01, "bn_mode": "eval", "optimizer": "adam", "per_block": {"fc": {"lr": 0.1}}},
    "split": {"pool": 0.6, "val": 0.2, "test": 0.2},
    "exclude": [{"train_size": 0.2, "blocks": ["full"]}],
    "timeout_s": 60,
}


def test_the_suite_that_is_mutated_is_valid(write_suite: Callable[..., Path]) -> None:
    suite = load_suite(str(write_suite(FULL_SUITE))).suite
    assert len(suite.cells()) == 7 * (2 * 3 - 1) * 2


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_mutated_suite_is_a_suite_or_a_request_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = mutate(copy.deepcopy(FULL_SUITE), data)
    try:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=data.draw(st.booleans()))
    except (yaml.YAMLError, TypeError):
        return  # keys that the writer cannot sort or write
    file = tmp_path_factory.getbasetemp() / "mutated.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    refusal = refused(lambda: load_suite(str(file)))
    if refusal is None:
        assert load_suite(str(file)).suite.cells()
    else:
        assert refusal.isprintable()
        assert refusal.startswith(f"{file}:")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_a_suite_with_damaged_text_is_a_suite_or_a_request_error(seed: int) -> None:
    rng = random.Random(seed)
    text = BASE
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text))
        piece = rng.choice(
            [*string.punctuation, "\n", "\t", " ", "\r", "\x85", "!!int ", "&a ", "*a ", "<<: ", "- ", ""]
        )
        text = text[:at] + piece + text[at + rng.randint(0, 3) :]
    refusal = refused(lambda: parse_yaml(text, "x.yaml"))
    assert refusal is None or refusal.startswith("x.yaml:")


# -- what a valid suite spans -----------------------------------------------------------------------


def test_golden_cell_ids_of_quickstart() -> None:
    ids = [cell.cell_id for cell in load_suite("quickstart").suite.cells()]
    assert len(ids) == len(set(ids)) == 3 * 3 * 5 * 3
    assert ids[:6] == [
        "digits-noise/n=0.1/block1/s=0",
        "digits-noise/n=0.1/block2/s=0",
        "digits-noise/n=0.1/block3/s=0",
        "digits-noise/n=0.1/fc/s=0",
        "digits-noise/n=0.1/full/s=0",
        "digits-noise/n=0.1/block1/s=1",
    ]
    assert ids[-1] == "digits-flip/n=0.3/full/s=2"


def test_cell_ids_name_sets_severities_and_counts(make_suite: Callable[..., Any]) -> None:
    suite = make_suite(
        data=[{"dataset": "digits", "shift": ["noise", "blur"], "severity": [1, 5]}],
        train_size=[40, 0.25],
        blocks=[["block3", "block2"], "full"],
        seeds=[7],
    )
    ids = [cell.cell_id for cell in suite.cells()]
    assert ids[0] == "digits-noise-sev1/n=40/block2+block3/s=7"
    assert ids[-1] == "digits-blur-sev5/n=0.25/full/s=7"
    assert len(set(ids)) == 4 * 2 * 2


def test_tbft_is_the_target_block_of_each_level_and_no_cell_twice(make_suite: Callable[..., Any]) -> None:
    shifts = [{"dataset": "digits", "shift": shift} for shift in ("noise", "subpopulation", "flip")]
    suite = make_suite(data=shifts, blocks=["tbft", "block1"], train_size=[0.1], seeds=[0])
    assert [cell.cell_id for cell in suite.cells()] == [
        "digits-noise/n=0.1/block1/s=0",
        "digits-subpopulation/n=0.1/block3/s=0",
        "digits-subpopulation/n=0.1/block1/s=0",
        "digits-flip/n=0.1/fc/s=0",
        "digits-flip/n=0.1/block1/s=0",
    ]


def test_ten_thousand_cells(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "big.yaml").write_text(
        changed("seeds: [0, 1]", f"seeds: {list(range(500))}")
        .replace("shift: noise", "shift: [noise, blur], severity: [1, 2, 3, 4, 5]")
        .replace("[0.1, 0.2]", "[0.1]")
        .replace("[block1, fc, full]", "[block1, full]")
    )
    status, out, err = call(["validate", "big.yaml"], capfd)
    ids = out.splitlines()
    assert status == 0
    assert len(ids) == len(set(ids)) == 10_000
    assert "trial: 10000 cells x 2 repeats" in err


def test_excluded_cells_are_gone(make_suite: Callable[..., Any]) -> None:
    suite = make_suite(exclude=[{"train_size": 0.1, "blocks": ["full", "block2+block3"]}, {"seed": 1, "shift": "flip"}])
    ids = [cell.cell_id for cell in suite.cells()]
    assert len(ids) == 32 - 2 * 2 * 2 - (8 - 2)
    assert not [name for name in ids if "n=0.1/full" in name or "n=0.1/block2+block3" in name]
    assert not [name for name in ids if name.startswith("digits-flip") and name.endswith("s=1")]


def test_per_block_settings_reach_the_cells_protocol(make_suite: Callable[..., Any]) -> None:
    train = make_suite(
        train={"lr": 0.01, "momentum": 0.5, "per_block": {"block2+block3": {"lr": 0.2, "epochs": 3}}}
    ).train
    assert (train.for_arm("block2+block3").lr, train.for_arm("block2+block3").epochs) == (0.2, 3)
    assert train.for_arm("block2+block3").momentum == 0.5
    assert (train.for_arm("fc").lr, train.for_arm("fc").epochs) == (0.01, 10)


def test_digest_is_of_the_meaning(write_suite: Callable[..., Path], valid: dict[str, Any]) -> None:
    def digest(content: object) -> str:
        return load_suite(str(write_suite(content))).suite.digest()

    before = digest(valid)
    assert digest("# a comment\n" + yaml.safe_dump(dict(reversed(valid.items())), sort_keys=False)) == before
    assert digest(valid | {"title": "Another"}) == before
    # what stands in the file as the default means the same
    assert digest(valid | {"timeout_s": 3600.0, "exclude": [], "model": {"name": "resnet8", "width": 16}}) == before


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"model": {"name": "resnet14"}},
        {"model": {"name": "resnet8", "width": 8}},
        {"model": {"name": "resnet8", "source_train": {"epochs": 31}}},
        {"model": {"name": "resnet8", "blocks": {f"block{n}": [f"layer{n}"] for n in (1, 2, 3)} | {"fc": ["fc"]}}},
        {"data": [{"dataset": "digits", "shift": "noise", "severity": 4, "name": "digits-noise"}]},
        {"data": [{"dataset": "digits", "shift": "noise", "name": "digits-flip"}]},
        {"train_size": [0.1, 41]},
        {"blocks": ["block1", "fc", "full"]},
        {"seeds": [0, 2]},
        {"train": {"epochs": 2, "batch_size": 32, "lr": 0.01, "per_block": {"fc": {"lr": 0.2}}}},
        {"train": {"epochs": 2, "batch_size": 32, "lr": 0.01, "bn_mode": "eval", "per_block": {"fc": {"lr": 0.1}}}},
        {"energy": {"repeats": 3, "min_window_s": 0, "idle_s": 0, "guard_s": 0}},
        {"split": {"pool": 0.6, "val": 0.2, "test": 0.2}},
        {"exclude": [{"blocks": "full"}]},
        {"timeout_s": 10},
    ],
    ids="-".join,
)  # fmt: skip
def test_digest_changes_with_the_meaning(change: dict[str, Any], make_suite: Callable[..., Any]) -> None:
    assert make_suite(**change).digest() != make_suite().digest()
