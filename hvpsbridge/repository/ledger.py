"""The ledger of one VM: small objects, only ever added, in the order of their counter.

Only the holder of the VM's lease appends. The ledger lives in the repository and not on the client,
because the machine that ran yesterday's backup may not exist today.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from hvpsbridge.errors import ObjectExists
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.repository.layout import LEDGER, counted, counter_of
from hvpsbridge.repository.objects import Objects

# How long entries of settled runs are kept to be looked at.
KEEP_SETTLED = timedelta(days=30)


class Ledger:
    """Entries of one VM."""

    def __init__(self, objects: Objects, vm_id: UUID) -> None:
        self._objects = objects
        self._prefix = f"{LEDGER}/{objects.sealer.opaque(LEDGER, vm_id)}"
        # Entries never change and no name is used twice, so each is fetched once: a run asks for all of them
        # before and after whatever it makes, and on a remote store every entry is a request.
        self._known: dict[str, LedgerEntry] = {}

    def append(self, entry: LedgerEntry) -> None:
        """Add an entry; durable when this returns."""
        counter = max((counter for counter, _ in self._names()), default=-1) + 1
        while True:
            try:
                self._objects.write(counted(self._prefix, counter), Kind.LEDGER, encode_record(entry))
                break
            except ObjectExists:
                counter += 1  # a second writer means a lost lease; its holder will see, our entry must stand
        self._objects.store.commit_barrier()

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All entries, oldest first.

        Raises:
            Damaged: one cannot be read; what a dead run made cannot be known for sure then.
        """
        return tuple(self._read(name) for _, name in self._names())

    def open_entries(self) -> tuple[LedgerEntry, ...]:
        """Entries of runs that no SETTLED entry closes, oldest first."""
        entries = self.entries()
        settled = {entry.run_id for entry in entries if entry.kind is LedgerKind.SETTLED}
        return tuple(entry for entry in entries if entry.run_id not in settled)

    def expire(self, now: datetime) -> int:
        """Count of entries deleted: those of settled runs older than :data:`KEEP_SETTLED`."""
        read = [(name, self._read(name)) for _, name in self._names()]
        settled = {
            entry.run_id
            for _, entry in read
            if entry.kind is LedgerKind.SETTLED and entry.at < now - KEEP_SETTLED
        }
        # The newest object stays whatever it says: the counter must not start again.
        old = [name for name, entry in read[:-1] if entry.run_id in settled]
        for name in old:
            self._objects.store.delete(name)
        return len(old)

    def _names(self) -> list[tuple[int, str]]:
        return sorted((counter_of(info.name), info.name) for info in self._objects.list(self._prefix))

    def _read(self, name: str) -> LedgerEntry:
        if (known := self._known.get(name)) is not None:
            return known
        try:
            entry = decode_record(LedgerEntry, self._objects.read(name, Kind.LEDGER))
        except Malformed as err:
            raise self._objects.unreadable(name, err) from err
        self._known[name] = entry
        return entry
