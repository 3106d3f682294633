"""The ledger of one VM: small objects in the order of their counters, added by the holder of the VM's lease.

It is in the repository and not on the client, because the machine that ran yesterday's backup may not
exist today.

Anyone who can create objects can add an entry that cannot be read, and an entry can rot. Then something
unknown was made: the other entries are used, and :attr:`Ledger.damaged` says what is missing.

A run reads backwards to the newest entry that says that all runs are settled, and no further. Entries
before that one are only kept to be looked at, by people and by ``verify``, and expire.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from hvpsbridge.errors import Damaged, NewerObject, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.repository.layout import FAR, LEDGER, counter_of
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.points import Point

logger = logging.getLogger(__name__)

# How long entries that no run needs are kept (docs/threat-model.md).
KEEP = timedelta(days=30)
# Entries deleted at a time: after an upgrade there may be years of them, and no run should wait for that.
EXPIRE_ENTRIES = 100
# Entries read at once, at most, on the way back to the one that is looked for.
READ_AT_ONCE = 64


class Ledger:
    """Entries of one VM."""

    def __init__(self, objects: Objects, vm_id: UUID) -> None:
        self._objects = objects
        self._prefix = f"{LEDGER}/{objects.sealer.opaque(LEDGER, vm_id)}"
        # Entries never change and the newest one is never deleted, so no name is used twice: each entry is
        # fetched once. A run asks for them before and after everything it makes, and on a remote store each
        # is a request.
        self._known: dict[str, LedgerEntry] = {}
        self._damaged: dict[str, Damaged] = {}
        # Far ahead (``layout.FAR``) and not an entry.
        self._foreign: set[str] = set()

    @property
    def damaged(self) -> tuple[Damaged, ...]:
        """What :meth:`current_entries` had to leave out, if called before."""
        return tuple(self._damaged.values())

    def append(self, entry: LedgerEntry) -> None:
        """Add an entry; durable when this returns."""
        # Another writer means that the lease is lost, which its check finds; this entry is needed all the
        # same.
        name = self._objects.append_record(self._prefix, Kind.LEDGER, entry, last=self._last)
        self._objects.store.commit_barrier()
        self._known[name] = entry

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All entries, oldest first.

        Raises:
            Damaged: an entry cannot be read.
        """
        found = self._objects.each(self._try_read, self._names_in_order())
        return tuple(entry for read in found if (entry := _or_raise(read)) is not None)

    def current_entries(self) -> tuple[LedgerEntry, ...]:
        """The entries that a run needs, oldest first: from the newest one on that says all runs are settled.

        Those that cannot be read are left out, and are in :attr:`damaged` from now on.

        Raises:
            NewerObject: a newer hvps wrote one of them.
        """
        return tuple(entry for _, entry in self._current())

    def open_entries(self) -> tuple[LedgerEntry, ...]:
        """Entries of runs that are not settled, oldest first.

        Raises:
            NewerObject: as :meth:`current_entries`.
        """
        entries = self.current_entries()
        settled = {entry.run_id for entry in entries if entry.kind is LedgerKind.SETTLED}
        return tuple(entry for entry in entries if entry.run_id not in settled)

    def expire(self, now: datetime, newest: Point | None) -> int:
        """Delete entries that no run needs and that are older than :data:`KEEP`, oldest first.

        What is evidence stays: entries that name a reference point which is still on the host, and those
        that name the VM's newest point, or one that was committed after it and is lost.

        Args:
            now: the time, UTC.
            newest: the VM's newest point.

        Returns:
            How many were deleted, at most :data:`EXPIRE_ENTRIES`.

        Raises:
            StoreError: the store refuses or fails; the entries stay.
        """
        current = self._current()
        if not current or not current[0][1].all_settled:
            return 0
        last, settled = current[0]
        deleted = 0
        for name in self._names_in_order():
            if name >= last or deleted == EXPIRE_ENTRIES:
                break
            entry = self._try_read(name)
            if not isinstance(entry, LedgerEntry):
                continue  # gone, or damaged: verify reports it
            if entry.at >= now - KEEP:
                break
            if not _is_evidence(entry, settled.reference_points_before, newest):
                self._objects.store.delete(name)
                deleted += 1
        return deleted

    def _current(self) -> list[tuple[str, LedgerEntry]]:
        """Names and entries of :meth:`current_entries`."""
        names = self._names_in_order()
        found: list[tuple[str, LedgerEntry]] = []
        fetched: dict[str, LedgerEntry | Damaged | NewerObject | None] = {}
        count = 1  # nearly always enough: the last entry of the run before
        for at in range(len(names) - 1, -1, -1):
            name = names[at]
            if name not in self._known and name not in fetched:
                batch = names[max(at + 1 - count, 0) : at + 1]
                fetched.update(zip(batch, self._objects.each(self._try_read, batch), strict=True))
                count = min(2 * count, READ_AT_ONCE)
            entry = self._known.get(name) or fetched[name]
            if isinstance(entry, Damaged):
                if name not in self._damaged:
                    logger.error("%s; what it names on a host is unknown", entry)
                    self._damaged[name] = entry
                continue
            if isinstance(entry, NewerObject):
                raise entry
            if entry is None:
                continue
            found.append((name, entry))
            if entry.all_settled:
                break
        return found[::-1]

    def _names_in_order(self) -> list[str]:
        names = sorted(info.name for info in self._objects.list(self._prefix))
        return [name for name in names if counter_of(name) < FAR or self._is_entry(name)]

    def _last(self, names: Iterable[str]) -> int:
        """The highest counter, without those of objects that somebody else made far ahead."""
        far = (counter for name in names if (counter := counter_of(name)) >= FAR and self._is_entry(name))
        return max(far, default=-1)

    def _is_entry(self, name: str) -> bool:
        if name in self._foreign:
            return False
        if isinstance(self._try_read(name), Damaged):
            self._foreign.add(name)
            return False
        return True

    def _try_read(self, name: str) -> LedgerEntry | Damaged | NewerObject | None:
        """The entry, or what is wrong with it; None when it expired since the listing."""
        if (known := self._known.get(name)) is not None:
            return known
        try:
            entry = self._objects.read_record(LedgerEntry, name, Kind.LEDGER)
        except ObjectMissing:
            return None
        except (Damaged, NewerObject) as err:
            return err
        self._known[name] = entry
        return entry


def _or_raise(read: LedgerEntry | Damaged | NewerObject | None) -> LedgerEntry | None:
    if isinstance(read, (Damaged, NewerObject)):
        raise read
    return read


def _is_evidence(entry: LedgerEntry, still_there: Collection[str], newest: Point | None) -> bool:
    if entry.reference_point is not None and entry.reference_point in still_there:
        return True
    if entry.point_id is None:
        return False
    return newest is None or entry.point_id == newest.point_id or entry.at > newest.created
