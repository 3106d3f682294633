"""Runs that write to a repository: each has a run object, a lease that is used once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4, uuid5

from hvpsbridge.errors import RepositoryLocked
from hvpsbridge.formats.lease import LeaseRecord
from hvpsbridge.repository import lease as leases
from hvpsbridge.repository.holder import current_holder, is_here
from hvpsbridge.repository.layout import LEASES, RUNS, counter_of
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)


def run_in(prefix: str) -> UUID:
    """The run object whose records have this prefix."""
    return UUID(prefix.rsplit("/", 1)[1])


def start_run(objects: Objects, run_id: UUID) -> Lease:
    """Create the run object of a writer, or of work that excludes writers; releasing it ends the run."""
    return Lease(objects, f"{RUNS}/{uuid4().hex}", current_holder(run_id), f"run {run_id}", once=True)


def collect_lease(objects: Objects, run_id: UUID) -> Lease:
    """The lease of a collect, and of other work beside which none may begin.

    Raises:
        RepositoryLocked: another process holds it.
    """
    place = uuid5(objects.repository_id, "collect")
    prefix = f"{LEASES}/{objects.sealer.opaque(LEASES, place)}"
    return Lease(objects, prefix, current_holder(run_id), "collect")


@contextlib.contextmanager
def run_alone(objects: Objects, run_id: UUID) -> Iterator[Lease]:
    """A run that begins only when there is no other one, and beside which no collect begins.

    Raises:
        RepositoryLocked: another run is alive.
    """
    with contextlib.ExitStack() as stack:
        if objects.format > 1:
            stack.enter_context(collect_lease(objects, run_id))
        own = stack.enter_context(start_run(objects, run_id))
        refuse_other_runs(objects, own)
        yield own


def refuse_other_runs(
    objects: Objects,
    own: Lease,
    *,
    folders: tuple[str, ...] = (RUNS,),
    stale_seconds: float = leases.LEASE_STALE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Check that no run other than ``own`` is in progress.

    A run on another machine is dead when its run object does not change for ``stale_seconds``.

    Args:
        objects: the repository.
        own: the run of the caller.
        folders: where run objects, or leases, are looked for.
        stale_seconds, clock: for tests.

    Raises:
        RepositoryLocked: another run is alive.
    """
    watched: dict[str, int] = {}
    for prefix, counter in highest_counters(objects, folders).items():
        record = leases.read_record(objects, prefix, counter)
        if prefix == own.prefix or (record is not None and _has_ended(objects, prefix, record)):
            continue
        if record is not None and is_here(record.holder):
            raise _alive(objects, record)
        watched[prefix] = counter
    for prefix, now in changes(objects, watched, folders, stale_seconds=stale_seconds, clock=clock):
        record = None if now is None else leases.read_record(objects, prefix, now)
        if now is not None and (record is None or not record.released):
            raise _alive(objects, record)


def changes(
    objects: Objects,
    watched: dict[str, int],
    folders: tuple[str, ...],
    *,
    stale_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[str, int | None]]:
    """Watch run objects or leases for ``stale_seconds``, or until each has changed.

    Yields each that changes, once: its prefix, and its counter now; None if it is gone.

    Args:
        objects: the repository.
        watched: counters by prefix; those that change are removed, and what is left in the end is stale.
        folders: what :func:`highest_counters` was asked for.
        stale_seconds, clock: how long.
    """
    if watched:
        logger.info("waiting to see whether %d runs on other machines are still alive", len(watched))
    since = clock()
    while watched and clock() - since < stale_seconds:
        time.sleep(min(leases.POLL_SECONDS, stale_seconds / 4))
        now = highest_counters(objects, folders)
        for prefix, counter in list(watched.items()):
            if now.get(prefix) != counter:
                del watched[prefix]
                yield prefix, now.get(prefix)


def _has_ended(objects: Objects, prefix: str, record: LeaseRecord) -> bool:
    return record.released or leases.is_gone(objects, prefix, record.holder)


def _alive(objects: Objects, record: LeaseRecord | None) -> RepositoryLocked:
    name = "an unknown process" if record is None else record.holder.describe()
    return RepositoryLocked(objects.store.url, "the repository", name)


def highest_counters(objects: Objects, folders: tuple[str, ...] = (RUNS,)) -> dict[str, int]:
    """The highest counter of each run or lease, by prefix."""
    found: dict[str, int] = {}
    for info in (info for folder in folders for info in objects.list(folder)):
        prefix = info.name.rsplit("/", 1)[0]
        found[prefix] = max(found.get(prefix, -1), counter_of(info.name))
    return found
