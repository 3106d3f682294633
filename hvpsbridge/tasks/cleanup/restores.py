"""Restores onto hosts in the ledger: what each is about to make, and what killed ones left.

They have one ledger in each repository, and not that of the VM: a restore may run beside a backup of its VM.
The lease of a restore, which has the id of its run, shows whether it is still at work.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

from hvpsbridge.contract.results import VmInfo
from hvpsbridge.errors import OperationFailed, RepositoryLocked
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind, RestoreIntent
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.ledger import Ledger
from hvpsbridge.tasks.cleanup.planned_vms import remove_planned, unclear_planned

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenRestore:
    """A restore that did not say that it ended."""

    run_id: UUID
    mark: str
    intent: RestoreIntent


@dataclass(frozen=True, slots=True)
class SweptRestores:
    """What was done and what is left, one line each.

    Attributes:
        open: restores that are at work, or could not be removed.
    """

    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    open: tuple[OpenRestore, ...] = ()


class RestoreJournal:
    """Writes the ledger of restores for one of them, and holds its lease."""

    def __init__(self, repository: Repository, run_id: UUID, host: str) -> None:
        self._ledger = restores_ledger(repository)
        self._vm_id = _ledger_id(repository)
        self._run_id = run_id
        self._host = host
        self.lease: Lease | None = repository.lease(run_id, current_holder(run_id))

    def intended(self, mark: str, intent: RestoreIntent) -> None:
        """All of this is about to be made. Durable when this returns."""
        self._write(LedgerKind.RESTORE_INTENDED, mark=mark, note=intent.text())

    def settled(self, note: str) -> None:
        """It is finished, or nothing is left of it."""
        self._write(LedgerKind.SETTLED, note=note)
        self.release()

    def release(self) -> None:
        """Give the lease back."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None

    def _write(self, kind: LedgerKind, *, mark: str | None = None, note: str = "") -> None:
        self._ledger.append(
            LedgerEntry(
                kind=kind,
                run_id=self._run_id,
                vm_id=self._vm_id,
                host=self._host,
                at=datetime.now(UTC),
                mark=mark,
                note=note,
            )
        )


def open_restores(repository: Repository, machine: str) -> Iterator[OpenRestore]:
    """Restores onto a host that did not say that they ended, oldest first.

    Args:
        repository: with the ledger.
        machine: name of the host as it calls itself.
    """
    for entry in restores_ledger(repository).open_entries():
        if entry.kind is not LedgerKind.RESTORE_INTENDED:
            continue
        try:
            intent = RestoreIntent.parse(entry.note)
        except ValueError:
            logger.error("an entry of run %s in the ledger of restores cannot be read", entry.run_id)
            continue
        if intent.machine.casefold() == machine.casefold():
            yield OpenRestore(entry.run_id, entry.mark or "", intent)


def sweep_restores(
    host: HyperVHost,
    repository: Repository,
    machine: str,
    *,
    ours: Collection[str] = (),
    foreign: Collection[str] = (),
) -> SweptRestores:
    """Remove what killed restores left on a host. Those that are at work are left alone.

    A VM that was finished stays: its notes are no longer the mark.

    Args:
        host: the host.
        repository: with the ledger.
        machine: name of the host as it calls itself.
        ours: ids of unclear planned VMs that, as a user says, restores made.
        foreign: ids of those that they did not.

    Raises:
        HostError: the host cannot be asked.
        RepositoryError: the ledger cannot be read or written.
    """
    done: list[str] = []
    left: list[str] = []
    still: list[OpenRestore] = []
    for one in open_restores(repository, machine):
        try:
            journal = RestoreJournal(repository, one.run_id, host.name)
        except RepositoryLocked:
            still.append(one)
            continue
        try:
            vms, _ = host.list_vms()
            there = next((vm for vm in vms if _is_of(vm, one.intent)), None)
            try:
                finished = there is not None and not _removed(host, there, one)
            except OperationFailed as err:
                left.append(f"VM {one.intent.name!r} of restore {one.run_id}: {err}")
                still.append(one)
                continue
            unclear = () if finished else _sweep_planned(host, one, ours, foreign, done)
            if not finished:
                removed = host.restoring.remove_files(one.intent.files, one.intent.folders).removed
                done.append(f"removed what restore {one.run_id} left: {', '.join(removed) or 'nothing'}")
            elif one.intent.config_files:
                host.restoring.remove_files(one.intent.config_files, one.intent.folders)
            if unclear:
                left += unclear
                still.append(one)
                continue
            journal.settled("finished" if finished else "swept")
        finally:
            journal.release()
    return SweptRestores(tuple(done), tuple(left), tuple(still))


def _sweep_planned(
    host: HyperVHost, one: OpenRestore, ours: Collection[str], foreign: Collection[str], done: list[str]
) -> tuple[str, ...]:
    """Remove planned VMs of a restore; those that may be of it, and that no user has decided about."""
    if not one.intent.config_files:
        return ()
    for planned in remove_planned(host, one.mark):
        done.append(f"removed planned VM {planned.name!r} of restore {one.run_id}")
    lines = []
    for planned in unclear_planned(host.restoring.planned_vms(), one.mark, one.intent):
        identity = str(planned.vm_id)
        if identity in ours:
            host.restoring.remove_planned_vm(planned.vm_id, planned.name, planned.notes)
            done.append(f"removed planned VM {planned.name!r} of restore {one.run_id}")
        elif identity not in foreign:
            text = f"cannot tell whether planned VM {planned.name!r} ({identity}) was made by restore"
            lines.append(f"{text} {one.run_id}; see --ours and --not-ours")
    return tuple(lines)


def _is_of(vm: VmInfo, intent: RestoreIntent) -> bool:
    same = vm.configuration_path.rstrip("\\").casefold() == intent.place.casefold()
    return same and vm.name.casefold() == intent.name.casefold()


def _removed(host: HyperVHost, vm: VmInfo, one: OpenRestore) -> bool:
    """Remove a VM that is not finished; false if it is.

    Raises:
        OperationFailed: it cannot be removed.
    """
    try:
        is_drill = bool(one.intent.expires)
        host.restoring.remove_vm(vm.vm_id, one.intent.place, one.mark, turn_off=is_drill)
    except OperationFailed as err:
        if err.error_id == "Hvps.BadRequest":
            return False
        raise
    return True


def _ledger_id(repository: Repository) -> UUID:
    return uuid5(repository.repository_id, "restores")


def restores_ledger(repository: Repository) -> Ledger:
    """The ledger of all restores onto hosts, copies and those in place."""
    return repository.ledger(_ledger_id(repository))
