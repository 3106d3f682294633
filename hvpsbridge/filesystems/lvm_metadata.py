"""Metadata of LVM 2: the label of a physical volume, and the volume group as LVM wrote it, as text.

What LVM writes is in its source: ``lib/label/label.h``, ``lib/format_text/layout.h`` and
``lib/format_text/export.c`` (https://sourceware.org/lvm2). All numbers are little-endian.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from hvpsbridge.filesystems.disks import UnreadableError
from hvpsbridge.formats.readable import Readable

SECTOR = 512
# The label is in one of the first four sectors.
_LABEL_SECTORS = 4
# Id, sector, checksum of the sector from its next field, offset of the header of the volume, type.
_LABEL = struct.Struct("<8sQII8s")
_LABEL_CHECKED_FROM = 20
_UUID_BYTES = 32
_RANGE = struct.Struct("<QQ")
# Checksum of the rest of its sector, magic, version, offset on the volume and size of the area.
_AREA = struct.Struct("<I16sIQQ")
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
# Offset in the area, size, checksum and flags of the text.
_TEXT = struct.Struct("<QQII")
_IGNORED = 1
_CHECKSUM_START = 0xF597A6CF
# A group of thousands of volumes has a few MiB.
_MAX_TEXT_BYTES = 32 << 20

_TOKEN = re.compile(r'\s+|#[^\n]*|"(?:[^"\\]|\\.)*"|[{}\[\]=,]|[^\s{}\[\]=,"#]+|"')
_NUMBER = re.compile(r"-?[0-9]{1,19}")


class Section(dict[str, Any]):
    """A section of the text: numbers, texts, lists and sections by name."""

    def number(self, name: str) -> int:
        """A number that is not negative.

        Raises:
            UnreadableError: there is none.
        """
        value = self.get(name)
        if not isinstance(value, int) or value < 0:
            raise UnreadableError(f"its LVM metadata has no number {name}")
        return value

    def text(self, name: str) -> str:
        """A text; empty if there is none."""
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def items_of(self, name: str) -> list[Any]:
        """A list; empty if there is none."""
        value = self.get(name)
        return value if isinstance(value, list) else []

    def sections(self, name: str = "") -> dict[str, Section]:
        """The sections in this one, or in its section ``name``, by name."""
        inner = self.get(name) if name else self
        found = inner if isinstance(inner, Section) else {}
        return {key: value for key, value in found.items() if isinstance(value, Section)}


@dataclass(frozen=True, slots=True)
class Group:
    """A volume group, as one physical volume describes it."""

    name: str
    content: Section
    sequence: int


@dataclass(frozen=True, slots=True)
class PhysicalLabel:
    """What a physical volume says about itself.

    Attributes:
        uuid: without hyphens.
        group: None if it is in no group, or its group keeps no metadata there.
    """

    uuid: str
    group: Group | None


def read_label(volume: Readable) -> PhysicalLabel:
    """The label and the metadata of a physical volume.

    Raises:
        UnreadableError: they cannot be read.
    """
    sectors = (_pread(volume, number * SECTOR, SECTOR) for number in range(_LABEL_SECTORS))
    sector = next((each for each in sectors if each[:8] == b"LABELONE"), b"")
    if not sector:
        raise UnreadableError("it has no label of LVM")
    _, _, checksum, offset, kind = _LABEL.unpack_from(sector)
    uuid = sector[offset : offset + _UUID_BYTES]
    if kind != b"LVM2 001" or checksum != _checksum(sector[_LABEL_CHECKED_FROM:]) or len(uuid) < _UUID_BYTES:
        raise UnreadableError("its label of LVM is damaged")
    groups, problem = [], None
    for area in _areas(sector, offset + _UUID_BYTES + 8):
        try:
            groups += _group(volume, area)
        except UnreadableError as err:
            if err.damaged:
                raise
            problem = err
    if problem is not None and not groups:
        raise problem
    newest = max(groups, key=lambda group: group.sequence, default=None)
    return PhysicalLabel(uuid.decode("ascii", "replace"), newest)


def _areas(sector: bytes, at: int) -> list[int]:
    """Offsets of the areas of metadata: the second of two lists that zeros end; the first is of data."""
    lists: list[list[int]] = [[]]
    while len(lists) < 3 and at + _RANGE.size <= len(sector):
        offset, _ = _RANGE.unpack_from(sector, at)
        at += _RANGE.size
        if offset:
            lists[-1].append(offset)
        else:
            lists.append([])
    return lists[1] if len(lists) > 1 else []


def _group(volume: Readable, area: int) -> list[Group]:
    """The group that an area of metadata describes; none if the area is not in use."""
    header = _pread(volume, area, SECTOR)
    checksum, magic, version, _, size = _AREA.unpack_from(header)
    if magic != _AREA_MAGIC or version != 1 or checksum != _checksum(header[4:]):
        raise UnreadableError("the header of its LVM metadata is damaged")
    offset, length, checksum, flags = _TEXT.unpack_from(header, _AREA.size)
    if not offset or not length or flags & _IGNORED:
        return []
    if length > min(_MAX_TEXT_BYTES, size - SECTOR) or not SECTOR <= offset < size:
        raise UnreadableError("the header of its LVM metadata is damaged")
    # The area is a ring behind its header.
    first = min(length, size - offset)
    text = _pread(volume, area + offset, first) + _pread(volume, area + SECTOR, length - first)
    if checksum != _checksum(text):
        raise UnreadableError("its LVM metadata is damaged: the checksum does not fit")
    groups = parsed(text.decode("utf-8", "replace").rstrip("\0")).sections()
    if len(groups) != 1:
        raise UnreadableError("its LVM metadata does not describe one volume group")
    ((name, content),) = groups.items()
    return [Group(name, content, content.number("seqno"))]


def parsed(text: str) -> Section:
    """Metadata from its text.

    Raises:
        UnreadableError: it is not in the form that LVM writes.
    """
    tokens = [each for each in _TOKEN.findall(text) if not each.isspace() and each[0] != "#"]
    stack = [Section()]
    at = 0
    try:
        if '"' in tokens:
            raise ValueError("a text without an end")
        while at < len(tokens):
            name, after = tokens[at], tokens[at + 1 : at + 2]
            if name == "}":
                stack.pop()
                at += 1
            elif after == ["{"]:
                inner = Section()
                stack[-1][_value_of(name)] = inner
                stack.append(inner)
                at += 2
            elif after == ["="]:
                value, at = _value(tokens, at + 2)
                stack[-1][_value_of(name)] = value
            else:
                raise ValueError(name)
        (root,) = stack
    except (IndexError, ValueError) as err:
        raise UnreadableError("its LVM metadata is not in the form that LVM writes") from err
    return root


def _value(tokens: list[str], at: int) -> tuple[Any, int]:
    """A value, and where the next token is."""
    if tokens[at] != "[":
        return _value_of(tokens[at]), at + 1
    end = tokens.index("]", at)
    return [_value_of(each) for each in tokens[at + 1 : end] if each != ","], end + 1


def _value_of(token: str) -> Any:
    if token[0] == '"':
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    return int(token) if _NUMBER.fullmatch(token) else token


def _pread(volume: Readable, offset: int, length: int) -> bytes:
    if offset + length > volume.size_bytes:
        raise UnreadableError("its LVM metadata is beyond the end of the physical volume")
    return volume.pread(offset, length) if length else b""


def _checksum(data: bytes) -> int:
    """CRC-32 as LVM computes it: with a start of its own, and not inverted."""
    return zlib.crc32(data, _CHECKSUM_START ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
