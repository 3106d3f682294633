"""Ends the shells of dead runs and waits for the host's jobs, before anything else is cleaned up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from hvpsbridge.errors import Interrupted
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.shells import HostShell, shell_name
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.hosts import host_error


def end_shells(context: CleanupContext, entries: Iterable[LedgerEntry]) -> None:
    """End the shells of the runs of ``entries``, on every host of the play where the VM was.

    Their readers end with them.
    """
    shells: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        if entry.kind is LedgerKind.RUN_STARTED and entry.shell_id is not None:
            shells.setdefault(entry.host, []).append(entry)
    for name, there in shells.items():
        if name == context.host.name:
            _end_shells_on(context, context.host, there)
            continue
        try:
            other = context.connect_to(name)
            if other is not None:
                with other:
                    _end_shells_on(context, other, there)
                continue
            why = "this run does not know that host"
        except Interrupted:
            raise
        except Exception as err:  # noqa: BLE001 - whatever it is, it concerns that host
            why = host_error(name, "list shells", err).describe()
        # The host may be dead, and its shells with it. If not, idle shells time out, and a reader detaches
        # its disk before that (docs/hyperv-facts.md#shell-idle-timeout): nothing is left to do.
        ids = ", ".join(str(entry.shell_id) for entry in there)
        context.warn(f"shells of earlier runs may stay open on {name} until they time out ({ids}): {why}")


def _end_shells_on(context: CleanupContext, host: HyperVHost, entries: Iterable[LedgerEntry]) -> None:
    known = [*entries, *context.journal.ledger.current_entries()]
    wanted = {str(entry.shell_id).lower() for entry in entries}
    for shell, run_id in own_shells(host.shells(), known, host.shell_id):
        if shell.shell_id.lower() in wanted and run_id != context.own_run and host.end_shell(shell.shell_id):
            context.note(f"ended shell {shell.shell_id} of run {run_id}")


def own_shells(
    shells: Sequence[HostShell], entries: Iterable[LedgerEntry], own_shell: str
) -> Iterator[tuple[HostShell, UUID]]:
    """The shells that runs of this repository opened, each with its run.

    An id in the ledger is not enough: the shell must have the name that hvps gives to shells of that run, and
    the owner of our own shell.

    Args:
        shells: all that the host lists.
        entries: ledger entries that may name them.
        own_shell: id of the shell that lists them; it is left out.
    """
    named: dict[str, dict[str, UUID]] = {}
    for entry in entries:
        if entry.kind is LedgerKind.RUN_STARTED and entry.shell_id is not None:
            named.setdefault(entry.shell_id.lower(), {})[shell_name(entry.run_id)] = entry.run_id
    owners = {shell.owner.casefold() for shell in shells if shell.shell_id.lower() == own_shell.lower()}
    for shell in shells:
        run_id = named.get(shell.shell_id.lower(), {}).get(shell.name)
        if run_id is None or shell.shell_id.lower() == own_shell.lower():
            continue
        if shell.owner.casefold() in owners:
            yield shell, run_id


def wait_for_jobs(context: CleanupContext) -> tuple[str, ...]:
    """Wait until the host has no job for the VM; a line if it still has some when the time is over."""
    until = context.clock() + context.job_seconds
    while jobs := context.host.jobs(context.vm_id):
        names = ", ".join(job.description or job.instance_id for job in jobs)
        if context.clock() > until or not context.pause(context.limits.poll_seconds):
            return (f"jobs of the host did not end: {names}",)
    return ()
