"""Frozen dataclasses as canonical JSON and back, strictly.

Law: a value has exactly one text. Keys are sorted, there is no white space, text is UTF-8, bytes are
lower-case hex, UUIDs their usual text, times ISO 8601 in UTC with microseconds. A field that has its
default value is left out, so a later field with a default changes no text (and no digest) of older
records. A missing or unknown key or a wrong type is an error: a reader that guesses would hide damage.
Digests of records (a manifest's) are taken over this text.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from hvpsbridge.formats.malformed import Malformed, UnknownFields

T = TypeVar("T")
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def encode_record(value: object) -> bytes:
    """Canonical JSON of a dataclass whose fields are records, numbers, text, bytes, UUIDs, times, enums,
    tuples of those, or None."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode_record(kind: type[T], data: bytes | bytearray | memoryview) -> T:
    """The ``kind`` in ``data``.

    Raises:
        Malformed: the bytes are not the canonical text of a ``kind``.
    """
    raw = bytes(data)
    try:
        value = _typed(kind, json.loads(raw), kind.__name__)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise Malformed(f"{kind.__name__}: {err}") from err
    if encode_record(value) != raw:
        raise Malformed(f"{kind.__name__}: the text is not canonical")
    return typing.cast(T, value)


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str | float):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime(_TIME)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(held)
            for field in _fields(type(value))
            if (held := getattr(value, field.name)) != field.default or field.default is MISSING
        }
    raise TypeError(f"{type(value).__name__} has no form in a record")


@cache
def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _typed(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
        return _typed(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise Malformed(f"{where}: no list")
        inner = typing.get_args(kind)[0]
        return tuple(_typed(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if kind in (int, bool, str):
        if type(value) is not kind:
            raise Malformed(f"{where}: {type(value).__name__} instead of {kind.__name__}")
        return value
    if kind is float:
        if type(value) not in (int, float):
            raise Malformed(f"{where}: no number")
        return float(value)
    if not isinstance(value, str | int):
        raise Malformed(f"{where}: {type(value).__name__} instead of {kind.__name__}")
    try:
        return _scalar(kind, value)
    except (ValueError, TypeError) as err:
        raise Malformed(f"{where}: {err}") from err


def _scalar(kind: Any, value: str | int) -> Any:
    if kind is bytes:
        return bytes.fromhex(str(value))
    if kind is UUID:
        return UUID(str(value))
    if kind is datetime:
        return datetime.strptime(str(value), _TIME).replace(tzinfo=UTC)
    if issubclass(kind, Enum):
        return kind(value)
    raise TypeError(f"{kind} has no form in a record")


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise Malformed(f"{where}: no object")
    hints = _hints(kind)
    names = {field.name for field in _fields(kind)}
    needed = {field.name for field in _fields(kind) if field.default is MISSING}
    if unknown := sorted(value.keys() - names):
        raise UnknownFields(f"{where} has unknown fields {', '.join(unknown)}")
    if missing := sorted(needed - value.keys()):
        raise Malformed(f"{where}: fields {', '.join(missing)} are missing")
    return kind(**{name: _typed(hints[name], item, f"{where}.{name}") for name, item in value.items()})
