"""``hvps host sweep`` and ``hvps host forget``: what of a repository is on a host, and removing it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.connect import connect
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    connection_options,
    json_option,
    repository_options,
    repository_spec,
)
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.contract.results import VmInfo
from hvpsbridge.errors import ExitCode, UsageError, worst
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.report.documents.hosts import host_swept
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.cleanup.leftovers import Owner, VmObjects, look, unknown_ids
from hvpsbridge.tasks.cleanup.sweep import Sweeper, SweepResult
from hvpsbridge.tasks.planning.select import Candidate, VmChoice, choose_vms
from hvpsbridge.tasks.policy import Limits


def _acting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that remove something."""
    for option in (
        json_option,
        repository_options,
        connection_options,
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing."),
    ):
        command = option(command)
    return command


@click.command("sweep")
@click.argument("host")
@click.argument("vms", metavar="[VM]...", nargs=-1)
@click.option("--ours", multiple=True, metavar="ID", help="This unclear thing is ours: remove it.")
@click.option(
    "--not-ours", multiple=True, metavar="ID", help="This one is not: leave it, and stop naming it."
)
@_acting_options
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
    """List what of this repository is on HOST, and remove what ended runs left there.

    All VMs of the host, or those named. Points lose nothing and the next increment stays one: the reference
    point it starts from is kept, and a checkpoint of the newest point is converted. What may be ours but
    cannot be told is named and left, until --ours or --not-ours says so. What is somebody else's is never
    touched, and a VM at which a run is at work is left alone.
    """
    return _act(
        invocation,
        host,
        vms,
        options,
        _SweepOptions("sweep", dry_run, yes, as_json, frozenset(ours), frozenset(not_ours)),
        lambda there: there.to_settle,
        Sweeper.sweep,
    )


@click.command("forget")
@click.argument("host")
@click.argument("vms", metavar="VM...", nargs=-1, required=True)
@_acting_options
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
    """Remove everything of this repository that HOST has for VMs, reference points included.

    For VMs that will not be backed up into this repository any more. Points stay; the next backup of such
    a VM, should there be one, compares every disk.
    """
    return _act(
        invocation,
        host,
        vms,
        options,
        _SweepOptions("forget", dry_run, yes, as_json),
        lambda there: there.to_settle or bool(there.of(Owner.NEEDED)),
        Sweeper.forget,
    )


@dataclass(frozen=True, slots=True)
class _SweepOptions:
    """What somebody wants, of sweep or forget."""

    name: Literal["sweep", "forget"]
    dry_run: bool
    yes: bool
    as_json: bool
    ours: frozenset[str] = frozenset()
    strangers: frozenset[str] = frozenset()


def _act(
    invocation: Invocation,
    host: str,
    vms: tuple[str, ...],
    options: dict[str, Any],
    wish: _SweepOptions,
    concerns: Callable[[VmObjects], bool],
    work: Callable[[Sweeper, VmObjects], SweepResult],
) -> ExitCode:
    cancel = Cancellation()
    with ExitStack() as stack:
        with interrupting():
            repository = compose.repository(repository_spec(options, invocation), invocation)
            connected = stack.enter_context(connect(host, options, invocation))
            there = _look(connected, repository, _chosen(connected, vms))
        unknown = unknown_ids(there, wish.ours | wish.strangers)
        if unknown:
            raise UsageError(f"nothing unclear there has the id {', '.join(sorted(unknown))}")
        if not wish.as_json:
            _tell_things(there)
        todo = tuple(one for one in there if concerns(one))
        if wish.dry_run or not todo:
            return _tell(
                connected.name,
                wish,
                there,
                tuple(SweepResult(one, left=_left(one, wish.strangers)) for one in there),
            )
        if not _agreed(wish, todo):
            console.line("nothing was changed")
            return ExitCode.DONE
        sweeper = Sweeper(
            connected,
            repository,
            invocation.run_id,
            Limits(),
            cancel,
            ours=wish.ours,
            strangers=wish.strangers,
        )
        with catch_signals(cancel):
            swept = tuple(work(sweeper, one) for one in todo)
    return _tell(connected.name, wish, there, swept)


def _left(there: VmObjects, strangers: frozenset[str]) -> tuple[str, ...]:
    """What of ours, or perhaps ours, is there though no increment needs it."""
    return tuple(
        f"{thing.kind} {thing.name}"
        for whose in (Owner.LEFTOVER, Owner.UNCLEAR)
        for thing in there.of(whose)
        if thing.thing_id not in strangers
    )


def _chosen(host: HyperVHost, patterns: tuple[str, ...]) -> tuple[VmInfo, ...]:
    vms = {vm.vm_id: vm for vm in host.vms()}
    chosen, problems = choose_vms(
        (Candidate(vm.vm_id, vm.name, host.name, vm.state) for vm in vms.values()),
        VmChoice(include=patterns or ("*",)),
        host.name,
    )
    if problems:
        raise problems[0]
    return tuple(vms[one.vm_id] for one in chosen)


def _look(host: HyperVHost, repository: Repository, vms: Sequence[VmInfo]) -> tuple[VmObjects, ...]:
    shells = host.shells()
    return tuple(look(host, repository, vm, shells) for vm in vms)


def _agreed(wish: _SweepOptions, todo: Sequence[VmObjects]) -> bool:
    """Whether somebody says yes, now or with ``--yes``.

    Raises:
        UsageError: nobody can be asked.
    """
    if wish.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"hvps host {wish.name} asks before it removes anything; use --yes or --dry-run")
    names = ", ".join(one.vm.name for one in todo)
    return click.confirm(f"{wish.name} {names}?", err=True)


def _tell_things(there: Sequence[VmObjects]) -> None:
    rows = tuple(
        (one.vm.name, thing.kind, thing.whose.value, thing.name, thing.thing_id, thing.what)
        for one in there
        for thing in one.things
    )
    if rows:
        console.table(Table("on the host", ("VM", "what", "whose", "name", "id", "why"), rows))


def _tell(
    host: str, wish: _SweepOptions, there: Sequence[VmObjects], swept: Sequence[SweepResult]
) -> ExitCode:
    codes = [one.exit_code for one in swept]
    code = worst(codes)
    if wish.as_json:
        console.document(
            host_swept(wish.name, host, dry_run=wish.dry_run, exit_code=code, there=there, swept=swept)
        )
        return code
    for one in swept:
        for text in one.done:
            console.line(f"{one.there.vm.name}: {text}")
        for text in one.left:
            console.note(f"hvps: {one.there.vm.name}: left: {text}")
        if one.error is not None:
            console.note(f"hvps: {one.there.vm.name}: {one.error}")
    clean = not any(one.left or one.error for one in swept)
    console.line(f"{host}: {'nothing is left' if clean else 'something is left'} (exit {int(code)})")
    return code
