"""The task ``backup``: one recovery point of a VM, on the host that has it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hvpsbridge.errors import HostError, HvpsError
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.results import BACKUP_TABLES, BackupResult, backup_lines
from hvpsbridge.tasks.backup.vm import check, run
from hvpsbridge.tasks.policy import BackupOptions
from hvpsbridge.tasks.task import Task, TaskContext

# How often a backup is started again because its VM moved to another host meanwhile.
MAX_MOVES = 3


def back_up(context: TaskContext, options: BackupOptions) -> BackupResult:
    """Back a VM up on the host that has it, and again on its new host when it moved meanwhile."""
    vm_id = context.vm.vm_id
    assert vm_id is not None
    warnings: tuple[str, ...] = ()
    for _ in range(MAX_MOVES):
        with context.hosts.connect_owner(vm_id, context.vm.host) as host:
            result = _back_up_on(host, vm_id, context, options)
            name = host.name
        # What an earlier attempt could not finish is worth knowing though this one ends well.
        warnings = tuple(dict.fromkeys((*warnings, *result.warnings)))
        result = replace(result, warnings=warnings)
        if (
            context.check
            or result.point_id is not None
            or context.cancel.requested
            or not isinstance(result.error, HostError)
        ):
            break
        try:
            with context.hosts.connect_owner(vm_id, name) as owner:
                if owner.name == name:
                    break
        except HvpsError:
            break
        context.observer.noted(context.vm, f"moved from {name} to {owner.name}: starting again there")
    return result


def _back_up_on(host: HyperVHost, vm_id: UUID, context: TaskContext, options: BackupOptions) -> BackupResult:
    backup = BackupContext(
        host=host,
        vm_id=vm_id,
        vm_name=host.vm(vm_id).name,
        options=options,
        repository=context.repository,
        run_id=context.run_id,
        observer=context.observer,
        cancel=context.cancel,
        budget=context.budget,
        connect=lambda: context.hosts.connect_owner(vm_id, context.vm.host),
        connect_to=context.hosts.connect_to,
        is_without=context.hosts.is_without,
        shared=context.shared,
        named=context.named,
        on_left=context.leftovers.update,
    )
    return check(backup) if context.check else run(backup)


TASK = Task(
    name="backup",
    summary="make a recovery point",
    options=BackupOptions,
    run=back_up,
    result=BackupResult,
    tables=BACKUP_TABLES,
    lines=backup_lines,
    needs_host=True,
    plans=True,
)
