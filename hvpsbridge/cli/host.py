"""``hvps host``: check hosts and clean them up."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.connect import connection_to
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import connection_options, json_option, repository_options, repository_spec
from hvpsbridge.cli.probes import probes
from hvpsbridge.cli.prove import prove
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.cli.sweep import forget, sweep
from hvpsbridge.cli.trust import trust
from hvpsbridge.cli.undo import undo
from hvpsbridge.errors import ConfigurationError, ExitCode, HostError, HvpsError, UsageError
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.look import look_at_certificate
from hvpsbridge.report.check_views import check_summary, check_tables
from hvpsbridge.report.documents.hosts import host_checked
from hvpsbridge.tasks.host_check import HostCheck, Reached, not_found_out
from hvpsbridge.tasks.host_facts import examine_host
from hvpsbridge.tasks.host_records import HostRecords, default_state_folder
from hvpsbridge.tasks.restore.open_on_host import TOPIC, check_restores


@click.group("host")
def host_() -> None:
    """Check hosts and clean them up.

    HOST is a name in the configuration file, a bare host name (https, port 5986) or a URL.
    """


@host_.command("check", short_help="Check whether a host and its VMs can be backed up.")
@click.argument("host")
@connection_options
@repository_options
@json_option
@click.pass_obj
def check(invocation: Invocation, /, host: str, as_json: bool, **options: Any) -> ExitCode:
    """Check whether HOST and its VMs can be backed up. Changes nothing.

    Asks for rights, limits and storage, compiles the reader, opens a disk for information and measures the
    rate, and estimates how long a full takes. Exits with 14 if the host cannot be used, and with 2 if one of
    its VMs cannot be backed up. With a repository, lists restores that did not end, and what they keep.
    """
    connection = connection_to(host, options, invocation)
    with interrupting(), HyperVHost.connect(connection, run_id=invocation.run_id) as connected:
        records = HostRecords(default_state_folder())
        found = examine_host(connected, _reached(connection), records)
        if found.info is not None:
            rows = _restores(invocation, options, found.info.name, host)
            found = replace(found, checks=(*found.checks, *rows))
    for problem in found.problems:
        console.note(f"hvps: {problem}")
    code = ExitCode.DONE
    if not found.fit:
        code = ExitCode.REFUSED
    elif found.problems or not all(vm.fit for vm in found.vms):
        code = ExitCode.VM_FAILED
    if as_json:
        console.document(host_checked(found, code))
        return code
    for table in check_tables(found):
        console.table(table)
    console.line(check_summary(connection.name, found))
    return code


def _restores(
    invocation: Invocation, options: dict[str, Any], machine: str, host: str
) -> tuple[HostCheck, ...]:
    """What the repository knows of restores; nothing if none is given."""
    try:
        spec = repository_spec(options, invocation)
    except UsageError:
        return ()
    try:
        return tuple(check_restores(compose.repository(spec, invocation), machine, host))
    except HvpsError as err:
        return (not_found_out(TOPIC, err.describe()),)


def _reached(connection: HostConnection) -> Reached:
    endpoint = connection.endpoint
    days: int | None = None
    if endpoint.tls:
        with contextlib.suppress(HostError, ConfigurationError):
            days = look_at_certificate(connection).days_left(datetime.now(UTC))
    return Reached(
        server=endpoint.server,
        port=endpoint.port,
        tls=endpoint.tls,
        auth=str(connection.auth),
        user=connection.user,
        certificate_days=days,
        pinned=connection.fingerprint is not None,
        insecure=connection.insecure,
    )


host_.add_command(sweep)
host_.add_command(forget)
host_.add_command(undo)
host_.add_command(trust)
host_.add_command(prove)
host_.add_command(probes)
