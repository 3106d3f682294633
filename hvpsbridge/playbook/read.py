"""Reads playbooks and configuration files, or reports all their mistakes at once."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.playbook import load
from hvpsbridge.playbook.cross_check import cross_check
from hvpsbridge.playbook.derive import model
from hvpsbridge.playbook.load import Items, Keys, Plain, Scalar, Tree
from hvpsbridge.playbook.problems import PlaybookProblem, Position, invalid, nearest, path_text
from hvpsbridge.playbook.specs import PlaybookSpec
from hvpsbridge.playbook.template import NAME, fill
from hvpsbridge.tasks.planning.select import SelectableState
from hvpsbridge.tasks.registry import TASKS
from hvpsbridge.text import shortened

_Spec = TypeVar("_Spec")

# UTF-8 has at most four bytes for a character.
_MAX_FILE_BYTES = 4 * load.MAX_FILE_CHARACTERS

# Words such as ``off`` need no quotes where a state is expected.
_WORDS = frozenset(word.value for word in SelectableState)


def read_playbook(path: Path, extra_vars: Mapping[str, Plain] | None = None) -> PlaybookSpec:
    """The playbook in a file.

    Args:
        path: the file.
        extra_vars: variables of ``-e``; they take precedence over those of the file.

    Raises:
        ConfigurationError: the file cannot be read.
        PlaybookInvalid: it has mistakes; the error lists them.
    """
    return parse_playbook(read_text(path), str(path), extra_vars)


def read_text(path: Path) -> str:
    """Text of a UTF-8 file.

    Raises:
        ConfigurationError: it cannot be read, or is not UTF-8.
    """
    return read_exactly(path).removeprefix("\ufeff")


def read_exactly(path: Path) -> str:
    """Text of a UTF-8 file with its byte order mark, if it has one.

    Raises:
        ConfigurationError: it cannot be read, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ConfigurationError(
                str(path), f"has more than {_MAX_FILE_BYTES} bytes; is this the right file?"
            )
        return data.decode()
    except OSError as err:
        raise ConfigurationError(str(path), f"cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigurationError(str(path), f"is not UTF-8 at byte {err.start}") from err


def parse_playbook(text: str, where: str, extra_vars: Mapping[str, Plain] | None = None) -> PlaybookSpec:
    """The playbook in ``text``; ``where`` names it in messages.

    Raises:
        PlaybookInvalid: it has mistakes; the error lists them.
    """
    tree, problems = load.parse(text, where)
    tree = _with_variables(tree, extra_vars or {}, problems)
    spec = _check(PlaybookSpec, tree, problems)
    if spec is not None:
        problems.extend(cross_check(spec, tree))
    if problems or spec is None:
        raise invalid(where, problems)
    return spec


def parse_as(kind: type[_Spec], text: str, where: str) -> _Spec:
    """Another file (the configuration file), checked as strictly as a playbook.

    Raises:
        PlaybookInvalid: it has mistakes; the error lists them.
    """
    tree, problems = load.parse(text, where)
    spec = _check(kind, tree, problems)
    if problems or spec is None:
        raise invalid(where, problems)
    return spec


def playbook_schema() -> dict[str, Any]:
    """JSON Schema of a playbook, for editors."""
    schema = file_schema(PlaybookSpec)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "hvps playbook"}


def file_schema(kind: type) -> dict[str, Any]:
    """JSON Schema of a file that is read as ``kind``."""
    return _adapter(kind).json_schema()


def _adapter(kind: type) -> TypeAdapter[Any]:
    return _adapter_for(kind, tuple(TASKS))


# Making an adapter takes longer than checking a playbook with it.
@cache
def _adapter_for(kind: type, task_kinds: tuple[str, ...]) -> TypeAdapter[Any]:
    return TypeAdapter(model(kind))


# -- variables -------------------------------------------------------------------------------------


def _with_variables(tree: Tree, extra: Mapping[str, Plain], problems: list[PlaybookProblem]) -> Tree:
    if not isinstance(tree, Keys):
        return tree
    outer = {**_variables(tree, ("vars",), problems), **extra}
    entries: dict[str, Tree] = {}
    for key, value in tree.entries.items():
        if key == "plays" and isinstance(value, Items):
            plays = []
            for index, play in enumerate(value.items):
                inner = {**outer, **_variables(play, ("plays", index, "vars"), problems), **extra}
                plays.append(fill(play, ("plays", index), inner, problems))
            entries[key] = Items(tuple(plays), value.mark)
        else:
            entries[key] = value if key == "vars" else fill(value, (key,), outer, problems)
    return Keys(entries, tree.marks, tree.mark)


def _variables(tree: Tree, path: load.Path, problems: list[PlaybookProblem]) -> dict[str, Plain]:
    held = tree.entries.get("vars") if isinstance(tree, Keys) else None
    if not isinstance(held, Keys):
        return {}
    found: dict[str, Plain] = {}
    for name, value in held.entries.items():
        where = (*path, name)
        if not NAME.fullmatch(name):
            problems.append(
                PlaybookProblem(
                    held.marks[name], path_text(where), "names of variables consist of letters, digits and _"
                )
            )
        elif isinstance(value, Scalar):
            if isinstance(value.value, str) and "{{" in value.value:
                problems.append(
                    PlaybookProblem(
                        value.mark, path_text(where), "a variable must not contain another variable"
                    )
                )
            found[name] = value.value
    return found


# -- the schema --------------------------------------------------------------------------------------


def _check(kind: type[_Spec], tree: Tree, problems: list[PlaybookProblem]) -> _Spec | None:
    for path, scalar in load.scalars(tree):
        if scalar.surprise and not (
            scalar.text in _WORDS and "state" in path and isinstance(scalar.value, str)
        ):
            problems.append(
                PlaybookProblem(scalar.mark, path_text(path), _surprise_text(model(kind), path, scalar))
            )
    try:
        spec: _Spec = _adapter(kind).validate_python(load.plain(tree))
    except ValidationError as err:
        seen = {(problem.mark, problem.path) for problem in problems}
        for details in err.errors(include_url=False):
            if _follows_from_another(details):
                continue
            path = _tree_path(tree, details["loc"])
            mark = load.mark_of(tree, path)
            at = _value_mark(tree, path)
            # A surprising scalar already has a line that says how to write it.
            if (at, path_text(path)) not in seen:
                problems.append(
                    PlaybookProblem(mark, path_text(path), _schema_text(model(kind), path, details, tree))
                )
        return None
    return spec


def _follows_from_another(details: ErrorDetails) -> bool:
    # pydantic counts only the valid items of a list, so one with an invalid item may be too short.
    given = details["input"]
    return (
        details["type"] == "too_short"
        and isinstance(given, list | dict)
        and len(given) >= int(details["ctx"]["min_length"])
    )


def _surprise_text(kind: Any, path: load.Path, scalar: Scalar) -> str:
    if bool in _scalar_types(_annotation(kind, path)):
        return f"{scalar.text} {scalar.surprise}; write true or false"
    return f"{scalar.text} {scalar.surprise}; put it in quotes"


def _tree_path(tree: Tree, loc: tuple[int | str, ...]) -> load.Path:
    """A location from pydantic without the labels that it adds for unions and functions.

    The last step is kept, since it may be a missing key.
    """
    path: list[int | str] = []
    for number, step in enumerate(loc):
        if isinstance(tree, Keys) and step in tree.entries and isinstance(step, str):
            tree = tree.entries[step]
        elif isinstance(tree, Items) and isinstance(step, int) and step < len(tree.items):
            tree = tree.items[step]
        elif number != len(loc) - 1 or not isinstance(tree, Keys):
            continue
        path.append(step)
    return tuple(path)


def _value_mark(tree: Tree, path: load.Path) -> Position:
    """Position of the value itself, not of its key."""
    for step in path:
        if isinstance(tree, Keys) and isinstance(step, str) and step in tree.entries:
            tree = tree.entries[step]
        elif isinstance(tree, Items) and isinstance(step, int) and step < len(tree.items):
            tree = tree.items[step]
    return tree.mark


def _schema_text(kind: Any, path: load.Path, details: ErrorDetails, tree: Tree) -> str:
    error, context = details["type"], details.get("ctx", {})
    if error in {"unexpected_keyword_argument", "extra_forbidden"}:
        return f"unknown key{nearest(str(path[-1]), _known_keys(_annotation(kind, path[:-1])))}"
    if error in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return "is missing"
    if error == "enum":
        known = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return f"unknown value {_shown(details['input'])}{nearest(str(details['input']), known)}"
    if error == "value_error":
        return str(context["error"])
    words = _ERROR_WORDS.get(error)
    if words is not None:
        return f"{words.format(**context)}, not {_shown(details['input'])}"
    return details["msg"][:1].lower() + details["msg"][1:]


_ERROR_WORDS = {
    "string_type": "must be text",
    "string_too_short": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list, in [ ] or with a dash per line",
    "mapping_type": "must be keys with values",
    "dict_type": "must be keys with values",
    "dataclass_type": "must be keys with values",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} item",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "greater_than": "must be more than {gt}",
}


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return shortened(repr(value), 60)


def _annotation(kind: Any, path: load.Path) -> Any:
    """The declared type at ``path`` in a tree of dataclasses; None if there is none."""
    current: Any = kind
    for step in path:
        for option in _options(current):
            if dataclasses.is_dataclass(option) and isinstance(step, str):
                hints = typing.get_type_hints(option, include_extras=True)
                if step in hints:
                    current = hints[step]
                    break
            elif typing.get_origin(option) is tuple and isinstance(step, int):
                current = typing.get_args(option)[0]
                break
            elif isinstance(step, str) and typing.get_origin(option) is not None:
                arguments = typing.get_args(option)
                if len(arguments) == 2 and arguments[0] is str:
                    current = arguments[1]
                    break
        else:
            return None
    return current


def _options(annotation: Any) -> Iterator[Any]:
    """An annotation without ``Annotated``; each member of a union."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _options(typing.get_args(annotation)[0])
    elif origin in {typing.Union, types.UnionType}:
        for member in typing.get_args(annotation):
            yield from _options(member)
    else:
        yield annotation


def _scalar_types(annotation: Any) -> set[type]:
    return {option for option in _options(annotation) if option in {bool, int, float, str}}


def _known_keys(annotation: Any) -> list[str]:
    return [
        field.name
        for option in _options(annotation)
        if dataclasses.is_dataclass(option)
        for field in dataclasses.fields(option)
    ]
