"""Object names. They are random or keyed digests, and contain no name or id of a VM or host."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
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
DOOMED = "doomed"
FENCES = "fences"
TAGS = "tags"
PRUNED = "pruned"
UNFINISHED = "unfinished"
VERIFIED = "verified"
REPORTS = "reports"
DATA = "data"
NODES = "nodes"
PACK_FOLDERS = {Kind.DATA_PACK: DATA, Kind.NODE_PACK: NODES}
# A series counts by ones, so only an object that somebody else made can have a number like this, unless such
# an object has the number just before it.
FAR = 1 << 48
MAX_COUNTER = (1 << 64) - 1

_RANDOM = "[0-9a-f]{32}"
_COUNTER = "[0-9a-f]{16}"
# What follows the folder in a name. Anything else there was not made by hvps.
_FORMS = {
    folder: re.compile(f"{folder}/{form}")
    for form, folders in {
        _RANDOM: (INDEX, POINTS, IDS, KEYS, BAD, TOMBSTONES, DOOMED, PRUNED, UNFINISHED, VERIFIED, REPORTS),
        f"{_RANDOM}/{_COUNTER}": (LEDGER, LEASES, RUNS, PROOFS, FENCES, TAGS),
        _COUNTER: (EXPORTS,),
        r"([0-9a-f]{2})/\1[0-9a-f]{30}": (DATA, NODES),
    }.items()
    for folder in folders
}
FOLDERS = tuple(sorted(_FORMS))


def is_object_name(name: str) -> bool:
    """Whether hvps could have given an object this name."""
    form = _FORMS.get(name.partition("/")[0])
    return form is not None and form.fullmatch(name) is not None


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
    """The name of a pack or an index object, from its object name, which must be valid."""
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


def next_counter(names: Iterable[str], *, after: int = -1) -> int:
    """The number of the next object in the series that ``names`` are in; higher than ``after``."""
    taken = {counter_of(name) for name in names}
    number = max((number for number in taken if number < FAR), default=-1) + 1
    number = max(number, after + 1)
    while number in taken:
        number += 1
    return number


def counter_of(name: str) -> int:
    """Number of an object in its series, from its object name, which must be valid."""
    return int(name.rsplit("/", 1)[1], 16)
