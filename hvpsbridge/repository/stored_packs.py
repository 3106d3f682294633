"""Checks that stored packs are still there, and lists lost frames as bad."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hvpsbridge.errors import ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.marks import BadFrame, BadList
from hvpsbridge.repository.layout import BAD, PACK_FOLDERS, pack_name, random_name
from hvpsbridge.repository.objects import Objects

# From so many packs on, a listing of a remote store is cheaper than single requests.
LIST_FROM_PACKS = 32
# Frames in a bad list; each takes 120 bytes.
FRAMES_IN_LIST = 16384


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack that was stored, and its size."""

    kind: Kind
    name: bytes
    pack_bytes: int

    @property
    def object_name(self) -> str:
        """Its object name."""
        return pack_name(self.kind, self.name)


def pack_sizes(objects: Objects) -> dict[str, int]:
    """Sizes of all packs in the store, by object name."""
    return {info.name: info.size_bytes for folder in PACK_FOLDERS.values() for info in objects.list(folder)}


def size_fault(size_bytes: int | None, pack_bytes: int) -> str | None:
    """What is wrong with a pack of this size, None if it is missing; an index says ``pack_bytes``."""
    if size_bytes is None:
        return "the pack is missing"
    return None if size_bytes == pack_bytes else f"it has {size_bytes} bytes, but the index says {pack_bytes}"


def missing_packs(objects: Objects, packs: Sequence[StoredPack]) -> list[StoredPack]:
    """Those of ``packs`` that are missing in the store, or have another size.

    A few are looked up one by one, many packs of a remote store in a listing, which returns a thousand names
    per request.
    """
    if objects.store.remote and len(packs) > LIST_FROM_PACKS:
        sizes = pack_sizes(objects)
        return [pack for pack in packs if sizes.get(pack.object_name) != pack.pack_bytes]
    return [pack for pack in packs if _size(objects, pack.object_name) != pack.pack_bytes]


def _size(objects: Objects, name: str) -> int:
    try:
        return objects.store.size(name)
    except ObjectMissing:
        return 0


def write_bad_list(objects: Objects, frames: Iterable[BadFrame]) -> None:
    """List frames as bad for every later writer, durably."""
    every = tuple(frames)
    for at in range(0, len(every), FRAMES_IN_LIST):
        listed = BadList(datetime.now(UTC), every[at : at + FRAMES_IN_LIST])
        objects.write_record(f"{BAD}/{random_name().hex()}", Kind.BAD_LIST, listed)
    objects.store.commit_barrier()
