"""Serializes results as PowerShell does.

psrpcore would copy blocks of a disk several times. Only the types of contract results are supported: text,
bool, int (as ``U64``), float, arrays of text or ints, bytes and null.

No other module of the simulator uses pybase64. Bulk data is encoded twice, which with the standard library
would cost more than everything else.
"""

from __future__ import annotations

import re
import struct
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

import pybase64

# With their headers: what pwsh -s uses, and what Windows was recorded with
# (docs/hyperv-facts.md#fragments-per-reply).
FRAGMENT_BYTES = 32 * 1024
PIPELINE_OUTPUT = 0x00041004
TO_CLIENT, TO_SERVER = 1, 2
_FRAGMENT_HEAD = struct.Struct(">QQBI")
_MESSAGE_HEAD = struct.Struct("<II16s16s")
_START, _END = 1, 2
# What PowerShell escapes: control characters, surrogates (so also letters beyond the first 65,536), and each
# underscore before an x, whatever follows (docs/hyperv-facts.md#clixml-escapes). The last two code points
# are forbidden in XML.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\U00010000-\U0010ffff]|_(?=[xX])")


def pascal_case(name: str) -> str:
    """Name of the PowerShell property for a field: ``vm_id`` is ``VmId``."""
    return "".join(part.capitalize() for part in name.split("_"))


@cache
def _shape(kind: Any) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, pascal_case(field.name)) for field in fields(kind))


def result_object(result: Any) -> bytes:
    """CLIXML of a result of the contract."""
    kind: Any = type(result)
    properties = {name: getattr(result, field) for field, name in _shape(kind)}
    return custom_object(f"Hvps.{kind.__name__}", properties)


def custom_object(type_name: str, properties: Mapping[str, object]) -> bytes:
    """CLIXML of a typed ``[pscustomobject]`` (docs/hyperv-facts.md#clixml-serialization).

    Raises:
        TypeError: a value has no form on the wire.
    """
    writer = _Writer()
    parts = [
        f'<Obj RefId="0"><TN RefId="0"><T>{type_name}</T>'
        "<T>System.Management.Automation.PSCustomObject</T><T>System.Object</T></TN><MS>".encode()
    ]
    for name, value in properties.items():
        parts += writer.property(name, value)
    parts.append(b"</MS></Obj>")
    return b"".join(parts)


class _Writer:
    """Numbers objects and type lists in order, as PowerShell does."""

    def __init__(self) -> None:
        self._objects = 0
        self._types: dict[str, int] = {}

    def property(self, name: str, value: object) -> Iterator[bytes]:
        if value is None:
            yield f'<Nil N="{name}" />'.encode()
        elif isinstance(value, bytes | bytearray | memoryview):
            yield f'<BA N="{name}">'.encode()
            yield pybase64.b64encode(value)
            yield b"</BA>"
        elif isinstance(value, tuple | list):
            yield self._array(name, value).encode()
        else:
            tag, text = _scalar(value)
            yield f'<{tag} N="{name}">{text}</{tag}>'.encode()

    def _array(self, name: str, values: tuple[object, ...] | list[object]) -> str:
        numbers = bool(values) and all(type(value) is int for value in values)
        kind = "System.UInt64[]" if numbers else "System.String[]"
        self._objects += 1
        if kind in self._types:
            types = f'<TNRef RefId="{self._types[kind]}" />'
        else:
            self._types[kind] = len(self._types) + 1
            types = (
                f'<TN RefId="{self._types[kind]}"><T>{kind}</T><T>System.Array</T><T>System.Object</T></TN>'
            )
        items = "".join(f"<{tag}>{text}</{tag}>" for tag, text in map(_scalar, values))
        inner = f"<LST>{items}</LST>" if items else "<LST />"
        return f'<Obj N="{name}" RefId="{self._objects}">{types}{inner}</Obj>'


def _scalar(value: object) -> tuple[str, str]:
    if isinstance(value, bool):
        return "B", "true" if value else "false"
    if isinstance(value, int):
        return "U64", str(value)
    if isinstance(value, float):
        return "Db", repr(value)
    if isinstance(value, datetime):
        return "S", value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
    if isinstance(value, UUID | StrEnum):
        return "S", str(value)
    if isinstance(value, str):
        return "S", escape(value)
    raise TypeError(f"a {type(value).__name__} has no form on the wire")


def escape(text: str) -> str:
    """Text escaped for a CLIXML string element."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _UNSAFE.sub(_escaped, plain)


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"_x{units[at : at + 2].hex().upper()}_" for at in range(0, len(units), 2))


def message(
    kind: int, pool_id: UUID, pipeline_id: UUID | None, data: bytes, *, destination: int = TO_CLIENT
) -> bytes:
    """A PSRP message; its CLIXML begins with a byte order mark (docs/hyperv-facts.md#clixml-mark)."""
    pipeline = pipeline_id.bytes_le if pipeline_id is not None else bytes(16)
    return b"".join((_MESSAGE_HEAD.pack(destination, kind, pool_id.bytes_le, pipeline), BOM_UTF8, data))


def fragments(object_id: int, data: bytes) -> Iterator[bytes]:
    """``data`` cut into PSRP fragments, each in base64."""
    size = FRAGMENT_BYTES - _FRAGMENT_HEAD.size
    for number, start in enumerate(range(0, max(len(data), 1), size)):
        part = data[start : start + size]
        flags = (_START if start == 0 else 0) | (_END if start + size >= len(data) else 0)
        yield pybase64.b64encode(_FRAGMENT_HEAD.pack(object_id, number, flags, len(part)) + part)


def split_fragments(data: bytes) -> Iterator[bytes]:
    """The fragments in a sequence of them, each in base64, with the mark that psrpcore leaves out."""
    position = 0
    while position + _FRAGMENT_HEAD.size <= len(data):
        number, index, flags, length = _FRAGMENT_HEAD.unpack_from(data, position)
        start = position + _FRAGMENT_HEAD.size
        position = start + length
        content = data[start:position]
        if flags & _START and length >= _MESSAGE_HEAD.size:
            content = content[: _MESSAGE_HEAD.size] + BOM_UTF8 + content[_MESSAGE_HEAD.size :]
        yield pybase64.b64encode(_FRAGMENT_HEAD.pack(number, index, flags, len(content)) + content)
