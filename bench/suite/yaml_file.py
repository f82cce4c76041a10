"""Read an untrusted YAML file: plain data within limits, no key twice, and a line number for every error."""

from __future__ import annotations

import errno
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.errors import RequestError, show
from bench.suite.spec import Loc
from hardware.files import read_bytes

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
"""Values in a file, also once its aliases are followed."""
MAX_DEPTH = 256
"""Lists and mappings within each other."""


_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
_MERGE_TAG = _TAG + "merge"
_PLAIN_TAGS = _SCALAR_TAGS | {_TAG + "map", _TAG + "seq", _MERGE_TAG}
_MAX_DIGITS = 18
_READ_AS = {"int": f"a whole number of at most {_MAX_DIGITS} digits", "float": "a number", "bool": "true or false"}
_SIMPLE_KEY = re.compile(r"[\w+-][\w.+-]{0,60}")


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: 1e-3 and 010 are decimal numbers; 1:30, yes and dates are text."""

    def __init__(self, text: str, origin: str) -> None:
        super().__init__(text)
        self._origin = origin
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_NODES:
            raise RequestError(f"{self._origin}: more than {MAX_NODES} values")
        if self._depth > MAX_DEPTH:
            raise RequestError(f"{self._origin}: nested too deeply; at most {MAX_DEPTH} levels are read")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError):
            kind = _READ_AS.get(node.tag.removeprefix(_TAG), "plain data")
            raise yaml.constructor.ConstructorError(
                None, None, f"{show(node.value)} cannot be read as {kind}", node.start_mark
            ) from None

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        digits = str(self.construct_scalar(node)).replace("_", "")
        if len(digits) > _MAX_DIGITS:
            raise ValueError(digits)
        return int(digits)

    def construct_decimal(self, node: yaml.ScalarNode) -> float:
        return float(re.sub(r"\.(?=inf|nan)|_", "", str(self.construct_scalar(node)).lower()))


_PlainLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0].removeprefix(_TAG) not in ("timestamp", "int", "float", "bool", "value")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9][0-9_]*$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
):
    _PlainLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))
_PlainLoader.add_constructor(_TAG + "int", _PlainLoader.construct_whole)
_PlainLoader.add_constructor(_TAG + "float", _PlainLoader.construct_decimal)


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A file's content with the line of each part.

    Attributes:
        origin: how to name the file to its user.
        text: the file, verbatim.
        content: the root mapping.
        lines: location (keys and indices from the root) -> line, from 1.
    """

    origin: str
    text: str
    content: dict[str, Any]
    lines: dict[Loc, int]

    def error(self, loc: Loc, message: str) -> RequestError:
        """An error at a location: `file:line: key: message`, at the nearest part that has a line."""
        known = loc
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        key = "".join(map(_part, loc)).removeprefix(".")
        return RequestError(f"{self.origin}:{line}: {key + ': ' if key else ''}{message}")


def _part(part: str | int) -> str:
    return f".{part}" if isinstance(part, str) and _SIMPLE_KEY.fullmatch(part) else f"[{show(part)}]"


def read_yaml(path: Path, origin: str) -> YamlFile:
    """Read and check a file.

    Raises:
        RequestError: not there, too large, not YAML, a key twice, an object tag, an alias bomb, or no mapping.
    """
    return parse_yaml(read_text(path, origin), origin)


def read_text(path: Path, origin: str) -> str:
    """Read a regular file of text, through links too: it is the user's own.

    Raises:
        RequestError: not there, too large, no regular file, or not UTF-8.
    """
    try:
        raw = read_bytes(path, limit=MAX_BYTES)
    except OSError as error:
        if path.is_dir():
            raise RequestError(f"{origin}: a folder; expected a file") from None
        if error.errno == errno.EFBIG:
            raise RequestError(f"{origin}: too large; at most {MAX_BYTES:,} bytes are read") from None
        raise RequestError(f"{origin}: cannot be read ({error.strerror})") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RequestError(f"{origin}:{line}: not UTF-8 text (byte {raw[error.start]:#04x})") from None


def parse_yaml(text: str, origin: str) -> YamlFile:
    """As `read_yaml`, for text at hand."""
    try:
        loader = _PlainLoader(text, origin)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RequestError(f"{origin}:{line}: not text (character {error.character:#04x})") from None
    try:
        root = loader.get_single_node()
        if root is None:
            raise RequestError(f"{origin}: empty; expected a mapping with name, model, data, ...")
        if not isinstance(root, yaml.MappingNode):
            raise RequestError(f"{origin}:{root.start_mark.line + 1}: expected a mapping at the top, got {_kind(root)}")
        lines: dict[Loc, int] = {}
        _check(root, origin)
        _index(root, (), lines)
        content = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise RequestError(f"{origin}{where}: not plain YAML ({_problem(error)})") from None
    except RecursionError:
        raise RequestError(f"{origin}: nested too deeply") from None
    finally:
        loader.dispose()
    return YamlFile(origin, text, content, lines)


def _check(root: yaml.Node, origin: str) -> None:
    """Refuse objects, keys given twice, aliases that contain themselves, and content that aliases blow up.

    Keys become text, so that `on: 1` and `1: x` are named as they were written.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        where = f"{origin}:{node.start_mark.line + 1}"
        _check_tag(node, where)
        if id(node) in open_nodes:
            raise RequestError(f"{where}: an alias that contains itself")
        open_nodes.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            seen: set[Hashable] = set()
            for key, value in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise RequestError(f"{origin}:{line}: a key must be a plain name, not a list or a mapping")
                _check_tag(key, f"{origin}:{line}")
                if key.tag in _SCALAR_TAGS:
                    key.tag = _TAG + "str"
                if key.value in seen and key.tag != _MERGE_TAG:
                    raise RequestError(f"{origin}:{line}: key {show(key.value)} is given twice")
                seen.add(key.value)
                total += 1 + size(value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item) for item in node.value)
        if total > MAX_NODES:
            raise RequestError(f"{where}: more than {MAX_NODES} values once its aliases are followed")
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    size(root)


def _check_tag(node: yaml.Node, where: str) -> None:
    if node.tag not in _PLAIN_TAGS:
        tag = node.tag.replace(_TAG, "!!")
        raise RequestError(f"{where}: the tag {show(tag)} makes an object; a suite holds plain data only")


def _index(node: yaml.Node, loc: Loc, lines: dict[Loc, int]) -> None:
    lines[loc] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _index(value, (*loc, key.value), lines)
            lines[(*loc, key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _index(item, (*loc, number), lines)


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Describe the parser's problem, and where the value or key around it began."""
    problem = " ".join(str(error.problem or error.context).split()).removeprefix("but ")
    if error.context and error.context_mark and error.problem:
        return f"{problem}, {' '.join(error.context.split())} that begins in line {error.context_mark.line + 1}"
    return problem
