"""Copies that a restore in place kept: puts them back into the disks of the VM, or removes them."""

from __future__ import annotations

import ntpath
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.contract.results import VmInfo, VmState
from hvpsbridge.errors import ConfigurationError
from hvpsbridge.formats.in_place import Stage
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.tasks.planning.restored import record_restored
from hvpsbridge.tasks.restore.in_place_checks import checkpoint_problems
from hvpsbridge.tasks.restore.in_place_disk import HostDisk
from hvpsbridge.tasks.restore.in_place_ledger import InPlaceLedger, end_restore, in_place_of
from hvpsbridge.tasks.restore.in_place_role import role_problems, take_offline, with_role
from hvpsbridge.tasks.restore.in_place_tracking import forget_tracking


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done about copies, and what is left, one line each."""

    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def undo_in_place(
    host: HyperVHost, repository: Repository, run_id: UUID, vm: VmInfo, pause: Callable[[float], bool]
) -> tuple[str, ...]:
    """Put back what the disks of a VM were before a restore in place, finished or not; lines about it.

    An undo that was killed is finished by the next one.

    Args:
        host: the host.
        repository: whose ledger names the copies.
        run_id: of this command.
        vm: the VM; off.
        pause: waits for that many seconds; false ends the waiting.

    Raises:
        ConfigurationError: no copies are kept, or the VM is not off or has checkpoints.
        RepositoryLocked: a backup or a restore is working on the VM.
        HostNotClean: something of an earlier backup is left, so nothing was changed.
        HostError: the host failed; the undo can be done again.
    """
    found = in_place_of(repository, host.host_info().name, vm.vm_id)
    where = f"undo on {host.name}"
    if found is None:
        raise ConfigurationError(where, f"no restore into VM {vm.name} is known here, or its copies are gone")
    with repository.lease(vm.vm_id, current_holder(run_id)):
        ledger, restore = InPlaceLedger(repository, host.name, found.run_id), found.restore
        if restore.stage is Stage.COPYING:
            lines = end_restore(host, ledger, restore)
            what = f"the restore into VM {vm.name} had not changed its disks; its copies were removed"
            return (what, *lines)
        problems = [] if vm.state is VmState.OFF else [f"VM {vm.name} is {vm.state}; shut it down first"]
        problems += checkpoint_problems(repository, host.checkpoints(vm.vm_id))
        problems += role_problems(host, vm)
        if problems:
            raise ConfigurationError(where, "; ".join(problems))
        # Files are removed only after all were put back.
        undo = [disk.undo for disk in restore.disks]
        there = set(host.restoring.folder(ntpath.dirname(undo[0]), undo).found)
        copies = [disk for disk in restore.disks if disk.undo in there]
        if restore.stage is not Stage.UNDOING and len(copies) < len(restore.disks):
            lost = ", ".join(disk.undo for disk in restore.disks if disk not in copies)
            raise ConfigurationError(where, f"copies are gone: {lost}; restore a point instead")
        restore = ledger.reached(with_role(host, vm, restore), Stage.UNDOING)
        take_offline(host, vm)
        record_restored(
            repository,
            run_id=run_id,
            vm_id=vm.vm_id,
            host=host.name,
            point_id=None,
            source_vm_id=vm.vm_id,
            slots=(disk.slot for disk in restore.disks),
        )
        lines = forget_tracking(host, repository, run_id, restore, pause)
        for names in restore.disks:
            HostDisk(host, names).hide()
        for names in copies:
            # Over the file that is there, which keeps its access rights.
            host.restoring.copy_file(names.undo, names.written, overwrite=True)
        for names in restore.disks:
            HostDisk(host, names).show()
        role = end_restore(host, ledger, restore)
        slots = ", ".join(disk.slot for disk in restore.disks)
        state = "" if role else "; it is off"
        return (
            *lines,
            *role,
            f"VM {vm.name}: disks {slots} are what they were before the restore{state}",
        )


def forget_in_place(host: HyperVHost, repository: Repository, run_id: UUID, vm: VmInfo) -> Forgotten:
    """Remove the copies of a finished restore in place.

    Raises:
        RepositoryLocked: a backup or a restore is working on the VM.
        HostError: the host cannot remove them.
    """
    found = in_place_of(repository, host.host_info().name, vm.vm_id)
    if found is None:
        return Forgotten()
    if found.restore.stage in (Stage.WRITING, Stage.UNDOING):
        return Forgotten(left=("a restore into its disks did not end; do it again, or `hvps host undo`",))
    with repository.lease(vm.vm_id, current_holder(run_id)):
        lines = end_restore(host, InPlaceLedger(repository, host.name, found.run_id), found.restore)
    return Forgotten(done=(*(f"removed {disk.undo}" for disk in found.restore.disks), *lines))
