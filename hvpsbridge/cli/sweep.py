"""``hvps host sweep`` and ``hvps host forget``: remove what hvps made on a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.confirm import confirmed
from hvpsbridge.cli.connect import connect
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    connection_options,
    json_option,
    repository_options,
    repository_spec,
)
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.contract.restoring import PlannedVm
from hvpsbridge.contract.results import VmInfo
from hvpsbridge.errors import ExitCode, HostError, HostNotClean, HvpsError, Interrupted, UsageError, worst
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.report.documents.hosts import host_swept
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.cleanup.leftovers import Owner, VmObjects, find_objects, unknown_ids
from hvpsbridge.tasks.cleanup.planned_vms import unclear_planned
from hvpsbridge.tasks.cleanup.restores import OpenRestore, SweptRestores, open_restores, sweep_restores
from hvpsbridge.tasks.cleanup.sweep import SweepContext, SweepResult, forget_vm, sweep_vm
from hvpsbridge.tasks.hosts import host_error
from hvpsbridge.tasks.planning.claims import Candidate
from hvpsbridge.tasks.planning.select import VmSelection, choose_vms
from hvpsbridge.tasks.policy import BackupLimits
from hvpsbridge.tasks.restore.in_place_ledger import open_in_place
from hvpsbridge.tasks.restore.undo import forget_in_place


def _removal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that remove something."""
    for option in (
        json_option,
        repository_options,
        connection_options,
        click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation."),
        click.option("--dry-run", is_flag=True, help="Show what would be done without changing anything."),
    ):
        command = option(command)
    return command


@click.command("sweep", short_help="Clean up what earlier runs left on a host.")
@click.argument("host")
@click.argument("vms", metavar="[VM]...", nargs=-1)
@click.option("--ours", multiple=True, metavar="ID", help="Treat this unclear object as made by hvps.")
@click.option("--not-ours", multiple=True, metavar="ID", help="Leave this unclear object alone from now on.")
@_removal_options
@click.pass_obj
def sweep(
    invocation: Invocation,
    /,
    host: str,
    vms: tuple[str, ...],
    ours: tuple[str, ...],
    not_ours: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """List the checkpoints, reference points and shells on HOST that belong to the repository, and what
    restores left there, such as planned VMs, and clean up what earlier runs left.

    Looks at all VMs of the host, or at the given ones. Recovery points are not affected, and the next backup
    stays an increment: the reference point it starts from is kept, and a checkpoint of the newest point is
    converted. Objects whose origin is unclear are listed and left alone until you decide with --ours or
    --not-ours. Objects of other products are never touched. VMs that are being backed up are skipped.
    """
    return _run(
        invocation,
        host,
        vms,
        options,
        _SweepOptions("sweep", dry_run, yes, as_json, frozenset(ours), frozenset(not_ours)),
        lambda there: there.needs_sweep,
        sweep_vm,
    )


@click.command("forget", short_help="Remove everything that hvps made for VMs.")
@click.argument("host")
@click.argument("vms", metavar="VM...", nargs=-1, required=True)
@_removal_options
@click.pass_obj
def forget(
    invocation: Invocation,
    /,
    host: str,
    vms: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Remove everything that hvps made for VMs on HOST with this repository, including reference points.

    Use it for VMs that will not be backed up to this repository any more. Recovery points are kept. If such
    a VM is backed up again, all its disks are compared. Copies that a restore into the disks of a VM kept are
    removed, too.
    """
    return _run(
        invocation,
        host,
        vms,
        options,
        _SweepOptions("forget", dry_run, yes, as_json),
        lambda there: there.needs_sweep or bool(there.of(Owner.NEEDED)),
        forget_vm,
    )


@dataclass(frozen=True, slots=True)
class _SweepOptions:
    """Options of sweep or forget.

    Attributes:
        ours: ids of unclear objects that hvps made.
        not_ours: ids of unclear objects that hvps did not make.
    """

    name: Literal["sweep", "forget"]
    dry_run: bool
    yes: bool
    as_json: bool
    ours: frozenset[str] = frozenset()
    not_ours: frozenset[str] = frozenset()


def _run(
    invocation: Invocation,
    host: str,
    vms: tuple[str, ...],
    options: dict[str, Any],
    chosen: _SweepOptions,
    concerns: Callable[[VmObjects], bool],
    remove: Callable[[SweepContext, VmObjects], SweepResult],
) -> ExitCode:
    cancel = Cancellation()
    with ExitStack() as stack:
        with interrupting():
            repository = compose.repository(repository_spec(options, invocation), invocation)
            connected = stack.enter_context(connect(host, options, invocation))
            listed, unreadable = connected.list_vms()
            for problem in unreadable:
                console.note(f"hvps: {problem}")
            there, failed = _look(connected, repository, chosen_vms(connected.name, listed, vms))
            machine = connected.host_info().name
            restores = () if vms else tuple(open_restores(repository, machine))
            planned = _planned(connected, restores)
            copies = {one.restore.vm_id: one.restore for one in open_in_place(repository, machine)}
        unclear = {str(one.vm_id) for one in planned if one.notes not in {each.mark for each in restores}}
        unknown = unknown_ids(there, (chosen.ours | chosen.not_ours) - unclear)
        if unknown:
            raise UsageError(
                f"no unclear object has the id {', '.join(sorted(unknown))}; list them with --dry-run"
            )
        if not chosen.as_json:
            _print_objects(there)
            for restore in restores:
                place = f"{restore.intent.name!r} in {restore.intent.place}"
                console.line(f"restore {restore.run_id} did not end: VM {place}")
            for plan in planned:
                console.line(f"planned VM {plan.name!r} ({plan.vm_id})")
            for one in there:
                for disk in copies[one.vm.vm_id].disks if one.vm.vm_id in copies else ():
                    console.line(f"{one.vm.name}: {copies[one.vm.vm_id].stage}: {disk.undo}")
        forgetting = chosen.name == "forget"
        todo = tuple(one for one in there if concerns(one) or (forgetting and one.vm.vm_id in copies))
        if chosen.dry_run or not (todo or restores):
            unchanged = tuple(SweepResult(one, left=_left(one, chosen.not_ours)) for one in there)
            return _print_result(connected.name, chosen, (*unchanged, *failed), unreadable)
        names = [one.vm.name for one in todo] + [f"restore of {one.intent.name}" for one in restores]
        question = f"{chosen.name} {', '.join(names)}"
        asking = f"hvps host {chosen.name}"
        if not confirmed(question, yes=chosen.yes, command=asking, instead="--dry-run"):
            console.line("nothing was changed")
            return ExitCode.DONE
        context = SweepContext(
            host=connected,
            repository=repository,
            run_id=invocation.run_id,
            limits=BackupLimits(),
            cancel=cancel,
            ours=chosen.ours,
            foreign=chosen.not_ours,
        )
        with catch_signals(cancel, report_first):
            swept = {one.vm.vm_id: _removed(remove, context, one) for one in todo}
            if forgetting:
                swept = {vm_id: _without_copies(context, result) for vm_id, result in swept.items()}
            again = SweptRestores()
            if restores:
                again = sweep_restores(
                    connected, repository, machine, ours=chosen.ours, foreign=chosen.not_ours
                )
    results = tuple(swept.get(one.vm.vm_id, SweepResult(one)) for one in there)
    for line in (*again.done, *again.left):
        console.note(f"hvps: {line}")
    code = _print_result(connected.name, chosen, (*results, *failed), unreadable)
    return worst([code, ExitCode.HOST_NOT_CLEAN]) if again.left else code


def _planned(host: HyperVHost, restores: Sequence[OpenRestore]) -> tuple[PlannedVm, ...]:
    """Planned VMs that restores made, or may have made before they could set their marks."""
    if not any(one.intent.config_files for one in restores):
        return ()
    there = host.restoring.planned_vms()
    marks = {one.mark for one in restores}
    unclear = {each for one in restores for each in unclear_planned(there, one.mark, one.intent)}
    return tuple(one for one in there if one.notes in marks or one in unclear)


def _removed(
    remove: Callable[[SweepContext, VmObjects], SweepResult], context: SweepContext, found: VmObjects
) -> SweepResult:
    try:
        return remove(context, found)
    except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this VM
        return SweepResult(found, error=host_error(context.host.name, "sweep", err))


def _without_copies(context: SweepContext, result: SweepResult) -> SweepResult:
    """Remove the copies that a restore in place kept, too."""
    vm = result.found.vm
    try:
        forgotten = forget_in_place(context.host, context.repository, context.run_id, vm)
    except HvpsError as err:
        return replace(result, error=result.error or err)
    left = (*result.left, *forgotten.left)
    error = result.error or (HostNotClean(context.host.name, vm.name, left) if left else None)
    return replace(result, done=(*result.done, *forgotten.done), left=left, error=error)


def _left(there: VmObjects, foreign: frozenset[str]) -> tuple[str, ...]:
    """Leftovers, and objects that may be leftovers."""
    return tuple(
        f"{thing.kind} {thing.name}"
        for owner in (Owner.LEFTOVER, Owner.UNCLEAR)
        for thing in there.of(owner)
        if thing.thing_id not in foreign
    )


def chosen_vms(host: str, listed: Sequence[VmInfo], patterns: tuple[str, ...]) -> tuple[VmInfo, ...]:
    """The VMs that patterns select; all without patterns."""
    vms = {vm.vm_id: vm for vm in listed}
    chosen, problems = choose_vms(
        (Candidate(vm.vm_id, vm.name, host, vm.state, vm.replication_mode) for vm in vms.values()),
        VmSelection(include=patterns or ("*",)),
        host,
    )
    if problems:
        raise problems[0]
    return tuple(vms[one.vm_id] for one in chosen)


def _look(
    host: HyperVHost, repository: Repository, vms: Sequence[VmInfo]
) -> tuple[tuple[VmObjects, ...], tuple[SweepResult, ...]]:
    """What is on the host for each VM, and an error for each VM of which that is not known."""
    shells = host.shells()
    there, failed = [], []
    for vm in vms:
        try:
            there.append(find_objects(host, repository, vm, shells))
        except Interrupted:
            raise
        except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this VM
            failed.append(SweepResult(VmObjects(vm, ()), error=host_error(host.name, "sweep", err)))
    return tuple(there), tuple(failed)


def _print_objects(there: Sequence[VmObjects]) -> None:
    rows = tuple(
        (one.vm.name, thing.kind, thing.whose.value, thing.name, thing.thing_id, thing.what)
        for one in there
        for thing in one.objects
    )
    if rows:
        console.table(Table("on the host", ("VM", "kind", "owner", "name", "id", "reason"), rows))


def _print_result(
    host: str, chosen: _SweepOptions, swept: Sequence[SweepResult], unreadable: Sequence[HostError]
) -> ExitCode:
    code = worst([*(one.exit_code for one in swept), *(problem.code for problem in unreadable)])
    if chosen.as_json:
        console.document(
            host_swept(
                chosen.name,
                host,
                dry_run=chosen.dry_run,
                exit_code=code,
                swept=swept,
                problems=unreadable,
            )
        )
        return code
    for one in swept:
        for text in one.done:
            console.line(f"{one.found.vm.name}: {text}")
        for text in one.left:
            console.note(f"hvps: {one.found.vm.name}: left: {text}")
        if one.error is not None:
            console.note(f"hvps: {one.found.vm.name}: {one.error}")
    clean = not unreadable and not any(one.left or one.error for one in swept)
    console.line(f"{host}: {'clean' if clean else 'NOT clean'} (exit {int(code)})")
    return code
