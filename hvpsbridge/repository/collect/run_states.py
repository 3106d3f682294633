"""Which runs a collect has to wait for: those that are alive, or may be."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from hvpsbridge.repository import lease as leases
from hvpsbridge.repository.holder import is_here
from hvpsbridge.repository.layout import RUNS
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.runs import changes, highest_counters, run_in

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunStates:
    """Run objects at one time.

    Attributes:
        alive: runs that are in progress, or may be: they are on another machine.
        dead: runs whose process ended without releasing the run object.
        ended: runs that were released, but whose run object is still there.
        old: those of ``alive`` whose writers opened the repository before it was upgraded, so that they read
            no doomed lists; described for people.
        holders: who does the runs of ``alive`` whose run objects can be read; described for people.
    """

    alive: frozenset[UUID]
    dead: frozenset[UUID]
    ended: frozenset[UUID]
    old: tuple[str, ...]
    holders: Mapping[UUID, str] = field(default_factory=dict)


def run_states(objects: Objects, own: UUID | None) -> RunStates:
    """The runs that there are, without ``own``."""
    alive: set[UUID] = set()
    dead: set[UUID] = set()
    ended: set[UUID] = set()
    old: list[str] = []
    holders: dict[UUID, str] = {}
    for prefix, counter in highest_counters(objects).items():
        run = run_in(prefix)
        if run == own:
            continue
        record = leases.read_record(objects, prefix, counter)
        if record is not None and record.released:
            ended.add(run)
            continue
        if record is not None and leases.is_gone(objects, prefix, record.holder):
            dead.add(run)
            continue
        alive.add(run)
        if record is not None:
            holders[run] = record.holder.describe()
        if record is not None and record.format < objects.format:
            old.append(record.holder.describe())
    return RunStates(frozenset(alive), frozenset(dead), frozenset(ended), tuple(old), holders)


def with_stale(objects: Objects, states: RunStates, runs: frozenset[UUID]) -> RunStates:
    """``states``, in which those of ``runs`` are dead whose run objects do not change while they are watched.

    This takes up to ``lease.LEASE_STALE_SECONDS`` if there are any on other machines, and no time otherwise.
    """
    highest = highest_counters(objects) if runs else {}
    watched = {
        prefix: counter
        for prefix, counter in highest.items()
        if run_in(prefix) in runs and not _is_on_this_machine(objects, prefix, counter)
    }
    for _ in changes(objects, watched, (RUNS,), stale_seconds=leases.LEASE_STALE_SECONDS):
        pass
    stale = frozenset(map(run_in, watched))
    return replace(states, alive=states.alive - stale, dead=states.dead | stale)


def _is_on_this_machine(objects: Objects, prefix: str, counter: int) -> bool:
    record = leases.read_record(objects, prefix, counter)
    return record is not None and is_here(record.holder)


def forget_runs(objects: Objects, runs: Iterable[UUID]) -> None:
    """Delete the run objects of runs that have a fence or were released."""
    for run in runs:
        for info in list(objects.list(f"{RUNS}/{run.hex}")):
            objects.try_delete(info.name, "of a run that has ended")
