"""Object names. They are random or keyed digests, and contain no name or id of a VM or host."""

from __future__ import annotations

import secrets
from uuid import UUID

from hvpsbridge.formats.envelope import Kind

INDEX = "index"
POINTS = "points"
IDS = "ids"
LEDGER = "ledger"
LEASES = "leases"
RUNS = "runs"
KEYS = "keys"
EXPORTS = "exports"
BAD = "bad"
TOMBSTONES = "tombstones"
PROOFS = "proofs"
DATA = "data"
NODES = "nodes"
PACK_FOLDERS = {Kind.DATA_PACK: DATA, Kind.NODE_PACK: NODES}


def random_name() -> bytes:
    """16 random bytes, the name of a pack or an index object."""
    return secrets.token_bytes(16)


def pack_name(kind: Kind, name: bytes) -> str:
    """Object name of a pack; folders of two hex digits keep directories small."""
    text = name.hex()
    return f"{PACK_FOLDERS[kind]}/{text[:2]}/{text}"


def index_name(name: bytes) -> str:
    """Object name of an index object."""
    return f"{INDEX}/{name.hex()}"


def binary_name(name: str) -> bytes:
    """The name of a pack or an index object, from its object name.

    Raises:
        ValueError: it is not the name of such an object.
    """
    return bytes.fromhex(name.rsplit("/", 1)[1])


def point_name(point_id: UUID) -> str:
    """Object name of a manifest."""
    return f"{POINTS}/{point_id.hex}"


def ids_name(point_id: UUID) -> str:
    """Object name of a point's ids."""
    return f"{IDS}/{point_id.hex}"


def tombstone_name(point_id: UUID) -> str:
    """Object name of the tombstone of a point."""
    return f"{TOMBSTONES}/{point_id.hex}"


def slot_name(slot_id: UUID) -> str:
    """Object name of a key slot."""
    return f"{KEYS}/{slot_id.hex}"


def counted(prefix: str, counter: int) -> str:
    """Object name of number ``counter`` in a series; names sort as numbers do."""
    return f"{prefix}/{counter:016x}"


def counter_of(name: str) -> int:
    """Number of an object in its series.

    Raises:
        ValueError: it is not the name of an object in a series.
    """
    return int(name.rsplit("/", 1)[1][:16], 16)
