"""The metadata region of a VHDX: sizes, id and parent of a disk.

A pure codec, without I/O. All integers are little endian (docs/hyperv-facts.md#vhdx-structures).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.units import KIB, MIB, TIB

MAX_SIZE_BYTES = 64 * TIB
MIN_BLOCK_BYTES = 1 * MIB
MAX_BLOCK_BYTES = 256 * MIB
# Sectors that one sector bitmap block describes.
CHUNK_SECTORS = 1 << 23

_FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_VIRTUAL_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
_LOGICAL_SECTOR = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
_PHYSICAL_SECTOR = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
_PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_PARENT_LOCATOR_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")

_METADATA_HEAD = struct.Struct("<8sHH20x")
_METADATA_ENTRY = struct.Struct("<16sIIII")
_METADATA_TABLE_BYTES = 64 * KIB
# Limits of the format.
_MAX_METADATA_ITEMS = 2047
_MAX_ITEM_BYTES = 1 * MIB
# Writers store five entries; entries may share their text, so their number is a factor of its size.
_MAX_LOCATOR_ENTRIES = 64
_LOCATOR_HEAD = struct.Struct("<16sHH")
_LOCATOR_ENTRY = struct.Struct("<IIHH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The metadata region of a disk.

    Attributes:
        parent: keys and values of the parent locator of a differencing disk, else None.
        fixed: whether blocks stay allocated (a fixed disk).
    """

    size_bytes: int
    block_bytes: int
    disk_id: UUID
    logical_sector_bytes: int = 512
    physical_sector_bytes: int = 4096
    fixed: bool = False
    parent: tuple[tuple[str, str], ...] | None = None

    def pack(self) -> bytes:
        """The metadata region's used part: table of 64 KiB, then the items."""
        items: list[tuple[UUID, int, bytes]] = [
            # Flags: 1 user, 2 virtual disk, 4 required.
            (_FILE_PARAMETERS, 4, struct.pack("<II", self.block_bytes, self.fixed | (self._has_parent << 1))),
            (_VIRTUAL_SIZE, 6, struct.pack("<Q", self.size_bytes)),
            (_DISK_ID, 6, self.disk_id.bytes_le),
            (_LOGICAL_SECTOR, 6, struct.pack("<I", self.logical_sector_bytes)),
            (_PHYSICAL_SECTOR, 6, struct.pack("<I", self.physical_sector_bytes)),
        ]
        if self.parent is not None:
            items.append((_PARENT_LOCATOR, 4, _pack_locator(self.parent)))
        table, content = _METADATA_HEAD.pack(b"metadata", 0, len(items)), b""
        for guid, flags, item in items:
            at = _METADATA_TABLE_BYTES + len(content)
            table += _METADATA_ENTRY.pack(guid.bytes_le, at, len(item), flags, 0)
            content += item
        return table.ljust(_METADATA_TABLE_BYTES, b"\0") + content

    @classmethod
    def unpack(cls, data: bytes) -> Metadata:
        """Metadata from the region's bytes.

        Raises:
            ValueError: it is damaged, an item is missing, a required one is unknown, or the format does not
                allow a value.
        """
        if len(data) < _METADATA_TABLE_BYTES or not data.startswith(b"metadata"):
            raise ValueError("not VHDX metadata")
        _, _, count = _METADATA_HEAD.unpack_from(data)
        items: dict[UUID, bytes] = {}
        known = {
            _FILE_PARAMETERS,
            _VIRTUAL_SIZE,
            _DISK_ID,
            _LOGICAL_SECTOR,
            _PHYSICAL_SECTOR,
            _PARENT_LOCATOR,
        }
        if count > _MAX_METADATA_ITEMS:
            raise ValueError(f"VHDX metadata cannot have {count} items")
        for index in range(count):
            place = _METADATA_HEAD.size + index * _METADATA_ENTRY.size
            guid_bytes, offset, length, flags, _ = _METADATA_ENTRY.unpack_from(data, place)
            guid = UUID(bytes_le=guid_bytes)
            if guid in known:
                if length > _MAX_ITEM_BYTES:
                    raise ValueError(f"a VHDX metadata item cannot have {length} bytes")
                items[guid] = data[offset : offset + length]
            elif flags & 4:
                raise ValueError(f"required VHDX metadata item {guid} is unknown")
        try:
            block, bits = struct.unpack("<II", items[_FILE_PARAMETERS])
            metadata = cls(
                size_bytes=struct.unpack("<Q", items[_VIRTUAL_SIZE])[0],
                block_bytes=block,
                disk_id=UUID(bytes_le=items[_DISK_ID]),
                logical_sector_bytes=struct.unpack("<I", items[_LOGICAL_SECTOR])[0],
                physical_sector_bytes=struct.unpack("<I", items[_PHYSICAL_SECTOR])[0],
                fixed=bool(bits & 1),
                parent=_unpack_locator(items[_PARENT_LOCATOR]) if bits & 2 else None,
            )
        except (KeyError, struct.error) as err:
            raise ValueError(f"a VHDX metadata item is missing or too short: {err}") from err
        metadata.check()
        return metadata

    @property
    def _has_parent(self) -> bool:
        return self.parent is not None

    @property
    def blocks(self) -> int:
        """Number of payload blocks."""
        return -(-self.size_bytes // self.block_bytes)

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks per sector bitmap block."""
        return CHUNK_SECTORS * self.logical_sector_bytes // self.block_bytes

    @property
    def bat_entries(self) -> int:
        """Number of entries of the block allocation table, payload and bitmap."""
        if self._has_parent:
            return -(-self.blocks // self.chunk_ratio) * (self.chunk_ratio + 1)
        return self.blocks + (self.blocks - 1) // self.chunk_ratio

    def bat_index(self, block: int) -> int:
        """Index of payload block ``block`` in the table; a bitmap entry follows the blocks of each chunk."""
        return block + block // self.chunk_ratio

    def bitmap_index(self, chunk: int) -> int:
        """Index of the sector bitmap entry of a chunk."""
        return chunk * (self.chunk_ratio + 1) + self.chunk_ratio

    def check(self) -> None:
        """Check that the format allows this.

        Raises:
            ValueError: a size is out of range, or not a multiple of what it must be.
        """
        block = self.block_bytes
        if not MIN_BLOCK_BYTES <= block <= MAX_BLOCK_BYTES or block & (block - 1):
            raise ValueError(f"VHDX block size must be a power of two from 1 to 256 MiB, not {block} bytes")
        if self.logical_sector_bytes not in (512, 4096) or self.physical_sector_bytes not in (512, 4096):
            raise ValueError("VHDX sector size must be 512 or 4096 bytes")
        if not 0 < self.size_bytes <= MAX_SIZE_BYTES or self.size_bytes % self.logical_sector_bytes:
            raise ValueError(f"a VHDX cannot have a size of {self.size_bytes} bytes")


def _pack_locator(entries: Sequence[tuple[str, str]]) -> bytes:
    head = _LOCATOR_HEAD.pack(_PARENT_LOCATOR_TYPE.bytes_le, 0, len(entries))
    at = len(head) + _LOCATOR_ENTRY.size * len(entries)
    table, text = b"", b""
    for key, value in entries:
        key_bytes, value_bytes = key.encode("utf-16-le"), value.encode("utf-16-le")
        start = at + len(text)
        table += _LOCATOR_ENTRY.pack(start, start + len(key_bytes), len(key_bytes), len(value_bytes))
        text += key_bytes + value_bytes
    return head + table + text


def _unpack_locator(data: bytes) -> tuple[tuple[str, str], ...]:
    _, _, count = _LOCATOR_HEAD.unpack_from(data)
    if count > _MAX_LOCATOR_ENTRIES:
        raise ValueError(f"a VHDX parent locator with {count} entries")
    entries = []
    for index in range(count):
        key, value, key_bytes, value_bytes = _LOCATOR_ENTRY.unpack_from(
            data, _LOCATOR_HEAD.size + index * _LOCATOR_ENTRY.size
        )
        entries.append(
            (
                data[key : key + key_bytes].decode("utf-16-le"),
                data[value : value + value_bytes].decode("utf-16-le"),
            )
        )
    return tuple(entries)
