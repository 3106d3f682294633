"""Values as JSON, and the JSON Schema of types.

Both follow the same rules: a dataclass is an object with its fields as keys, an enumeration its value; ids,
paths and times are text, bytes are hexadecimal.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, Union
from uuid import UUID

from hvpsbridge.secret import HIDDEN, Secret, Word
from hvpsbridge.text import json_escaped, one_line

_INLINE, MADE_BY = "inline", "made by"
_ATTRIBUTES = re.compile(r"^Attributes:\n(.*?)(?:\n\n|\Z)", re.DOTALL | re.MULTILINE)
# Code in double backquotes, and roles such as :class:`~package.Name`.
_MARKUP = re.compile(r"(?::\w+:)?`+(?:~[\w.]*\.)?([^`]*)`+")
_ATTRIBUTE = re.compile(r"^ {4}(\w+): ", re.MULTILINE)

Redact = Callable[[str], str]


def inline(*, without: tuple[str, ...] = (), made_by: Callable[[], type] | None = None) -> Mapping[str, Any]:
    """Metadata of a field that holds a dataclass, whose keys take the place of the key of the field.

    Args:
        without: keys to leave out.
        made_by: returns the dataclass, if the annotation of the field cannot name it.
    """
    return {_INLINE: without, MADE_BY: made_by}


INLINE = inline()


def iso_time(moment: datetime) -> str:
    """A time in ISO 8601, to the millisecond."""
    return moment.isoformat(timespec="milliseconds")


def jsonable(value: object, redact: Redact = str) -> Any:
    """A value as JSON can hold it. What has no JSON form becomes its text; a secret is always hidden.

    Args:
        redact: applied to free text only. Keys, words, enumerations, ids, times and numbers are not changed,
            since programs that read the document rely on them.
    """
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str | int) else value.name.lower()
    if value is None or isinstance(value, bool | int | float | Word):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, datetime):
        return iso_time(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object(value, redact)
    if isinstance(value, Mapping):
        return {str(jsonable(key)): jsonable(item, redact) for key, item in value.items()}
    if isinstance(value, PurePath):
        return redact(str(value))
    if isinstance(value, Sequence | set | frozenset):
        return [jsonable(item, redact) for item in value]
    return redact(one_line(str(value)))


def _object(value: Any, redact: Redact) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = jsonable(getattr(value, field.name), redact)
        if _INLINE in field.metadata:
            found |= {key: below for key, below in item.items() if key not in field.metadata[_INLINE]}
        else:
            found[field.name] = item
    return found


def json_text(value: object, *, indent: int | None = 2, redact: Redact = str) -> str:
    """A value as JSON text, by the rules of :func:`jsonable`."""
    return json_escaped(json.dumps(jsonable(value, redact), indent=indent, ensure_ascii=False))


class SchemaWriter:
    """Writes JSON Schemas (2020-12) of types, as :func:`jsonable` renders their values.

    Attributes:
        definitions: schemas of the dataclasses seen so far, by class name, for ``$defs``.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._classes: dict[str, type] = {}

    def schema(self, kind: Any) -> dict[str, Any]:
        """The schema of a type.

        Raises:
            TypeError: the type has no JSON form, or two classes have the same name.
        """
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.schema(each) for each in arguments]}
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin is not None and issubclass(origin, tuple):
            return self._tuple(arguments)
        if origin is not None and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.schema(arguments[1])}
        if origin is not None and issubclass(origin, Sequence | set | frozenset):
            return {"type": "array", "items": self.schema(arguments[0])}
        if dataclasses.is_dataclass(kind):
            return {"$ref": f"#/$defs/{self._define(typing.cast(type, kind))}"}
        return _simple(kind)

    def _tuple(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": self.schema(arguments[0])}
        return {
            "type": "array",
            "prefixItems": [self.schema(each) for each in arguments],
            "minItems": len(arguments),
            "maxItems": len(arguments),
        }

    def _define(self, kind: type) -> str:
        name = kind.__name__
        if self._classes.setdefault(name, kind) is not kind:
            raise TypeError(f"two classes are called {name}: {kind} and {self._classes[name]}")
        if name not in self.definitions:
            self.definitions[name] = {}  # ends recursion
            self.definitions[name] = self.object(kind)
        return name

    def object(self, kind: type) -> dict[str, Any]:
        """The schema of a dataclass, written out in place of a reference."""
        hints, texts = typing.get_type_hints(kind), _attribute_texts(kind)
        properties: dict[str, Any] = {}
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            if _INLINE in field.metadata:
                made_by = field.metadata[MADE_BY]
                below = self.object(made_by() if made_by else hint)["properties"]
                properties |= {
                    key: value for key, value in below.items() if key not in field.metadata[_INLINE]
                }
                continue
            properties[field.name] = self.schema(hint)
            if field.name in texts:
                properties[field.name]["description"] = texts[field.name]
        found: dict[str, Any] = {"type": "object", "properties": properties, "required": list(properties)}
        summary = _description((kind.__doc__ or "").partition("Attributes:")[0])
        return {"description": summary, **found} if summary else found


def _simple(kind: Any) -> dict[str, Any]:
    if kind is Any or kind is object:
        return {}
    if isinstance(kind, type):
        if issubclass(kind, Enum):
            return {"enum": [jsonable(member) for member in kind]}
        for known, schema in _SIMPLE.items():
            if issubclass(kind, known):
                return dict(schema)
    raise TypeError(f"{kind!r} has no JSON Schema")


# The order matters: a bool is an int.
_SIMPLE: dict[type, dict[str, Any]] = {
    types.NoneType: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    UUID: {"type": "string", "format": "uuid"},
    datetime: {"type": "string", "format": "date-time"},
    PurePath: {"type": "string"},
    bytes: {"type": "string", "pattern": "^([0-9a-f]{2})*$"},
}


def _attribute_texts(kind: type) -> dict[str, str]:
    """Descriptions of fields from the docstrings of a class and its bases, by field."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        section = _ATTRIBUTES.search(inspect.cleandoc(each.__doc__ or ""))
        if section is not None:
            parts = _ATTRIBUTE.split(section[1])[1:]
            found |= {name: _description(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    return found


def _description(docstring: str) -> str:
    """A docstring as a description: with a capital, without markup and full stop, and in words of JSON."""
    text = one_line(_MARKUP.sub(r"\1", docstring)).removesuffix(".")
    text = re.sub(r"\bNone\b", "null", text)
    return text[:1].upper() + text[1:]
