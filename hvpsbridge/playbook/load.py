"""Reads YAML into a tree of plain values with their positions. The only module that imports PyYAML.

The language is the core schema of YAML 1.2 without everything that surprises people, on top of PyYAML's
parser. PyYAML's own resolvers follow YAML 1.1: they read ``12:30`` as 750, ``off`` as false, ``010`` as 8
and ``2026-03-01`` as a date. None of them is used: unquoted scalars stay text, and the few patterns below
read them. If a YAML 1.1 reader would read an unquoted scalar as something else, ``Scalar.surprise`` says so;
such scalars are accepted only where the word itself is expected. Anchors, aliases, merge keys, tags and
several documents in a file are refused: playbooks have ``vars`` against repetition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import yaml

from hvpsbridge.playbook.problems import PlaybookProblem, Position, invalid, path_text

Plain: TypeAlias = bool | int | float | str | None
Path: TypeAlias = tuple[str | int, ...]

# People write playbooks; a larger file is a mistake (a log, an image) and is not parsed, which takes PyYAML
# up to 40 us for a character.
MAX_FILE_CHARACTERS = 250_000
# No playbook is nested this deeply. Checked before composing, which is recursive and slow for deep nesting.
MAX_DEPTH = 32

# Longer digits are text: no number of a playbook has them, and int() refuses some thousand.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Plain] = {"": None, "~": None, "null": None, "true": True, "false": False}

# The patterns below look at a text several times. No reader takes a longer one for a number.
_MAX_SURPRISE_CHARACTERS = 100
# Unquoted scalars that YAML 1.1, or full YAML 1.2, does not read as text.
_SURPRISES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)y|yes|on"), "is true to some YAML readers"),
    (re.compile(r"(?i)n|no|off"), "is false to some YAML readers"),
    (re.compile(r"True|TRUE|False|FALSE"), "is a boolean to some YAML readers"),
    (re.compile(r"Null|NULL"), "is empty to some YAML readers"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"), "is a number in base 60 to some YAML readers"),
    (re.compile(r"[-+]?0[0-9_]+"), "is an octal number to some YAML readers"),
    (re.compile(r"[-+]?0[oxb][0-9a-fA-F_]+"), "is a number to some YAML readers"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*"), "is a number to some YAML readers"),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.|[0-9.]+[eE][-+]?[0-9]+)"), "is a number to some YAML readers"),
    (re.compile(r"(?i)[-+]?\.inf|\.nan"), "is a number to some YAML readers"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"), "is a date to some YAML readers"),
    (re.compile(r"="), "is a special value to some YAML readers"),
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf.

    Attributes:
        value: its value.
        mark: where it starts.
        text: its text as written, with escapes resolved.
        surprise: why the text needs quotes, if some YAML readers do not read it as text; otherwise empty.
    """

    value: Plain
    mark: Position
    text: str
    surprise: str = ""


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Tree, ...]
    mark: Position


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping; ``marks`` has the position of each key."""

    entries: Mapping[str, Tree]
    marks: Mapping[str, Position]
    mark: Position


Tree: TypeAlias = Scalar | Items | Keys


@dataclass(slots=True)
class _Builder:
    """Walks the nodes of PyYAML once and collects all mistakes."""

    problems: list[PlaybookProblem] = field(default_factory=list)

    def report(self, node: yaml.Node, path: Path, what: str) -> None:
        self.problems.append(PlaybookProblem(_mark(node), path_text(path), what))

    def build(self, node: yaml.Node, path: Path) -> Tree:
        mark = _mark(node)
        if isinstance(node, yaml.SequenceNode):
            self.check_tag(node, path)
            return Items(tuple(self.build(item, (*path, i)) for i, item in enumerate(node.value)), mark)
        if isinstance(node, yaml.MappingNode):
            self.check_tag(node, path)
            return self.mapping(node, path)
        if not isinstance(node, yaml.ScalarNode):  # PyYAML has these three kinds only
            raise TypeError(type(node).__name__)
        self.check_tag(node, path)
        return _scalar(node)

    def check_tag(self, node: yaml.Node, path: Path) -> None:
        # The base loader resolves every untagged node to one of these.
        if node.tag not in {"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}:
            self.report(node, path, f"has a YAML tag ({node.tag}); tags are not supported")

    def mapping(self, node: yaml.MappingNode, path: Path) -> Keys:
        entries: dict[str, Tree] = {}
        marks: dict[str, Position] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.report(key_node, path, "a list or mapping cannot be a key")
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                self.report(key_node, path, "merge keys (<<) are not supported; use vars")
                continue
            scalar = _scalar(key_node)
            if scalar.surprise:
                self.report(key_node, (*path, key), f"key {key} {scalar.surprise}; put it in quotes")
            elif not isinstance(scalar.value, str):
                self.report(key_node, (*path, key), f"key {key or 'null'} is not text; put it in quotes")
            if key in entries:
                first = marks[key]
                self.report(key_node, (*path, key), f"duplicate key {key!r}; first at line {first.line}")
                self.build(value_node, (*path, key))
                continue
            marks[key] = _mark(key_node)
            entries[key] = self.build(value_node, (*path, key))
        return Keys(entries, marks, _mark(node))


def _mark(node: yaml.Node) -> Position:
    return _of(node.start_mark)


class _Position(Protocol):
    line: int
    column: int


def _of(mark: _Position | None) -> Position:
    # PyYAML counts from 0. It gives every node and event a mark, though its types do not say so.
    return Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)


def _scalar(node: yaml.ScalarNode) -> Scalar:
    text = str(node.value)
    if node.style is not None:  # quoted or block: always text
        return Scalar(text, _mark(node), text)
    return Scalar(plain_value(text), _mark(node), text, surprise(text))


def plain_value(text: str) -> Plain:
    """The value of an unquoted scalar: null, a boolean, a decimal number, or its text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def surprise(text: str) -> str:
    """Why some YAML readers do not read an unquoted scalar as text; otherwise empty."""
    if len(text) > _MAX_SURPRISE_CHARACTERS:
        return ""
    return next((reason for pattern, reason in _SURPRISES if pattern.fullmatch(text)), "")


def _refused_events(text: str) -> Iterator[PlaybookProblem]:
    """Anchors, aliases, further documents and deep nesting, which must not be composed."""
    documents = depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        mark = _of(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            yield PlaybookProblem(
                mark, "", f"alias *{event.anchor}: anchors and aliases are not supported; use vars"
            )
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            yield PlaybookProblem(
                mark, "", f"anchor &{event.anchor}: anchors and aliases are not supported; use vars"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                yield PlaybookProblem(mark, "", f"is nested more than {MAX_DEPTH} levels deep")
                return
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents == 2:
                yield PlaybookProblem(mark, "", "a second document starts here; a file may contain only one")


def parse(text: str, where: str) -> tuple[Tree, list[PlaybookProblem]]:
    """The tree of ``text``, and mistakes that did not prevent reading it.

    Args:
        text: content of a file.
        where: name of the file, for messages.

    Raises:
        PlaybookInvalid: it is not YAML, or uses a feature that is not supported at all.
    """
    start = Position(1, 1)
    if len(text) > MAX_FILE_CHARACTERS:
        raise invalid(
            where,
            [
                PlaybookProblem(
                    start, "", f"has {len(text)} characters; a playbook has at most {MAX_FILE_CHARACTERS}"
                )
            ],
        )
    try:
        refused = list(_refused_events(text))
        if refused:
            raise invalid(where, refused)
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as err:
        at = err.problem_mark or err.context_mark
        mark = _of(at)
        raise invalid(where, [PlaybookProblem(mark, "", f"is not YAML: {_yaml_text(err)}")]) from err
    except (yaml.YAMLError, RecursionError) as err:
        raise invalid(
            where, [PlaybookProblem(start, "", f"is not YAML: {str(err).splitlines()[0]}")]
        ) from err
    except (ValueError, OverflowError) as err:  # PyYAML turns \U00110000 into a character without a check
        what = "is not YAML: it has an escape such as \\U00110000 of a character that does not exist"
        raise invalid(where, [PlaybookProblem(start, "", what)]) from err
    if root is None:
        raise invalid(where, [PlaybookProblem(start, "", "is empty")])
    builder = _Builder()
    return builder.build(root, ()), builder.problems


def _yaml_text(err: yaml.MarkedYAMLError) -> str:
    text = ", ".join(part for part in (err.context, err.problem) if part)
    hint = "; use spaces, not tabs" if "'\\t'" in text else ""
    return text + hint


def plain(tree: Tree) -> object:
    """Dicts, lists and plain values of a tree, for the schema."""
    if isinstance(tree, Keys):
        return {key: plain(value) for key, value in tree.entries.items()}
    if isinstance(tree, Items):
        return [plain(item) for item in tree.items]
    return tree.value


def scalars(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Every leaf with its path, in file order."""
    if isinstance(tree, Keys):
        for key, value in tree.entries.items():
            yield from scalars(value, (*path, key))
    elif isinstance(tree, Items):
        for index, item in enumerate(tree.items):
            yield from scalars(item, (*path, index))
    else:
        yield path, tree


def mark_of(tree: Tree, path: Sequence[str | int]) -> Position:
    """Position of the value at ``path``: of its key if it has one, otherwise of the nearest value above it.

    Steps that are not in the tree (labels of the schema) are ignored.
    """
    mark = tree.mark
    for step in path:
        if isinstance(tree, Keys) and isinstance(step, str) and step in tree.entries:
            mark, tree = tree.marks[step], tree.entries[step]
        elif isinstance(tree, Items) and isinstance(step, int) and step < len(tree.items):
            tree = tree.items[step]
            mark = tree.mark
    return mark
