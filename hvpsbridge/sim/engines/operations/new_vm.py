"""``New-HvpsVm``: the calls of the script, in its order."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from hvpsbridge.contract import restoring, results
from hvpsbridge.contract.errors import disk_error_id
from hvpsbridge.sim.engines.failure import Failure, failure, native_code, of_call
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.model import HyperVError, VMState
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.standin import administration, cmdlets, devices, hardware
from hvpsbridge.sim.standin.rows import Row, Rows

_SECURE = {"EnableSecureBoot": "SecureBoot"}
_MEMORY = {"StartupBytes": "Startup", "MinimumBytes": "Minimum", "MaximumBytes": "Maximum"}
_SETTINGS = {"VmqWeight": "VMQWeight", "PortMirroring": "PortMirroringMode"}
# Of an adapter in a plan, set after it was added.
_PARTS = ("settings", "vlan", "bandwidth")
_ADAPTER = {"StaticMacAddress": "MacAddress"}


def new_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``New-HvpsVm``."""
    context.import_module()
    plan, rows = json.loads(given["Json"]), Rows(context.model, context.node)
    made = _Making(context, rows, plan)
    try:
        (row,) = made.call(
            "New-VM",
            lambda: administration.new_vm(
                rows,
                given["Name"],
                plan["generation"],
                given["Folder"],
                plan["memory"]["StartupBytes"],
                plan["version"] or None,
            ),
            given["Name"],
        )
        made.vm = row["Id"]
        try:
            made.all()
        except HyperVError:
            made.call("Remove-VM", lambda: administration.remove_vm(rows, made.vm))
            raise
    except CallRefused as err:
        raise of_call(err) from err
    except HyperVError as err:
        raise of_call(CallRefused(err.code, err.message)) from err
    yield restoring.VmMade(vm_id=row["Id"], name=row["Name"], path=row["Path"], warnings=tuple(made.warnings))


def get_switch(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsSwitch``."""
    context.import_module()
    try:
        context.cmdlet("Get-VMSwitch")
    except CallRefused as err:
        raise of_call(err) from err
    for row in administration.switches(Rows(context.model, context.node)):
        yield restoring.SwitchInfo(row["Name"], UUID(row["Id"]))


def remove_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsVm``."""
    try:
        vm = context.vm(given["VmId"])
    except Failure as err:
        if not err.is_a("Hvps.VmNotFound"):
            raise
        yield results.Removal(False)
        return
    rows = Rows(context.model, context.node)
    try:
        context.cmdlet("Get-VMHardDiskDrive", vm.vm_id)
        mine = vm.notes == given["Mark"] or (not vm.notes and not vm.drives)
        off = vm.state is VMState.Off
        if not mine or not (off or given.get("TurnOff")) or vm.folder.lower() != given["Folder"].lower():
            raise failure("Hvps.BadRequest", f"VM {vm.vm_id} is not one that this restore was making")
        if not off:
            context.cmdlet("Stop-VM", vm.vm_id)
            administration.set_state(rows, str(vm.vm_id), "power_off")
        context.cmdlet("Remove-VM", vm.vm_id)
        administration.remove_vm(rows, str(vm.vm_id))
    except CallRefused as err:
        raise of_call(err) from err
    yield results.Removal(True)


def start_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Start-HvpsVm``."""
    vm = context.vm(given["VmId"])
    try:
        context.cmdlet("Start-VM", vm.vm_id)
        administration.start_vm(Rows(context.model, context.node), str(vm.vm_id))
    except HyperVError as err:
        code = native_code(err)
        error_id = disk_error_id(code, "Hvps.Unexpected")
        if error_id != "Hvps.Unexpected":
            raise failure(error_id, f"cannot start the VM: {err.message}", code) from err
        raise of_call(err if isinstance(err, CallRefused) else CallRefused(err.code, err.message)) from err
    running = context.vm(given["VmId"]).state is VMState.Running
    yield restoring.VmStarted(vm.vm_id, running)


def heartbeat(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsHeartbeat``."""
    vm = context.vm(given["VmId"])
    shown = Rows(context.model, context.node).heartbeat(vm)
    yield restoring.VmHeartbeat(vm.vm_id, vm.state is VMState.Running, shown)


def _slot(row: Row) -> str:
    return _place("ide" if row["ControllerType"] == 0 else "scsi", row)


def _place(kind: str, drive: Mapping[str, Any]) -> str:
    return f"{kind}{drive['ControllerNumber']}:{drive['ControllerLocation']}"


def _vlan(given: dict[str, Any]) -> dict[str, Any]:
    """Members of ``Get-VMNetworkAdapterVlan`` for parameters of ``Set-VMNetworkAdapterVlan``."""
    modes = {"Access": (1, 0), "Trunk": (2, 0), "Isolated": (3, 1), "Community": (3, 2)}
    mode, private = next((modes[name] for name in modes if given.get(name)), (0, 0))
    names = {"VlanId": "AccessVlanId", "AllowedVlanIdList": "AllowedVlanIdListString"}
    members = {names.get(name, name): value for name, value in given.items() if name not in modes}
    return {**members, "OperationMode": mode, "PrivateVlanMode": private}


class _Making:
    """A VM that is being made."""

    def __init__(self, context: Context, rows: Rows, plan: Mapping[str, Any]) -> None:
        self._context = context
        self._rows = rows
        self._plan = plan
        self.vm = ""
        self.warnings: list[str] = []

    def call(self, cmdlet: str, act: Callable[[], list[Row]], about: str = "") -> list[Row]:
        """A cmdlet."""
        self._context.cmdlet(cmdlet, about or self.vm)
        return act()

    def all(self) -> None:
        """Everything after ``New-VM``."""
        plan, rows, vm = self._plan, self._rows, self.vm
        self.call("Set-VM", lambda: administration.set_vm(rows, vm, notes=plan["mark"]))
        self._part("Set-VMProcessor", "processor", plan["processor"], administration.set_processor, {})
        self._part("Set-VMMemory", "memory", plan["memory"], administration.set_memory, _MEMORY)
        adapters = self._adapters()
        self._drives()
        if plan["generation"] == 2:
            self._firmware(adapters)
        elif plan["bios"] is not None:
            bios = dict(plan["bios"])
            if bios.pop("EnableNumLock"):
                bios["NumLockEnabled"] = True
            if bios.pop("DisableNumLock"):
                bios["NumLockEnabled"] = False
            self._part("Set-VMBios", "BIOS", bios, administration.set_bios, {})
        self._tpm()
        self._services()
        self._part("Set-VM", "automatic actions", plan["vm"], self._set_vm, {})
        last = {"AutomaticStartAction": 2}
        self.call("Set-VM", lambda: administration.set_vm(rows, vm, notes=plan["notes"], members=last))

    def _part(
        self,
        cmdlet: str,
        what: str,
        values: Mapping[str, Any] | None,
        act: Callable[[Rows, str, dict[str, Any]], list[Row]],
        names: Mapping[str, str],
    ) -> None:
        members = {names.get(key, key): value for key, value in (values or {}).items() if value is not None}
        if not members:
            return
        try:
            self.call(cmdlet, lambda: act(self._rows, self.vm, members))
        except HyperVError as err:
            self.warnings.append(f"{what}: {err.message}")

    def _set_vm(self, rows: Rows, vm: str, members: dict[str, Any]) -> list[Row]:
        policy = members.pop("CheckpointType", None)
        known = {2: "Disabled", 3: "Production", 4: "ProductionOnly", 5: "Standard"}
        return administration.set_vm(rows, vm, policy=known.get(policy), members=members)

    def _adapters(self) -> list[Row]:
        rows, vm = self._rows, self.vm
        for row in self.call("Get-VMNetworkAdapter", lambda: hardware.network_adapters(rows, vm)):
            self.call("Remove-VMNetworkAdapter", partial(devices.remove_adapter, rows, vm, row["Id"]))
        added: list[Row] = []
        for wanted in self._plan["adapters"]:
            flat = {key: value for key, value in wanted.items() if key not in _PARTS}
            members = {_ADAPTER.get(key, key): value for key, value in flat.items() if value is not None}
            if "MacAddress" in members:
                members["DynamicMacAddressEnabled"] = False
            try:
                (row,) = self.call("Add-VMNetworkAdapter", partial(devices.add_adapter, rows, vm, members))
            except HyperVError as err:
                self.warnings.append(f"network adapter {wanted['Name']}: {err.message}")
                continue
            added.append(row)
            self._adapter_parts(row["Id"], wanted)
        return added

    def _adapter_parts(self, id: str, wanted: Mapping[str, Any]) -> None:
        name = wanted["Name"]
        self._part(
            "Set-VMNetworkAdapter",
            f"settings of network adapter {name}",
            wanted.get("settings"),
            lambda rows, vm, members: devices.set_adapter(rows, vm, id, members),
            _SETTINGS,
        )
        for limit in wanted.get("bandwidth") or ():
            self._part(
                "Set-VMNetworkAdapter",
                f"bandwidth of network adapter {name}",
                limit,
                lambda rows, vm, members: devices.set_adapter(rows, vm, id, members),
                {},
            )
        self._part(
            "Set-VMNetworkAdapterVlan",
            f"VLAN of network adapter {name}",
            wanted.get("vlan"),
            lambda rows, vm, members: devices.set_vlan(rows, vm, id, _vlan(members)),
            {},
        )

    def _drives(self) -> None:
        rows, vm = self._rows, self.vm
        for row in self.call("Get-VMDvdDrive", lambda: cmdlets.dvd_drives(rows, vm)):
            self.call("Remove-VMDvdDrive", partial(devices.remove_dvd, rows, vm, _slot(row)))
        found = self.call("Get-VMScsiController", lambda: cmdlets.scsi_controllers(rows, vm))
        for _ in range(self._plan["scsi_controllers"] - len(found)):
            self.call("Add-VMScsiController", lambda: devices.add_scsi_controller(rows, vm))
        for disk in self._plan["disks"]:
            self._add_disk(disk)
        for dvd in self._plan.get("dvd") or ():
            self._part("Add-VMDvdDrive", "DVD drive", dvd, self._add_dvd, {})

    def _add_disk(self, disk: Mapping[str, Any]) -> None:
        rows, vm, path = self._rows, self.vm, disk["Path"]
        slot = _place(disk["ControllerType"].lower(), disk)
        try:
            self.call("Add-VMHardDiskDrive", lambda: devices.add_drive(rows, vm, path, slot=slot))
        except HyperVError as err:
            code = native_code(err)
            self.call("Remove-VM", lambda: administration.remove_vm(rows, vm))
            raise failure(disk_error_id(code, "Hvps.DiskUnreadable"), f"cannot attach {path}", code) from err
        self._part(
            "Set-VMHardDiskDrive",
            f"limits of {path}",
            disk.get("limits"),
            lambda rows, vm, members: devices.set_drive(rows, vm, slot, members),
            {},
        )

    def _add_dvd(self, rows: Rows, vm: str, members: dict[str, Any]) -> list[Row]:
        controller = "ide" if self._plan["generation"] == 1 else "scsi"
        return devices.add_dvd(rows, vm, _place(controller, members), members.get("Path"))

    def _tpm(self) -> None:
        wanted = self._plan.get("tpm")
        if wanted is None:
            return
        if wanted["protector"] is not None:
            try:
                self._enable_tpm(list(base64.b64decode(wanted["protector"])))
                return
            except HyperVError as err:
                self.warnings.append(f"key protector of the vTPM: {err.message}")
        if wanted["new"]:
            try:
                self._enable_tpm(None)
            except HyperVError as err:
                self.warnings.append(f"new vTPM: {err.message}")

    def _enable_tpm(self, protector: list[int] | None) -> None:
        rows, vm = self._rows, self.vm
        self.call("Set-VMKeyProtector", lambda: devices.set_key_protector(rows, vm, protector))
        self.call("Enable-VMTPM", lambda: devices.enable_tpm(rows, vm))

    def _firmware(self, adapters: list[Row]) -> None:
        rows, vm, plan = self._rows, self.vm, self._plan
        self._part("Set-VMFirmware", "firmware", plan["firmware"], administration.set_firmware, _SECURE)
        drives = [
            *self.call("Get-VMHardDiskDrive", lambda: cmdlets.drives(rows, vm)),
            *self.call("Get-VMDvdDrive", lambda: cmdlets.dvd_drives(rows, vm)),
        ]
        slots = {
            (row["ControllerType"], row["ControllerNumber"], row["ControllerLocation"]) for row in drives
        }
        names = {row["Name"]: row["Id"] for row in reversed(adapters)}
        boot = []
        for entry in plan["boot"]:
            place = (entry["type"], entry["number"], entry["location"])
            if entry["adapter"] in names:
                boot.append(names[entry["adapter"]])
            elif place in slots:
                boot.append(f"{'ide' if place[0] == 0 else 'scsi'}{place[1]}:{place[2]}")
        if boot:
            try:
                self.call("Set-VMFirmware", lambda: administration.set_firmware(rows, vm, {}, boot))
            except HyperVError as err:
                self.warnings.append(f"boot order: {err.message}")

    def _services(self) -> None:
        rows, vm, wanted = self._rows, self.vm, self._plan["services"]
        if wanted is None:
            return
        try:
            for row in self.call("Get-VMIntegrationService", lambda: hardware.integration_services(rows, vm)):
                enabled = wanted.get(row["Id"].rpartition("\\")[2])
                if enabled is None or enabled == row["Enabled"]:
                    continue
                name = "Enable-VMIntegrationService" if enabled else "Disable-VMIntegrationService"
                act = administration.enable_service if enabled else administration.disable_service
                self.call(name, partial(act, rows, vm, row["Id"]))
        except HyperVError as err:
            self.warnings.append(f"integration services: {err.message}")
