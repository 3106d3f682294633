"""Chooses what a collect does with each pack: pure, from what is needed of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.units import MIB

# Packs below this are merged: a writer closes a pack at 32 MiB, so only the last one of each backup is small.
SMALL_PACK_BYTES = 8 * MIB
# So many small packs of a kind are worth moving.
MERGE_FROM = 16
# Part of the stored bytes that may be unused, as restic's default for a prune.
MAX_UNUSED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PackUse:
    """What points need of a pack.

    Attributes:
        number: of the pack in the index cache.
        pack_bytes: its size.
        frames_bytes: bytes of its frames.
        live_bytes: bytes of the frames that points need and that have no other copy that is kept.
    """

    number: int
    name: bytes
    kind: Kind
    pack_bytes: int
    frames_bytes: int
    live_bytes: int

    @property
    def dead_bytes(self) -> int:
        """Bytes of frames that no point needs."""
        return self.frames_bytes - self.live_bytes


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with packs.

    Attributes:
        unused: packs that no point needs.
        moved: packs whose needed frames are moved to new packs.
    """

    unused: tuple[PackUse, ...]
    moved: tuple[PackUse, ...]

    @property
    def freed_bytes(self) -> int:
        """How much smaller the store will be."""
        return sum(pack.pack_bytes for pack in (*self.unused, *self.moved)) - self.moved_bytes

    @property
    def moved_bytes(self) -> int:
        """How many bytes are read and written again."""
        return sum(pack.live_bytes for pack in self.moved)


def choose(
    packs: Iterable[PackUse], *, max_unused: float = MAX_UNUSED, merge_from: int = MERGE_FROM
) -> Choice:
    """What to do with packs, so that at most ``max_unused`` of the bytes that stay are unused.

    Packs with the largest part of unused bytes are moved first: they free most for what they cost. Small
    packs are merged when there are many, or when something is moved anyway.
    """
    unused: list[PackUse] = []
    partly: list[PackUse] = []
    for pack in packs:
        (partly if pack.live_bytes else unused).append(pack)
    moved = _emptiest(partly, max_unused)
    chosen = {pack.number for pack in moved}
    for kind in (Kind.DATA_PACK, Kind.NODE_PACK):
        small = [pack for pack in partly if pack.kind is kind and pack.pack_bytes < SMALL_PACK_BYTES]
        small = [pack for pack in small if pack.number not in chosen]
        others = any(pack.kind is kind for pack in moved)
        if len(small) >= merge_from or (others and small):
            moved += small
    # One small pack alone would only be copied.
    useful = [
        pack for pack in moved if pack.dead_bytes or sum(other.kind is pack.kind for other in moved) > 1
    ]
    return Choice(tuple(unused), tuple(sorted(useful, key=lambda pack: pack.number)))


def _emptiest(partly: Sequence[PackUse], max_unused: float) -> list[PackUse]:
    chosen: list[PackUse] = []
    dead = sum(pack.dead_bytes for pack in partly)
    live = sum(pack.live_bytes for pack in partly)
    for pack in sorted(partly, key=lambda pack: (-pack.dead_bytes / pack.frames_bytes, pack.number)):
        if dead <= max_unused * (live + dead) or not pack.dead_bytes:
            break
        chosen.append(pack)
        dead -= pack.dead_bytes
    return chosen
