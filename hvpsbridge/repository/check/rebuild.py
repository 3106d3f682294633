"""A lost or damaged index made again from the packs' footers.

Every pack lists its own frames, so an index object that is gone costs nothing but reading the ends of the
packs it named. What is written is further index objects, by the usual order: packs durable, then the index.
An index object that cannot be read is deleted last, and only when nothing it could tell is missing: every
pack there is has its frames in an index that reads, and the new index object names it as superseded.

Writers at work have packs that no index names yet. They name them themselves, so a rebuild waits its turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import Damaged, ObjectMissing, StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject, decode_index, encode_index
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.repository.check.footers import read_footer
from hvpsbridge.repository.layout import (
    INDEX,
    PACK_FOLDERS,
    binary_name,
    index_name,
    pack_name,
    random_name,
)
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.runs import refuse_other_runs, start_run

logger = logging.getLogger(__name__)

# Footers held that nobody took yet, at most: 256 of 16384 entries each would be 200 MiB, and most have 256.
READ_AHEAD = 256
# Entries that are gathered for one index object, as writers do; bounds memory.
INDEX_ENTRIES = 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuild found, and did unless it was only asked to look.

    Attributes:
        packs: packs in the store.
        named: packs that no readable index named, by object name; an index names them now. Besides those
            of a lost index there may be some of runs that died before they published one.
        frames: in the packs that were named.
        unreadable: packs that no index names and whose footer cannot be read either, and why.
        damaged: index objects that cannot be read.
        superseded: of them, those that are superseded now.
        kept: of the superseded ones, those that the store did not let go; they do no harm.
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
        """Whether no pack is left whose frames only a damaged index object could tell."""
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
    objects: Objects, run_id: UUID, *, check: bool = False, told: Callable[[int, int], None] | None = None
) -> RebuildReport:
    """Name every pack in an index that reads. See ``Repository.rebuild_index``.

    Raises:
        RepositoryLocked: a run is at work.
        StoreError: the store fails; what was published so far stays and is right.
    """
    if check:
        return _Rebuild(objects, told).run(publish=False)
    with start_run(objects, run_id) as own:
        refuse_other_runs(objects, own)
        return _Rebuild(objects, told).run(publish=True)


class _Rebuild:
    def __init__(self, objects: Objects, told: Callable[[int, int], None] | None) -> None:
        self._objects = objects
        self._told = told
        self._frames = 0
        self._unreadable: list[tuple[str, str]] = []

    def run(self, *, publish: bool) -> RebuildReport:
        # Packs first: a writer that begins now may publish one and its index between both listings, and
        # then the index tells of it; the other way round it would be taken for one that nobody names.
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
            if self._told is not None:
                self._told(number, len(unnamed))
        # With a pack left whose frames nobody can tell, a damaged index object is the last that might.
        superseded = () if self._unreadable else tuple(damaged)
        kept: list[str] = []
        if publish and (gathered or superseded):
            self._publish(tuple(map(binary_name, superseded)), gathered)
            kept = [name for name in superseded if not self._delete(name)]
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
        """Packs that index objects name, and the index objects that cannot be read and nobody supersedes."""
        known: set[bytes] = set()
        superseded: set[str] = set()
        damaged: list[str] = []
        for info in list(self._objects.list(INDEX)):
            try:
                content = decode_index(self._objects.read(info.name, Kind.INDEX))
            except ObjectMissing:
                continue  # gone since the listing
            except (Damaged, Malformed):
                damaged.append(info.name)
                continue
            known.update(pack.name for pack in content.packs)
            superseded.update(map(index_name, content.supersedes))
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
        store = self._objects.store
        # The packs may be of a run that died before its barrier; listing them counted them among ours.
        store.commit_barrier()
        name = index_name(random_name())
        self._objects.write(name, Kind.INDEX, encode_index(IndexObject(superseded, tuple(packs))))
        store.commit_barrier()
        logger.info("%s names %d packs and supersedes %d index objects", name, len(packs), len(superseded))

    def _delete(self, name: str) -> bool:
        try:
            self._objects.store.delete(name)
        except StoreError as err:
            logger.warning("%s is superseded and stays: %s", name, err)
            return False
        return True
