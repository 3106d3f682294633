"""Rebuilds a lost or damaged index from the footers of packs.

Every pack lists its own frames, so a lost index object can be replaced by reading the ends of its packs. The
rebuild adds index objects in the usual order: first the packs are durable, then the index is written. A
damaged index object is deleted last, and only if nothing is lost with it: every pack must be in an index
object that can be read, and the new index object must list the damaged one as superseded.

Running writers have packs that are in no index yet, and add them themselves. So a rebuild fails while there
are any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.repository.check.footers import read_footer
from hvpsbridge.repository.collect.fences import Fences
from hvpsbridge.repository.index_objects import INDEX_ENTRIES, publish_index, read_index
from hvpsbridge.repository.layout import (
    INDEX,
    PACK_FOLDERS,
    binary_name,
    index_name,
    pack_name,
)
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.run_guard import check_run
from hvpsbridge.repository.runs import run_alone

logger = logging.getLogger(__name__)

# Footers read ahead, at most. 256 footers with 16384 entries each take 200 MiB; most have 256 entries.
READ_AHEAD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuild found and did.

    Attributes:
        packs: how many packs are in the store.
        named: packs that were in no readable index and are in one now; object names. Besides packs of a lost
            index these may be packs of runs that died before they published one.
        frames: how many frames they have.
        unreadable: packs that are in no index and whose footer cannot be read either, and why.
        damaged: index objects that cannot be read.
        superseded: those of them that are superseded now.
        kept: those of the superseded ones that the store refused to delete; they do no harm.
    """

    packs: int
    named: tuple[str, ...]
    frames: int
    unreadable: tuple[tuple[str, str], ...]
    damaged: tuple[str, ...]
    superseded: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the index is complete: no pack is left that only a damaged index object may describe."""
        return not (self.unreadable and self.damaged)


@dataclass(frozen=True, slots=True)
class _Pack:
    name: str
    kind: Kind
    pack_bytes: int

    @property
    def binary(self) -> bytes:
        return binary_name(self.name)


def rebuild_index(
    objects: Objects,
    run_id: UUID,
    *,
    check: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> RebuildReport:
    """Rebuild the index; the arguments are those of ``Repository.rebuild_index``.

    Raises:
        RepositoryLocked: a run is writing to the repository.
        StoreError: the store fails; what was published so far remains and is correct.
    """
    if check:
        return _Rebuild(objects, on_progress).run()
    with run_alone(objects, run_id) as own:
        return _Rebuild(objects, on_progress, own).run()


class _Rebuild:
    def __init__(
        self, objects: Objects, on_progress: Callable[[int, int], None] | None, own: Lease | None = None
    ) -> None:
        self._objects = objects
        self._own = own
        self._on_progress = on_progress
        self._frames = 0
        self._unreadable: list[tuple[str, str]] = []

    def run(self) -> RebuildReport:
        publish = self._own is not None
        # Packs are listed first. If a writer that begins now publishes a pack and its index between both
        # listings, the pack is not listed; the other way round, it would seem to be in no index.
        packs = list(self._packs())
        known, damaged = self._read_index()
        unnamed = [pack for pack in packs if pack.binary not in known]
        named: list[str] = []
        gathered: list[IndexedPack] = []
        for number, pack in enumerate(self._footers(unnamed), 1):
            if pack is not None:
                gathered.append(pack)
                named.append(pack_name(pack.kind, pack.name))
                self._frames += len(pack.entries)
            if publish and sum(len(each.entries) for each in gathered) >= INDEX_ENTRIES:
                self._publish((), gathered)
                gathered = []
            if self._on_progress is not None:
                self._on_progress(number, len(unnamed))
        # If a footer cannot be read, only a damaged index object may still describe that pack.
        superseded = () if self._unreadable else tuple(damaged)
        kept: list[str] = []
        if publish and (gathered or superseded):
            self._publish(tuple(map(binary_name, superseded)), gathered)
            why = "which is superseded"
            kept = [name for name in superseded if not self._objects.try_delete(name, why)]
        return RebuildReport(
            packs=len(packs),
            named=tuple(named),
            frames=self._frames,
            unreadable=tuple(sorted(self._unreadable)),
            damaged=tuple(damaged),
            superseded=superseded if publish else (),
            kept=tuple(kept),
        )

    def _packs(self) -> Iterator[_Pack]:
        for kind, folder in PACK_FOLDERS.items():
            for info in self._objects.list(folder):
                yield _Pack(info.name, kind, info.size_bytes)

    def _read_index(self) -> tuple[set[bytes], list[str]]:
        """Packs in index objects, and damaged index objects; without those that are superseded."""
        packs: dict[str, list[bytes]] = {}
        superseded: set[str] = set()
        damaged: list[str] = []
        for info in list(self._objects.list(INDEX)):
            try:
                content = read_index(self._objects, info.name)
            except ObjectMissing:
                continue  # gone since the listing
            except Damaged:
                damaged.append(info.name)
                continue
            packs[info.name] = [pack.name for pack in content.packs]
            superseded.update(map(index_name, content.supersedes))
        known = {pack for name, names in packs.items() if name not in superseded for pack in names}
        return known, [name for name in damaged if name not in superseded]

    def _footers(self, packs: list[_Pack]) -> Iterator[IndexedPack | None]:
        for at in range(0, len(packs), READ_AHEAD):
            yield from self._objects.each(self._footer, packs[at : at + READ_AHEAD])

    def _footer(self, pack: _Pack) -> IndexedPack | None:
        try:
            entries = read_footer(self._objects, pack.name, pack.kind, pack.pack_bytes)
        except ObjectMissing:
            return None  # removed since the listing
        except Damaged as err:
            self._unreadable.append((pack.name, err.what))
            return None
        return IndexedPack(pack.binary, pack.kind, pack.pack_bytes, entries)

    def _publish(self, superseded: tuple[bytes, ...], packs: list[IndexedPack]) -> None:
        if self._own is not None:
            check_run(self._objects, Fences(self._objects), self._own)
        # The packs may be of a run that died before its barrier. They were listed, so they are durable first.
        name = index_name(publish_index(self._objects, IndexObject(superseded, tuple(packs))))
        logger.info("%s lists %d packs and supersedes %d index objects", name, len(packs), len(superseded))
