"""Operations about planned VMs: the calls of their scripts, in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from hvpsbridge.contract import restoring, results
from hvpsbridge.sim.engines.failure import Failure, failure, of_call
from hvpsbridge.sim.engines.operations.context import Context, Stopped
from hvpsbridge.sim.model import HyperVError
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.planning import adapters_of, storage_of, switch_of
from hvpsbridge.sim.model.state import Job, JobKind, PlannedVm
from hvpsbridge.sim.standin import administration, devices, hardware
from hvpsbridge.sim.standin.rows import Row, Rows

_SERVICE = "Msvm_VirtualSystemManagementService"
_SYSTEM, _SETTINGS = "Msvm_PlannedComputerSystem", "Msvm_VirtualSystemSettingData"
_STORAGE, _CONNECTION = "Msvm_StorageAllocationSettingData", "Msvm_EthernetPortAllocationSettingData"
# How long a job about a planned VM may take.
_SECONDS = 600


def get_planned_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsPlannedVm``."""
    try:
        context.query(_SYSTEM)
        for one in context.model.planned.all(context.node):
            context.associated(_SETTINGS, one.vm_id)
            yield restoring.PlannedVm(vm_id=one.vm_id, name=one.settings["name"], notes=one.settings["notes"])
    except CallRefused as err:
        raise of_call(err) from err


def new_planned_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``New-HvpsPlannedVm``."""
    model, path = context.model, given["Path"]
    made: list[UUID] = []
    try:
        job = _run(
            context,
            f"the import of {path}",
            "ImportSystemDefinition",
            path,
            lambda: model.planned.import_definition(path, new_id=True, node=context.node),
        )
        if job is None:
            raise failure(
                "Hvps.JobFailed",
                "the configuration was imported, but its job was gone before it named the planned VM",
            )
        context.patiently(lambda: context.associated(_SYSTEM, job.vm_id))
        planned = model.planned.get(job.vm_id, context.node)
        made.append(planned.vm_id)
        context.associated(_SETTINGS, planned.vm_id)
        notes = planned.settings["notes"]
        changes = {
            "ElementName": given["Name"],
            "Notes": [given["Mark"]],
            "ConfigurationDataRoot": given["Folder"],
        }
        _do(
            context,
            "the renaming",
            "ModifySystemSettings",
            planned,
            lambda: model.planned.modify(planned.vm_id, changes),
        )
        _disconnect(context, planned)
        context.associated(_SETTINGS, planned.vm_id)
        context.associated(_STORAGE, planned.vm_id)
        yield restoring.PlannedVmMade(
            vm_id=planned.vm_id,
            notes=notes,
            disk_paths=tuple(path for kind, _, path in storage_of(planned.settings) if kind == "disk"),
            checkpoints=int(planned.settings["parent"] is not None),
        )
    except (HyperVError, Failure, Stopped) as err:
        for vm_id in made:
            with suppress(HyperVError, Failure, Stopped):
                _destroy(context, vm_id)
        if isinstance(err, CallRefused):
            raise of_call(err) from err
        raise


def complete_planned_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Complete-HvpsPlannedVm``."""
    plan, model, rows = json.loads(given["Json"]), context.model, Rows(context.model, context.node)
    try:
        context.import_module()
        planned = _planned(context, given["PlannedId"])
        if planned is None:
            raise failure("Hvps.VmNotFound", f"planned VM {given['PlannedId']} does not exist")
        context.associated(_SETTINGS, planned.vm_id)
        if planned.settings["notes"] != plan["mark"]:
            raise failure("Hvps.VmNotFound", f"planned VM {planned.vm_id} is not one of this restore")
        _set_files(context, planned, plan)
        for what, kind, method in (
            ("validating the VM", JobKind.ValidatePlanned, "ValidatePlannedSystem"),
            ("realizing the VM", JobKind.RealizePlanned, "RealizePlannedSystem"),
        ):

            def start(kind: JobKind = kind) -> Job:
                return model.planned.act(kind, planned.vm_id, context.node)

            job = _run(context, what, method, planned.vm_id, start)
        if job is not None:
            context.patiently(lambda: context.associated("Msvm_ComputerSystem", planned.vm_id))
        vm = context.vm(planned.vm_id)
        warnings: list[str] = []
        try:
            _set_adapters(context, rows, str(vm.vm_id), plan, warnings)
            context.cmdlet("Set-VM", vm.vm_id)
            last = {"AutomaticStartAction": 2}
            administration.set_vm(rows, str(vm.vm_id), notes=plan["notes"], members=last)
        except HyperVError:
            context.cmdlet("Remove-VM", vm.vm_id)
            administration.remove_vm(rows, str(vm.vm_id))
            raise
    except CallRefused as err:
        raise of_call(err) from err
    yield restoring.VmMade(vm_id=vm.vm_id, name=vm.name, path=vm.folder, warnings=tuple(warnings))


def remove_planned_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsPlannedVm``."""
    try:
        planned = _planned(context, given["PlannedId"])
        if planned is not None:
            context.associated(_SETTINGS, planned.vm_id)
            shown = planned.settings["name"], planned.settings["notes"]
            if shown != (given["Name"], given.get("Mark") or ""):
                raise failure(
                    "Hvps.BadRequest", f"planned VM {planned.vm_id} is not one that this restore was making"
                )
            _destroy(context, planned.vm_id)
    except CallRefused as err:
        raise of_call(err) from err
    yield results.Removal(planned is not None)


def _planned(context: Context, vm_id: UUID) -> PlannedVm | None:
    context.query(_SYSTEM, vm_id)
    every = context.model.planned.all(context.node)
    return next((one for one in every if one.vm_id == vm_id), None)


def _destroy(context: Context, vm_id: UUID) -> None:
    def start() -> Job:
        return context.model.planned.act(JobKind.DestroySystem, vm_id, context.node)

    _run(context, "the removal", "DestroySystem", vm_id, start)


def _run(context: Context, what: str, method: str, about: object, start: Callable[[], Job]) -> Job | None:
    return context.run_job(what, f"{_SERVICE}.{method}", about, start, _SECONDS)


def _do(context: Context, what: str, method: str, planned: PlannedVm, act: Callable[[], None]) -> None:
    context.run_method(what, f"{_SERVICE}.{method}", planned.vm_id, act, _SECONDS)


def _disconnect(context: Context, planned: PlannedVm) -> None:
    context.associated(_CONNECTION, planned.vm_id)
    connected = [
        index for index, each in enumerate(adapters_of(planned.settings["hardware"])) if switch_of(each)
    ]

    def act() -> None:
        for index in connected:
            context.model.planned.disconnect(planned.vm_id, index)

    if connected:
        _do(context, "disconnecting the adapters", "ModifyResourceSettings", planned, act)


def _set_files(context: Context, planned: PlannedVm, plan: Mapping[str, Any]) -> None:
    context.associated(_STORAGE, planned.vm_id)
    left = {disk["from"].lower(): disk for disk in plan["disks"]}
    isos = {iso.lower() for iso in plan["isos"]}
    changed: dict[str, str] = {}
    removed = []
    for kind, slot, path in storage_of(planned.settings):
        wanted = left.pop(path.lower(), None) if kind == "disk" else None
        if wanted is not None:
            changed[slot] = wanted["to"]
        elif kind == "disk" or path.lower() not in isos:
            removed.append(slot)
    if left:
        missing = next(iter(left.values()))["from"]
        raise failure("Hvps.JobFailed", f"the configuration has no disk {missing}")
    set_file = context.model.planned.set_file

    def change() -> None:
        for slot, path in changed.items():
            set_file(planned.vm_id, slot, path)

    def remove() -> None:
        for slot in removed:
            set_file(planned.vm_id, slot, None)

    if changed:
        _do(context, "setting the files of disks", "ModifyResourceSettings", planned, change)
    if removed:
        _do(context, "removing files from drives", "RemoveResourceSettings", planned, remove)


def _set_adapters(
    context: Context, rows: Rows, vm: str, plan: Mapping[str, Any], warnings: list[str]
) -> None:
    wanted = list(plan["adapters"])
    if plan["keep_macs"] and not wanted:
        return
    context.cmdlet("Get-VMNetworkAdapter", vm)
    for row in hardware.network_adapters(rows, vm):
        if not plan["keep_macs"]:
            try:
                context.cmdlet("Set-VMNetworkAdapter", vm)
                devices.set_adapter(rows, vm, row["Id"], {"DynamicMacAddressEnabled": True})
            except HyperVError as err:
                warnings.append(f"address of network adapter {row['Name']}: {err.message}")
        first = next((each for each in wanted if each["name"] == row["Name"]), None)
        if first is not None:
            wanted.remove(first)
            _connect(context, rows, vm, row, first["switch"], warnings)


def _connect(context: Context, rows: Rows, vm: str, adapter: Row, switch: str, warnings: list[str]) -> None:
    try:
        context.cmdlet("Connect-VMNetworkAdapter", vm)
        devices.connect_adapter(rows, vm, adapter["Id"], switch)
    except HyperVError as err:
        warnings.append(f"network adapter {adapter['Name']}: {err.message}")
