"""The packs that one writer has stored: when they are indexed, and whether they are still there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from uuid import UUID

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.marks import BadFrame
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.index_objects import INDEX_ENTRIES, publish_index
from hvpsbridge.repository.layout import index_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stored_packs import StoredPack, missing_packs, write_bad_list

logger = logging.getLogger(__name__)


class RunPacks:
    """Packs of one writer. Thread-safe.

    Args:
        objects, cache: of the repository.
        number: of the writer, for its rows in the cache.
        run: its run object, which index objects name; None in format 1.
    """

    def __init__(self, objects: Objects, cache: IndexCache, number: int, run: UUID | None = None) -> None:
        self._objects = objects
        self._cache = cache
        self._number = number
        self._run = run
        self._lock = threading.Lock()
        self._waiting: list[IndexedPack] = []
        self._stored: list[StoredPack] = []
        # Packs of others that have chunks of this run, by name.
        self._used: dict[bytes, Kind] = {}

    def add(self, pack: IndexedPack) -> None:
        """Add a stored pack. Its writer finds its frames from now on, others when it is published."""
        self._cache.add_own(pack, self._number)
        with self._lock:
            self._waiting.append(pack)
            self._stored.append(StoredPack(pack.kind, pack.name, pack.pack_bytes))

    def use(self, kind: Kind, pack: bytes) -> None:
        """Note that the run relies on a pack that was stored before."""
        self._used[pack] = kind  # one operation, which needs no lock

    @property
    def enough(self) -> bool:
        """Whether packs wait that fill an index object."""
        with self._lock:
            return sum(len(each.entries) for each in self._waiting) >= INDEX_ENTRIES

    def publish(self) -> None:
        """Make the packs that wait durable, and list them in an index object."""
        with self._lock:
            packs, self._waiting = tuple(self._waiting), []
        if not packs:
            return
        content = IndexObject((), packs, self._run)
        try:
            name = publish_index(self._objects, content)
        except BaseException:
            with self._lock:
                self._waiting = [*packs, *self._waiting]
            raise
        self._cache.add(name, content)
        self._cache.drop_own([pack.name for pack in packs])
        logger.debug("published %s with %d packs", index_name(name), len(packs))

    def check(self) -> None:
        """Check that every pack that the writer stored or used still exists.

        Raises:
            Damaged: one is missing or has another length. Its frames are now listed as bad, so that no later
                run uses them.
        """
        with self._lock:
            own = frozenset(pack.name for pack in self._stored)
            stored = list(self._stored)
            used = {name: kind for name, kind in self._used.items() if name not in own}
        if used:
            sizes = self._sizes(used)
            if not used.keys() <= sizes.keys():
                # Another process that uses the cache may be taking in an index that a collect has merged.
                self._cache.synchronise()
                sizes = self._sizes(used)
            # One that is in no index any more has no size, and counts as missing.
            stored += [StoredPack(kind, name, sizes.get(name, -1)) for name, kind in used.items()]
        gone = missing_packs(self._objects, stored)
        if not gone:
            return
        frames = (frame for pack in gone for frame in self._cache.frames_of(pack.name))
        write_bad_list(self._objects, (BadFrame(frame.id, frame.pack) for frame in frames))
        more = f", and {len(gone) - 1} more" if len(gone) > 1 else ""
        how = "stored" if gone[0].name in own else "used"
        raise self._objects.damaged(
            gone[0].object_name,
            f"{how} by this run, it is now missing or truncated{more}",
        )

    def _sizes(self, names: Collection[bytes]) -> dict[bytes, int]:
        return {pack.name: pack.pack_bytes for pack in self._cache.packs_named(names)}

    def abandon(self) -> None:
        """Forget the packs that wait. They stay in the store, but in no index."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        self._cache.drop_own([pack.name for pack in waiting])
