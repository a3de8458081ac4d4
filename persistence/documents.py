"""JSON and YAML with the line of each field, so that a fault can be found. YAML here means what JSON can say: plain
scalars are read by JSON's rules (``yes`` and ``010`` are text), and aliases and tags are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import yaml

_NESTED_TOO_DEEPLY = "is nested too deeply"


class FieldError(msgspec.Struct, frozen=True):
    """A fault: ``field`` as ``products[0].price.amount`` (empty: the whole document), and its line, from 1."""

    field: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.field or 'the file'} {self.message}"


class MalformedDocument(ValueError):
    """Text that is not in its format at all."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.error = FieldError("", message, line)
        super().__init__(str(self.error))


@dataclass(slots=True)
class Document:
    """A document's value, the line of each field by its path, and the paths that were given twice."""

    value: object = None
    lines: dict[str, int] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)

    def line(self, path: str) -> int:
        """A field's line; that of what it is missing from where it is not there."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get("", 1)

    def note(self, path: str, line: int) -> None:
        if path in self.lines:
            self.repeated.append(path)
        self.lines[path] = line


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MalformedDocument("must be UTF-8", line) from error


def read_json(data: bytes) -> Document:
    """Raises ``MalformedDocument``."""
    text = _text(data)
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        byte = re.search(r"\(byte (\d+)\)", str(error))
        end = int(byte[1]) if byte else None  # none where it breaks off
        line = text.encode().count(b"\n", 0, end) + 1
        raise MalformedDocument("is no JSON: " + str(error).removeprefix("JSON is malformed: "), line) from error
    except RecursionError as error:
        raise MalformedDocument(_NESTED_TOO_DEEPLY) from error
    document = Document(value)
    _note_json_lines(document, text)
    return document


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(slots=True)
class _Open:
    """An object or list that is not closed yet. ``index`` is the list's, None for an object; ``current`` the path of
    the value that comes next, None where a key does.
    """

    path: str
    index: int | None
    current: str | None = None


def _note_json_lines(document: Document, text: str) -> None:
    """Walk over text that is known to be JSON."""
    opened: list[_Open] = []
    for piece, line in _tokens(text):
        inner = opened[-1] if opened else None
        if piece in "}]":
            opened.pop()
        elif piece == ",":
            assert inner
            inner.current = None
            if inner.index is not None:
                inner.index += 1
        elif inner and inner.index is None and inner.current is None:
            inner.current = _inside(inner.path, msgspec.json.decode(piece))
            document.note(inner.current, line)
        elif piece != ":":
            path = ""
            if inner:
                path = f"{inner.path}[{inner.index}]" if inner.current is None else inner.current
            if not inner or inner.index is not None:
                document.note(path, line)
            if piece in "{[":
                opened.append(_Open(path, 0 if piece == "[" else None))


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, seen = 1, 0
    for match in _JSON_TOKEN.finditer(text):
        line += text.count("\n", seen, match.start())
        seen = match.start()
        yield match.group(), line


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name or '""'


def read_yaml(data: bytes) -> Document:
    """Raises ``MalformedDocument``."""
    text = _text(data)
    document = Document()
    try:
        if root := yaml.compose(text, _Loader):
            document.value = _value(document, root, "", root.start_mark.line + 1)
    except yaml.reader.ReaderError as error:
        raise MalformedDocument(
            "holds a character that YAML does not allow", text.count("\n", 0, error.position) + 1
        ) from error
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark.line + 1 if error.problem_mark else None
        raise MalformedDocument(f"is no YAML: {error.problem or error.context}", at) from error
    except RecursionError as error:
        raise MalformedDocument(_NESTED_TOO_DEEPLY) from error
    return document


class _Loader(yaml.BaseLoader):
    """An alias could make a small file a huge one."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are refused", mark)
        return super().compose_node(parent, index)


_PLAIN_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def _value(document: Document, node: yaml.Node, path: str, line: int) -> object:
    document.note(path, line)
    if node.tag not in _PLAIN_TAGS:
        raise yaml.MarkedYAMLError(problem=f"tags ({node.tag}) are refused", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        pairs = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            pairs[key.value] = _value(document, item, _inside(path, key.value), key.start_mark.line + 1)
        return pairs
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(document, item, f"{path}[{number}]", item.start_mark.line + 1)
            for number, item in enumerate(node.value)
        ]
    assert isinstance(node, yaml.ScalarNode)
    return node.value if node.style else _plain(node.value)


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 20 and _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text
