"""Leases in a store that has nothing better than create-if-absent (see ``formats.lease``).

The highest counter under a prefix is valid (one far ahead only if its record can be read), and the process
that creates the next one holds the lease. Times are only compared on the clock of the observer. A holder on
this machine (with the same boot id and pid namespace) is dead when its process has ended; a suspended process
is not dead. A holder elsewhere is dead when its counter has not changed for :data:`LEASE_STALE_SECONDS` while
this process watched. If it was only suspended, it has lost its lease, and the next :meth:`Lease.check` fails,
since the counter never decreases.
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
from hvpsbridge.repository.holder import is_here, is_provably_dead
from hvpsbridge.repository.layout import FAR, MAX_COUNTER, counted, counter_of
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stores.retry import Unreachable

logger = logging.getLogger(__name__)

LEASE_RENEW_SECONDS = 20.0
# Six missed renewals. A store that fails for longer is not of use anyway.
LEASE_STALE_SECONDS = 120.0
POLL_SECONDS = 1.0
# How often taking a lease may fail because others create the next counter first.
MAX_RACES = 8
# Hex digits of the number of counters that are skipped at most where one is blocked.
STEP_DIGITS = 5
# Leases that this process holds, by repository, its place, and prefix. A record of this process that is not
# among them is of a lease that could not be released because the store failed, so it is not in use.
_held: set[tuple[UUID, str, str]] = set()


def _place_of(objects: Objects, prefix: str) -> tuple[UUID, str, str]:
    return objects.repository_id, objects.store.place, prefix


def read_record(objects: Objects, prefix: str, counter: int) -> LeaseRecord | None:
    """The record with this counter; None when it is gone or cannot be read.

    Raises:
        NewerObject: a newer hvps wrote it.
    """
    try:
        return objects.read_record(LeaseRecord, counted(prefix, counter), Kind.LEASE)
    except (ObjectMissing, Damaged):
        return None


def is_gone(objects: Objects, prefix: str, holder: LeaseHolder) -> bool:
    """Whether it can be proved that the lease of ``holder`` is not in use any more."""
    mine = is_here(holder) and holder.process_id == os.getpid()
    given_up = mine and _place_of(objects, prefix) not in _held
    return given_up or is_provably_dead(holder)


class Lease:
    """Takes a lease and holds it until it is released; a thread renews it.

    Args:
        objects: where the lease is.
        prefix: of its records.
        holder: this process, see ``holder.current_holder``.
        what: what the lease is on, for messages.
        once: whether the prefix is never used again (that of a run), so its last record can be deleted.
        stale_seconds, renew_seconds, clock: for tests.

    Raises:
        RepositoryLocked: another process holds it.
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
        # Counters far ahead (``layout.FAR``) of objects that are not records.
        self._foreign: set[int] = set()
        # Counters whose names are taken by what no listing shows: an empty object, a link, a folder.
        self._blocked: set[int] = set()
        self._lost: LeaseLost | None = None
        self._may_delete = True
        self.taken_from: LeaseHolder | None = None
        self._place = _place_of(objects, prefix)
        self._take()
        _held.add(self._place)
        self._thread = threading.Thread(target=self._renew_on, name=f"lease {prefix}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Renew the lease, which proves that it is still held.

        Raises:
            LeaseLost: another process took it over; nothing more may be written.
        """
        with self._lock:
            self._renew()

    def release(self) -> None:
        """Release the lease, visibly to others. Does nothing when it is lost or released already."""
        self._stop.set()
        _held.discard(self._place)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self._lock:
            if self._lost is None and self._counter >= 0:
                with contextlib.suppress(LeaseLost):
                    self._advance(released=True)
                    if self._once:
                        self._delete_last()
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
            logger.warning("cannot release the lease on %s: %s", self.what, err)

    # -- taking ---------------------------------------------------------------------------------------

    def _take(self) -> None:
        for _ in range(MAX_RACES):
            highest = self._highest()
            if highest >= 0:
                self._wait_for(highest)
            counter = self._following(highest)
            try:
                self._create(counter, released=False)
            except ObjectExists:
                self._wait_for_name(counter)
                continue
            if self._highest() == counter:
                self._counter = counter
                self._sweep()
                return
        raise self._locked(self._read(self._highest()))

    def _wait_for(self, counter: int) -> None:
        """Return when the holder of ``counter`` has released the lease or is dead; raise when it is alive."""
        record = self._read(counter)
        if record is not None:
            if record.released:
                return
            if is_gone(self._objects, self.prefix, record.holder):
                logger.info(
                    "%s: taking over the lease of %s, which has ended", self.what, record.holder.describe()
                )
                self.taken_from = record.holder
                return
            if is_here(record.holder):
                raise self._locked(record)
        watched_from = self._clock()
        logger.warning(
            "%s is locked by %s; waiting up to %.0f s to see whether the lock is still renewed",
            self.what,
            _name_of(record),
            self._stale_seconds,
        )
        while self._clock() - watched_from < self._stale_seconds:
            self._stop.wait(min(POLL_SECONDS, self._stale_seconds / 4))
            if self._highest() != counter:
                latest = self._read(self._highest())
                if latest is not None and latest.released:
                    return
                raise self._locked(latest or record)
        logger.warning(
            "%s: taking over the lease of %s, which was not renewed for %.0f s",
            self.what,
            _name_of(record),
            self._stale_seconds,
        )
        self.taken_from = None if record is None else record.holder

    def _wait_for_name(self, counter: int) -> None:
        """Return when the record with this counter is listed, or when it was not for so long that no process
        can be naming it."""
        watched_from = self._clock()
        while self._highest() < counter:
            if self._clock() - watched_from >= self._stale_seconds:
                name = counted(self.prefix, counter)
                logger.warning("%s: passing over %s, which is taken but not a record", self.what, name)
                self._blocked.add(counter)
                return
            self._stop.wait(min(POLL_SECONDS, self._stale_seconds / 4))

    def _locked(self, record: LeaseRecord | None) -> RepositoryLocked:
        return RepositoryLocked(self._objects.store.url, self.what, _name_of(record))

    # -- keeping --------------------------------------------------------------------------------------

    def _renew_on(self) -> None:
        while not self._stop.wait(self._renew_seconds):
            try:
                self.check()
            except LeaseLost as err:
                logger.warning("%s", err)
                return
            except Exception as err:  # noqa: BLE001 - a lease that is not renewed is lost
                # The store may recover. If it does not, check() stops the run.
                logger.warning("cannot renew the lease on %s: %s", self.what, err)

    def _renew(self) -> None:
        if self._lost is not None:
            raise self._lost
        if self._counter < 0:
            raise LeaseLost(self._objects.store.url, self.what, "no one: it was released")
        self._advance(released=False)

    def _advance(self, *, released: bool) -> None:
        # Creating the next counter fails if another process took over. If the first records of that process
        # were deleted already, it succeeds, but the highest one, which is never deleted, is not this one.
        for _ in range(MAX_RACES):
            counter = self._following(self._counter)
            try:
                self._create(counter, released=released)
                created = True
            except ObjectExists:
                created = False
            highest = self._highest()
            if created and highest == counter:
                self._counter = counter
                self._sweep()
                return
            if not created and highest < counter:
                # If a process was about to take over under this name, it finds the record that follows.
                self._blocked.add(counter)
                continue
            if self._read(highest) is not None:
                break
            # Not the record of a process that took over, but what somebody added. If it is a record that
            # rotted, the process that wrote it now loses the lease.
            self._counter = max(highest, counter)
        if created:
            with contextlib.suppress(HvpsError):
                self._objects.store.delete(counted(self.prefix, counter))
        self._lose()

    def _lose(self) -> None:
        record = self._read(self._highest())
        self._lost = LeaseLost(self._objects.store.url, self.what, _name_of(record))
        raise self._lost

    # -- objects --------------------------------------------------------------------------------------

    def _create(self, counter: int, *, released: bool) -> None:
        record = LeaseRecord(counter, self.holder, datetime.now(UTC), released, self._objects.format)
        self._objects.write_record(counted(self.prefix, counter), Kind.LEASE, record)

    def _highest(self) -> int:
        counters = sorted((counter_of(info.name) for info in self._objects.list(self.prefix)), reverse=True)
        return next((counter for counter in counters if counter < FAR or self._is_record(counter)), -1)

    def _is_record(self, counter: int) -> bool:
        """Whether a counter that is far ahead is one of a lease, and not of an object that somebody added."""
        if counter in self._foreign:
            return False
        if self._read(counter) is None:
            self._foreign.add(counter)
            return False
        return True

    def _following(self, counter: int) -> int:
        following = counter + 1
        while following in self._foreign or following in self._blocked:
            following += self._step_from(following) if following in self._blocked else 1
        if following > MAX_COUNTER:  # forged, in a plain repository
            raise self._locked(None)
        return following

    def _step_from(self, blocked: int) -> int:
        """How far to go on from a counter that is blocked.

        The same for all processes, so that only one creates the next record. Those without the key cannot
        know it, or they could block that one, too.
        """
        digest = self._objects.sealer.opaque(counted(self.prefix, blocked), self._objects.repository_id)
        return int(digest[:STEP_DIGITS], 16) + 1

    def _read(self, counter: int) -> LeaseRecord | None:
        return read_record(self._objects, self.prefix, counter)

    def _delete_last(self) -> None:
        # If the store refuses this, the record says that the lease is released.
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
                    # An append-only store keeps all records. Trying to delete all of them at each renewal
                    # of a long run would take longer than the time between renewals.
                    self._may_delete = False
                    return


def _name_of(record: LeaseRecord | None) -> str:
    return "an unknown process" if record is None else record.holder.describe()
