"""Requests to write a part of a file on a host (``Write-HvpsFile``): offset, digest and data."""

from __future__ import annotations

import hashlib
import struct

MAGIC = b"HVW1"
_HEAD = struct.Struct("<4sQ32s")
HEADER_BYTES = _HEAD.size


def pack_write(offset: int, data: bytes) -> bytes:
    """A request to write ``data``, which is not empty, at ``offset``."""
    return _HEAD.pack(MAGIC, offset, hashlib.sha256(data).digest()) + data


def unpack_write(request: bytes) -> tuple[int, bytes]:
    """Offset and data of a request.

    Raises:
        ValueError: it is none, or its data has another digest.
    """
    if len(request) <= HEADER_BYTES:
        raise ValueError("too short")
    magic, offset, digest = _HEAD.unpack_from(request)
    data = request[HEADER_BYTES:]
    if magic != MAGIC:
        raise ValueError("not a request to write")
    if hashlib.sha256(data).digest() != digest:
        raise ValueError(f"data at {offset} has another digest")
    return offset, data
