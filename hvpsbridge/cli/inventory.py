"""``hvps inventory``: VMs and disks of a host, and what prevents a backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import click

from hvpsbridge.cli import console
from hvpsbridge.cli.connect import connect
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import connection_options, json_option
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.contract.results import DiskInfo, HostInfo, VmInfo
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import ExitCode, HvpsError, Interrupted
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.report.documents.hosts import Inventory, inventory_vm
from hvpsbridge.report.documents.run import condition
from hvpsbridge.report.views import Table
from hvpsbridge.tasks.host_records import build_of
from hvpsbridge.tasks.hosts import host_error
from hvpsbridge.tasks.planning.eligibility import Finding, examine
from hvpsbridge.units import size_text

# An inventory opens no repository, so it takes no checkpoint for one of its own.
_NO_REPOSITORY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A VM with its disks and findings, or with the error that prevented reading them."""

    vm: VmInfo
    disks: tuple[DiskInfo, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: HvpsError | None = None


@click.command("inventory")
@click.argument("host")
@connection_options
@json_option
@click.pass_obj
def inventory_(invocation: Invocation, /, host: str, as_json: bool, **options: Any) -> ExitCode:
    """List the VMs of HOST with their disks, and what prevents a backup. Exits with 2 if it cannot list one.

    HOST is a name in the configuration file, a bare host name (https, port 5986) or a URL.
    """
    with interrupting(), connect(host, options, invocation) as connected:
        info = connected.host_info()
        vms, problems = connected.list_vms(read_events=True)
        listed = tuple(_look(connected, vm) for vm in vms)
    code = ExitCode.VM_FAILED if problems else ExitCode.DONE
    for problem in problems:
        console.note(f"hvps: {problem}")
    if as_json:
        console.document(
            Inventory(
                info,
                tuple(inventory_vm(one.vm, one.disks, one.findings, one.error) for one in listed),
                tuple(map(condition, problems)),
            )
        )
    else:
        _print(info, listed)
    return code


def _look(host: HyperVHost, vm: VmInfo) -> _Listed:
    try:
        disks = host.disks(vm.vm_id)
        return _Listed(vm, disks, examine(vm, disks, host.checkpoints(vm.vm_id), _NO_REPOSITORY))
    except Interrupted:
        raise
    except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this VM
        return _Listed(vm, error=host_error(host.name, "Get-HvpsDisk", err))


def _print(info: HostInfo, listed: tuple[_Listed, ...]) -> None:
    console.line(
        f"{info.name}: Windows {build_of(info)}, PowerShell {info.powershell_version}, {len(listed)} VMs"
    )
    rows = []
    for entry in listed:
        vm = entry.vm
        head = (vm.name, str(vm.vm_id), vm.state.value)
        for disk in entry.disks or (None,):
            cells = ("", "", "", "") if disk is None else _disk_cells(disk)
            rows.append((*head, *cells))
            head = ("", "", "")
    columns = ("VM", "id", "state", "disk", "size", "sector", "file")
    console.table(Table("VMs", columns, tuple(rows), frozenset({4, 5})))
    for entry in listed:
        for finding in entry.findings:
            console.line(f"{entry.vm.name}: {finding.severity.value}: {finding}")
        if entry.error is not None:
            console.line(f"{entry.vm.name}: {entry.error}")


def _disk_cells(disk: DiskInfo) -> tuple[str, str, str, str]:
    where = disk.path or ("pass-through" if disk.pass_through else "empty")
    return (
        slot_of(disk),
        size_text(disk.size_bytes),
        str(disk.logical_sector_bytes or ""),
        disk.error or where,
    )
