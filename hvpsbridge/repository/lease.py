"""Leases in a store that can do no more than create-if-absent (form: ``formats.lease``).

The highest counter under a prefix rules. Whoever creates the next one holds the lease; nobody's clock but
the observer's own counts. A holder is dead when its boot id and pid namespace are ours and its process is
gone; otherwise, when its counter has not moved for :data:`LEASE_STALE_SECONDS` while we watched. A process
that merely sleeps on this machine is not dead. One that sleeps elsewhere may lose its lease, and finds out at
the next :meth:`Lease.check`, since the counter never goes back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from uuid import UUID

from hvpsbridge.errors import (
    Damaged,
    HvpsError,
    LeaseLost,
    ObjectExists,
    ObjectMissing,
    RepositoryLocked,
    StoreError,
)
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.lease import LeaseHolder, LeaseRecord
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.repository.holder import current_holder, is_here, is_provably_dead
from hvpsbridge.repository.layout import counted, counter_of
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stores.retry import Unreachable

logger = logging.getLogger(__name__)

LEASE_RENEW_SECONDS = 20.0
# Six missed renewals: longer than any hiccup of a store that is still worth writing to.
LEASE_STALE_SECONDS = 120.0
POLL_SECONDS = 1.0
# Taking a lease loses the race to create the next counter only against others doing the same.
MAX_RACES = 8
# Leases this process holds, by repository and prefix. A record of ours that is not among them is of a lease
# that could not be released, because the store failed: nobody works under it any more.
_held: set[tuple[UUID, str]] = set()


def read_record(objects: Objects, prefix: str, counter: int) -> LeaseRecord | None:
    """The record of a counter under a prefix; None when it is gone or cannot be read."""
    try:
        return decode_record(LeaseRecord, objects.read(counted(prefix, counter), Kind.LEASE))
    except (ObjectMissing, Damaged, Malformed):
        return None


def is_gone(objects: Objects, prefix: str, holder: LeaseHolder) -> bool:
    """Whether nobody works under the lease of ``holder`` any more, for all that can be proved here."""
    mine = is_here(holder) and holder.process_id == os.getpid()
    given_up = mine and (objects.repository_id, prefix) not in _held
    return given_up or is_provably_dead(holder)


class Lease:
    """A held lease; a thread of its own renews it until it is released.

    Args:
        objects: where it lives.
        prefix: its series of objects.
        holder: this process, see :func:`current_holder`.
        what: what it is on, for messages.
        once: the prefix is never used again (a run's), so nothing needs to stay after the release.
        stale_seconds, renew_seconds, clock: for tests.
    """

    def __init__(
        self,
        objects: Objects,
        prefix: str,
        holder: LeaseHolder,
        what: str,
        *,
        once: bool = False,
        stale_seconds: float = LEASE_STALE_SECONDS,
        renew_seconds: float = LEASE_RENEW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self.prefix = prefix
        self.holder = holder
        self.what = what
        self._once = once
        self._stale_seconds = stale_seconds
        self._renew_seconds = renew_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._counter = -1
        self._lost: LeaseLost | None = None
        self._may_delete = True
        self.taken_from: LeaseHolder | None = None
        self._place = (objects.repository_id, prefix)
        self._take()
        _held.add(self._place)
        self._thread = threading.Thread(target=self._renew_on, name=f"lease {prefix}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Return when the lease is still ours, renewed this moment.

        Raises:
            LeaseLost: somebody took it over; nothing further may be written.
        """
        with self._lock:
            self._renew()

    def release(self) -> None:
        """Give the lease up; others see it at once. Harmless when lost or released already."""
        self._stop.set()
        _held.discard(self._place)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self._lock:
            if self._lost is None and self._counter >= 0:
                with contextlib.suppress(LeaseLost):
                    self._advance(released=True)
                    if self._once:
                        self._forget()
                self._counter = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except HvpsError as err:
            if error is None:
                raise
            logger.warning("%s was not released: %s", self.what, err)

    # -- taking ---------------------------------------------------------------------------------------

    def _take(self) -> None:
        for _ in range(MAX_RACES):
            highest = self._highest()
            if highest >= 0:
                self._wait_for(highest)
            try:
                self._create(highest + 1, released=False)
            except ObjectExists:
                continue
            if self._highest() == highest + 1:
                self._counter = highest + 1
                self._sweep()
                return
        raise self._locked(self._read(self._highest()))

    def _wait_for(self, counter: int) -> None:
        """Return when the holder of ``counter`` let go or is dead; raise when it is alive."""
        record = self._read(counter)
        if record is not None:
            if record.released:
                return
            if is_gone(self._objects, self.prefix, record.holder):
                logger.info("%s: %s is gone; taken over", self.what, record.holder.describe())
                self.taken_from = record.holder
                return
            if is_here(record.holder):
                raise self._locked(record)
        watched_from = self._clock()
        while self._clock() - watched_from < self._stale_seconds:
            self._stop.wait(min(POLL_SECONDS, self._stale_seconds / 4))
            if self._highest() != counter:
                latest = self._read(self._highest())
                if latest is not None and latest.released:
                    return
                raise self._locked(latest or record)
        logger.warning(
            "%s: no sign of its holder for %.0f s; taken over from %s",
            self.what,
            self._stale_seconds,
            "nobody known" if record is None else record.holder.describe(),
        )
        self.taken_from = None if record is None else record.holder

    def _locked(self, record: LeaseRecord | None) -> RepositoryLocked:
        name = "somebody" if record is None else record.holder.describe()
        return RepositoryLocked(self._objects.store.url, self.what, name)

    # -- keeping --------------------------------------------------------------------------------------

    def _renew_on(self) -> None:
        while not self._stop.wait(self._renew_seconds):
            try:
                self.check()
            except LeaseLost as err:
                logger.warning("%s", err)
                return
            except HvpsError as err:
                # The store may come back; check() decides whether the run may go on.
                logger.warning("renewing %s: %s", self.what, err)

    def _renew(self) -> None:
        if self._lost is not None:
            raise self._lost
        if self._counter < 0:
            raise LeaseLost(self._objects.store.url, self.what, "nobody: it was released")
        self._advance(released=False)

    def _advance(self, *, released: bool) -> None:
        # The next counter is ours to create unless somebody took over. Should a taker's objects have been
        # swept meanwhile, ours is created all the same; the highest one, which is never deleted, tells.
        try:
            self._create(self._counter + 1, released=released)
        except ObjectExists:
            self._lose()
        if self._highest() != self._counter + 1:
            with contextlib.suppress(HvpsError):
                self._objects.store.delete(counted(self.prefix, self._counter + 1))
            self._lose()
        self._counter += 1
        self._sweep()

    def _lose(self) -> None:
        record = self._read(self._highest())
        name = "somebody" if record is None else record.holder.describe()
        self._lost = LeaseLost(self._objects.store.url, self.what, name)
        raise self._lost

    # -- objects --------------------------------------------------------------------------------------

    def _create(self, counter: int, *, released: bool) -> None:
        record = LeaseRecord(counter, self.holder, datetime.now(UTC), released)
        self._objects.write(counted(self.prefix, counter), Kind.LEASE, encode_record(record))

    def _highest(self) -> int:
        return max((counter_of(info.name) for info in self._objects.list(self.prefix)), default=-1)

    def _read(self, counter: int) -> LeaseRecord | None:
        return read_record(self._objects, self.prefix, counter)

    def _forget(self) -> None:
        # Storage that grants no delete keeps the released record, which says the same.
        with contextlib.suppress(HvpsError):
            self._objects.store.delete(counted(self.prefix, self._counter))

    def _sweep(self) -> None:
        if not self._may_delete:
            return
        for info in list(self._objects.list(self.prefix)):
            if counter_of(info.name) < self._counter:
                try:
                    self._objects.store.delete(info.name)
                except Unreachable:
                    return  # the next renewal tries again
                except StoreError:
                    # Storage that grants no delete keeps every record; asking for all of them at each
                    # renewal of a long run would take longer than the renewals are apart.
                    self._may_delete = False
                    return


__all__ = ["Lease", "current_holder"]
