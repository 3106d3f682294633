"""A disk's tree of chunk ids: fan-out 256, nodes of 8 KiB.

A node is 256 ids of 32 bytes. On level 1 (a leaf) entry ``i`` of node ``n`` is the id of chunk
``256 n + i``; on a higher level it is the id of node ``256 n + i`` of the level below. An id of 32 zero
bytes means a chunk, or a whole subtree, of zeros. The root is the single node of the lowest level
that covers the disk. A node whose entries are all zero is never stored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hvpsbridge.formats.chunk import ID_BYTES, ZERO_ID
from hvpsbridge.formats.malformed import Malformed

FAN_OUT = 256
NODE_BYTES = FAN_OUT * ID_BYTES
ZERO_NODE = bytes(NODE_BYTES)
_ENTRY = struct.Struct("32s")


@dataclass(frozen=True, slots=True)
class TreeRoot:
    """The content of a disk or file: id of the root node, and size.

    The level of the root follows from the size and the grid; see :func:`levels`.
    """

    root: bytes
    size_bytes: int


def levels(chunks: int) -> int:
    """Level of the root of a tree with so many chunks; at least 1."""
    level, covered = 1, FAN_OUT
    while covered < chunks:
        level, covered = level + 1, covered * FAN_OUT
    return level


def entries(node: bytes | bytearray | memoryview) -> tuple[bytes, ...]:
    """The 256 ids of a node.

    Raises:
        Malformed: the node is not 8 KiB long.
    """
    if len(node) != NODE_BYTES:
        raise Malformed(f"a node has {NODE_BYTES} bytes, not {len(node)}")
    return tuple(identity for (identity,) in _ENTRY.iter_unpack(node))


def entry(node: bytes | bytearray | memoryview, index: int) -> bytes:
    """Id at ``index`` of a node."""
    return bytes(node[index * ID_BYTES : (index + 1) * ID_BYTES])


def set_entry(node: bytearray, index: int, identity: bytes) -> None:
    """Write an id into a node under construction."""
    node[index * ID_BYTES : (index + 1) * ID_BYTES] = identity


def is_zero(identity: bytes) -> bool:
    """Whether an id means zeros."""
    return identity == ZERO_ID
