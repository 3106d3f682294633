"""An index object as arrays: the content of ``formats.index`` without an object for each chunk.

A repository of 20 TiB has 168 million chunks in its index objects, and all of them are read to make the index
of a client.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.formats.index import IndexedPack, IndexObject, encode_index, index_parts
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.pack import HEAD_BYTES, MAX_FRAME_BYTES, MAX_PACK_BYTES, PackEntry

Rows: TypeAlias = npt.NDArray[Any]
# Without gaps, which numpy closes when it joins arrays.
PACK_ROW = np.dtype([("name", "V16"), ("kind", "u1"), ("unused", "V3"), ("count", "<u4"), ("bytes", "<u8")])
ENTRY_ROW = np.dtype([("id", "V32"), ("offset", "<u4"), ("frame", "<u4"), ("raw", "<u4")])
_KINDS = (int(Kind.DATA_PACK), int(Kind.NODE_PACK))


@dataclass(frozen=True)
class IndexTable:
    """Content of one index object.

    Attributes:
        supersedes: names of the index objects that it supersedes.
        packs: rows of :data:`PACK_ROW`.
        entries: rows of :data:`ENTRY_ROW`, in the order of the packs.
    """

    supersedes: tuple[bytes, ...]
    packs: Rows
    entries: Rows

    @cached_property
    def ends(self) -> Rows:
        """Where the entries of each pack end."""
        return np.cumsum(self.packs["count"], dtype=np.int64)

    def pack(self, number: int) -> IndexedPack:
        """A pack of the table with its entries."""
        row = self.packs[number]
        end = int(self.ends[number])
        entries = self.entries[end - int(row["count"]) : end]
        return IndexedPack(
            bytes(row["name"]),
            Kind(int(row["kind"])),
            int(row["bytes"]),
            tuple(
                PackEntry(bytes(each), offset, frame, raw)
                for each, offset, frame, raw in zip(
                    entries["id"],
                    entries["offset"].tolist(),
                    entries["frame"].tolist(),
                    entries["raw"].tolist(),
                    strict=True,
                )
            ),
        )


def table_of(index: IndexObject) -> IndexTable:
    """The same content as arrays."""
    return decode_table(encode_index(index))


def decode_table(payload: bytes | memoryview) -> IndexTable:
    """The index in ``payload``, whose bytes the arrays refer to.

    Raises:
        Malformed: as ``formats.index.decode_index``.
    """
    parts = index_parts(payload)
    packs = np.frombuffer(parts.packs, PACK_ROW)
    if not np.isin(packs["kind"], _KINDS).all():
        raise Malformed("unexpected kind of a pack")
    entries = np.frombuffer(parts.entries, ENTRY_ROW)
    _check(packs, entries)
    return IndexTable(parts.supersedes, packs, entries)


def _check(packs: Rows, entries: Rows) -> None:
    """Check sizes and places of frames."""
    frames = entries["frame"].astype(np.int64)
    ends = entries["offset"] + frames
    bad = (entries["offset"] < HEAD_BYTES) | (ends > MAX_PACK_BYTES)
    bad |= (frames < FRAME_BYTES) | (frames > MAX_FRAME_BYTES) | (entries["raw"] > MAX_CHUNK_BYTES)
    if bad.any():
        row = entries[int(np.argmax(bad))]
        what = f"a frame of {row['frame']} bytes at {row['offset']}, of {row['raw']} bytes raw"
        raise Malformed(what)
    beyond = ends > np.repeat(packs["bytes"], packs["count"])
    if (packs["bytes"] > MAX_PACK_BYTES).any() or beyond.any():
        raise Malformed("frames beyond the end of a pack")
