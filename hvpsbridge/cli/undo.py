"""``hvps host undo``: put back what the disks of a VM were before a restore in place."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.connect import connect
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import connection_options, repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.cli.sweep import chosen_vms
from hvpsbridge.errors import ExitCode, UsageError
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.restore.undo import undo_in_place


@click.command("undo", short_help="Undo a restore into the disks of a VM.")
@click.argument("host")
@click.argument("vm")
@connection_options
@repository_options
@click.pass_obj
def undo(invocation: Invocation, /, host: str, vm: str, **options: Any) -> ExitCode:
    """Put back what the disks of VM on HOST were before `hvps restore --replace`, finished or not.

    The VM must be off. The copies that the restore kept are removed afterwards. What the VM wrote since the
    restore is lost.
    """
    cancel = Cancellation()
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        connected = invocation.closing.enter_context(connect(host, options, invocation))
        listed, _ = connected.list_vms()
        found = chosen_vms(connected.name, listed, (vm,))
        if len(found) != 1:
            raise UsageError(f"{vm!r} means {len(found)} VMs; undo one at a time")
    with catch_signals(cancel, report_first):
        lines = undo_in_place(connected, repository, invocation.run_id, found[0], cancel.pause)
    for line in lines:
        console.line(line)
    return ExitCode.DONE
