"""VHDX structures (MS-VHDX): headers, region tables, states of blocks.

Pure codecs, without I/O. All integers are little endian (docs/hyperv-facts.md#vhdx-structures).
:mod:`vhdx_metadata` has the metadata region, and :mod:`vhdx_layout` puts all of it together to a file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from hvpsbridge.units import KIB, MIB

HEADER_OFFSETS = (64 * KIB, 128 * KIB)
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
LOG_OFFSET = 1 * MIB

BAT_REGION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")

NO_GUID = UUID(int=0)

_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
HEADER_BYTES = 4 * KIB
_REGION_HEAD = struct.Struct("<4sIII")
_REGION_ENTRY = struct.Struct("<16sQII")
_REGION_TABLE_BYTES = 64 * KIB


class BlockState(IntEnum):
    """Low three bits of a block allocation table entry for payload."""

    NOT_PRESENT = 0
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    FULLY_PRESENT = 6
    PARTIALLY_PRESENT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdxHeader:
    """One of the two headers; the valid one with the higher sequence number is current.

    Attributes:
        log_guid: all zero when there is no log to replay.
    """

    sequence: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID = NO_GUID
    log_length: int = MIB
    log_offset: int = LOG_OFFSET
    version: int = 1

    def pack(self) -> bytes:
        """The header's 4 KiB with their checksum."""
        return _with_checksum(
            _HEADER.pack(
                b"head",
                0,
                self.sequence,
                self.file_write_guid.bytes_le,
                self.data_write_guid.bytes_le,
                self.log_guid.bytes_le,
                0,
                self.version,
                self.log_length,
                self.log_offset,
            ).ljust(HEADER_BYTES, b"\0")
        )

    @classmethod
    def unpack(cls, data: bytes) -> VhdxHeader:
        """Header from its 4 KiB.

        Raises:
            ValueError: signature, checksum or version is wrong.
        """
        _check(data[:HEADER_BYTES], b"head", HEADER_BYTES)
        return cls.unpack_unchecked(data)

    @classmethod
    def unpack_unchecked(cls, data: bytes) -> VhdxHeader:
        """As :meth:`unpack`, of bytes whose signature and checksum are known to be right."""
        _, _, sequence, file_write, data_write, log, _, version, length, offset = _HEADER.unpack_from(data)
        if version != 1:
            raise ValueError(f"unsupported VHDX version {version}; only 1 is supported")
        if length % MIB or offset % MIB or (length and offset < LOG_OFFSET):
            raise ValueError(f"a VHDX log cannot have {length} bytes at {offset}")
        return cls(
            sequence=sequence,
            file_write_guid=UUID(bytes_le=file_write),
            data_write_guid=UUID(bytes_le=data_write),
            log_guid=UUID(bytes_le=log),
            log_length=length,
            log_offset=offset,
            version=version,
        )


@dataclass(frozen=True, slots=True)
class Region:
    """An entry of the region table: where a region is, in bytes of the file."""

    guid: UUID
    offset: int
    length: int
    required: bool = True


def pack_regions(regions: Sequence[Region]) -> bytes:
    """A region table's 64 KiB with their checksum."""
    table = _REGION_HEAD.pack(b"regi", 0, len(regions), 0) + b"".join(
        _REGION_ENTRY.pack(region.guid.bytes_le, region.offset, region.length, int(region.required))
        for region in regions
    )
    return _with_checksum(table.ljust(_REGION_TABLE_BYTES, b"\0"))


def unpack_regions(data: bytes) -> tuple[Region, ...]:
    """Regions from a region table's 64 KiB.

    Raises:
        ValueError: signature, checksum, count or a place is wrong.
    """
    _check(data[:_REGION_TABLE_BYTES], b"regi", _REGION_TABLE_BYTES)
    return unpack_regions_unchecked(data)


def unpack_regions_unchecked(data: bytes) -> tuple[Region, ...]:
    """As :func:`unpack_regions`, of bytes whose signature and checksum are known to be right."""
    _, _, count, _ = _REGION_HEAD.unpack_from(data)
    if count > (_REGION_TABLE_BYTES - _REGION_HEAD.size) // _REGION_ENTRY.size:
        raise ValueError(f"a VHDX region table cannot have {count} entries")
    entries = (
        _REGION_ENTRY.unpack_from(data, _REGION_HEAD.size + index * _REGION_ENTRY.size)
        for index in range(count)
    )
    regions = tuple(
        Region(UUID(bytes_le=guid), offset, length, bool(flags & 1))
        for guid, offset, length, flags in entries
    )
    end = LOG_OFFSET
    for region in sorted(regions, key=lambda region: region.offset):
        if region.offset % MIB or region.length % MIB or not region.length or region.offset < end:
            raise ValueError(f"a VHDX region cannot have {region.length} bytes at {region.offset}")
        end = region.offset + region.length
    if len({region.guid for region in regions}) != len(regions):
        raise ValueError("two VHDX regions are of one kind")
    return regions


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), the format's checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def _with_checksum(data: bytes) -> bytes:
    """The same bytes with their checksum at offset 4, which is zero before."""
    return data[:4] + struct.pack("<I", crc32c(data)) + data[8:]


def _check(data: bytes, signature: bytes, length: int) -> None:
    if len(data) < length or not data.startswith(signature):
        raise ValueError(f"not a VHDX {signature.decode()} structure")
    (found,) = struct.unpack_from("<I", data, 4)
    if crc32c(data[:4] + bytes(4) + data[8:]) != found:
        raise ValueError(f"the checksum of a VHDX {signature.decode()} structure is wrong")
