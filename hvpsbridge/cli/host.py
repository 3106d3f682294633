"""``hvps host``: check hosts and clean them up."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from hvpsbridge.cli import console
from hvpsbridge.cli.connect import connect
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    connection_options,
    json_option,
)
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.cli.sweep import forget, sweep
from hvpsbridge.cli.trust import trust
from hvpsbridge.contract.results import VmInfo
from hvpsbridge.errors import ExitCode, Interrupted
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.report.documents.hosts import HostChecked, VmChecked
from hvpsbridge.report.documents.run import condition
from hvpsbridge.tasks.host_check import examine_host
from hvpsbridge.tasks.hosts import host_error
from hvpsbridge.tasks.planning.eligibility import Finding, Severity, examine, refusals

# A check opens no repository, so it takes no checkpoint for one of its own.
_NO_REPOSITORY = UUID(int=0)


@click.group("host")
def host_() -> None:
    """Check hosts and clean them up.

    HOST is a name in the configuration file, a bare host name (https, port 5986) or a URL.
    """


@host_.command("check", short_help="Check whether a host and its VMs can be backed up.")
@click.argument("host")
@connection_options
@json_option
@click.pass_obj
def check(invocation: Invocation, /, host: str, as_json: bool, **options: Any) -> ExitCode:
    """Check whether HOST and its VMs can be backed up. Changes nothing.

    Compiles the reader on the host, as a backup does. Exits with 14 if the host cannot be used, and with 2
    if one of its VMs cannot be backed up.
    """
    with ExitStack() as stack:
        stack.enter_context(interrupting())
        connected = stack.enter_context(connect(host, options, invocation))
        info = connected.host_info()
        findings = examine_host(info, datetime.now(UTC))
        if not refusals(findings):
            connected.check_reader()
        listed, problems = connected.list_vms()
        vms = {vm: _vm_findings(connected, vm) for vm in listed}
    for problem in problems:
        console.note(f"hvps: {problem}")
    code = ExitCode.DONE
    if refusals(findings):
        code = ExitCode.REFUSED
    elif problems or any(refusals(found) for found in vms.values()):
        code = ExitCode.VM_FAILED
    if as_json:
        checked = tuple(VmChecked(vm.name, vm.vm_id, found) for vm, found in vms.items())
        unreadable = tuple(map(condition, problems))
        console.document(HostChecked(info, findings, checked, int(code), unreadable))
        return code
    for finding in findings:
        console.line(f"{info.name}: {finding.severity.value}: {finding}")
    for vm, found in vms.items():
        for finding in found:
            console.line(f"{vm.name}: {finding.severity.value}: {finding}")
    fit = sum(not refusals(found) for found in vms.values())
    console.line(f"{info.name}: {fit} of {len(vms) + len(problems)} VMs can be backed up")
    return code


def _vm_findings(host: HyperVHost, vm: VmInfo) -> tuple[Finding, ...]:
    try:
        disks, checkpoints = host.disks(vm.vm_id), host.checkpoints(vm.vm_id)
        return examine(vm, disks, checkpoints, _NO_REPOSITORY)
    except Interrupted:
        raise
    except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this VM
        text = f"cannot be examined: {host_error(host.name, 'Get-HvpsDisk', err).describe()}"
        return (Finding(Severity.REFUSE, text, "see the event logs of the host"),)


host_.add_command(trust)
host_.add_command(sweep)
host_.add_command(forget)
