"""Read a YAML file from anybody: plain data only, no key twice, no bomb, and a line for every error."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.errors import RequestError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
Loc = tuple[str | int, ...]


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, as YAML 1.2 does; PyYAML's 1.1 rule makes it a string."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


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
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
        return RequestError(f"{self.origin}:{line}: {key + ': ' if key else ''}{message}")


def read_yaml(path: Path, origin: str) -> YamlFile:
    """Read and check a file.

    Raises:
        RequestError: not there, too large, not YAML, a key twice, an object tag, an alias bomb, or no mapping.
    """
    try:
        raw = path.read_bytes()
    except IsADirectoryError:
        raise RequestError(f"{origin}: a folder; expected a YAML file") from None
    except OSError as error:
        raise RequestError(f"{origin}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise RequestError(f"{origin}: {len(raw)} bytes; a suite has at most {MAX_BYTES}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{origin}: not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, origin)


def parse_yaml(text: str, origin: str) -> YamlFile:
    """As `read_yaml`, for text at hand."""
    loader = _PlainLoader(text)
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
        raise RequestError(f"{origin}{where}: not plain YAML ({_one_line(error.problem or error.context)})") from None
    except yaml.YAMLError as error:
        raise RequestError(f"{origin}: not YAML ({_one_line(error)})") from None
    except RecursionError:
        raise RequestError(f"{origin}: nested too deeply") from None
    except ValueError as error:  # a scalar that looks like a number or date and is none
        raise RequestError(f"{origin}: {_one_line(error)}") from None
    finally:
        loader.dispose()
    return YamlFile(origin, text, content, lines)


def _check(root: yaml.Node, origin: str) -> None:
    """Refuse keys given twice, aliases that contain themselves, and content that aliases blow up."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        where = f"{origin}:{node.start_mark.line + 1}"
        if id(node) in open_nodes:
            raise RequestError(f"{where}: an alias that contains itself")
        open_nodes.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            seen: set[Hashable] = set()
            for key, value in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise RequestError(f"{origin}:{line}: a key must be a plain name")
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise RequestError(f"{origin}:{line}: key {key.value!r} is given twice")
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


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
