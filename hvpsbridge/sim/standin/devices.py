"""Cmdlets that add, remove and set devices of VMs: controllers, drives, adapters, the vTPM."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model import DiskError, HyperVError, VhdFormat, VhdType, Win32, Wmi
from hvpsbridge.sim.model.planning import adapters_of
from hvpsbridge.sim.model.state import ControllerType, Slot, Vm
from hvpsbridge.sim.standin.rows import HV, Row, Rows

_MAX_CONTROLLERS = 4
_SCSI_PLACES = 64
_MAX_VLAN = 4094
_BANDWIDTH = ("MaximumBandwidth", "MinimumBandwidthAbsolute", "MinimumBandwidthWeight")


def add_scsi_controller(rows: Rows, vm: str) -> list[Row]:
    """``Add-VMScsiController``: a VM has four at most."""
    found = rows.vm(vm)
    count = found.hardware.get("scsi_controllers", 1)
    if count >= _MAX_CONTROLLERS:
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    found.hardware["scsi_controllers"] = count + 1
    found.revision += 1
    return []


def add_adapter(rows: Rows, vm: str, members: dict[str, Any]) -> list[Row]:
    """``Add-VMNetworkAdapter``.

    Raises:
        HyperVError: the host has no such switch, or generation 2 would get a legacy adapter.
    """
    found = rows.vm(vm)
    switch = members.get("SwitchName")
    if switch is not None and switch not in rows.host.switches:
        raise HyperVError(Wmi.NOT_FOUND, rows.text("not_found"))
    if members.get("IsLegacy") and found.generation != 1:
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    adapters = adapters_of(found.hardware)
    key = f"adapter {found.revision} {len(adapters)}"
    shown = {"SwitchName": "", "SwitchId": None, "Connected": False, **members}
    if switch is not None:
        shown |= {"SwitchId": str(uuid5(UUID(int=0), switch)), "Connected": True}
    adapters.append({"key": key, "members": shown})
    found.hardware["adapters"] = adapters
    found.revision += 1
    return rows.adapters(found)[-1:]


def set_adapter(rows: Rows, vm: str, id: str, members: dict[str, Any]) -> list[Row]:
    """``Set-VMNetworkAdapter``.

    Raises:
        HyperVError: the minimum of the bandwidth is more than the maximum.
    """
    found = rows.vm(vm)
    shown = rows.adapters(found)
    bandwidth = {name: members[name] for name in _BANDWIDTH if name in members}
    members = {name: value for name, value in members.items() if name not in _BANDWIDTH}
    for each, row in zip(adapters := adapters_of(found.hardware), shown, strict=True):
        if row["Id"] == id:
            if bandwidth:
                members["BandwidthSetting"] = _bandwidth(rows, row["BandwidthSetting"], bandwidth)
            dynamic = members.get("DynamicMacAddressEnabled", False)
            kept = {
                key: value for key, value in each["members"].items() if key != "MacAddress" or not dynamic
            }
            each["members"] = {**kept, **members}
    found.hardware["adapters"] = adapters
    found.revision += 1
    return []


def _bandwidth(rows: Rows, now: Row | None, changes: Row) -> Row:
    kind = {"type": HV + "VMNetworkAdapterBandwidthSetting", **rows.common(), **dict.fromkeys(_BANDWIDTH, 0)}
    made = {**kind, **(now or {}), **changes}
    if made["MaximumBandwidth"] and made["MinimumBandwidthAbsolute"] > made["MaximumBandwidth"]:
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    return made


def connect_adapter(rows: Rows, vm: str, id: str, switch: str) -> list[Row]:
    """``Connect-VMNetworkAdapter``.

    Raises:
        HyperVError: the host has no such switch.
    """
    if switch not in rows.host.switches:
        raise HyperVError(Wmi.NOT_FOUND, rows.text("not_found"))
    shown = {"SwitchName": switch, "SwitchId": str(uuid5(UUID(int=0), switch)), "Connected": True}
    return set_adapter(rows, vm, id, shown)


def set_vlan(rows: Rows, vm: str, id: str, members: dict[str, Any]) -> list[Row]:
    """``Set-VMNetworkAdapterVlan``.

    Raises:
        HyperVError: the VLAN does not exist.
    """
    found = rows.vm(vm)
    numbers = [value for name, value in members.items() if name.endswith("VlanId")]
    if any(not 0 <= number <= _MAX_VLAN for number in numbers):
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    found.hardware["vlan"] = {**found.hardware.get("vlan", {}), id.upper(): members}
    found.revision += 1
    return []


def remove_adapter(rows: Rows, vm: str, id: str) -> list[Row]:
    """``Remove-VMNetworkAdapter``."""
    found = rows.vm(vm)
    shown = rows.adapters(found)
    adapters = adapters_of(found.hardware)
    found.hardware["adapters"] = [each for each, row in zip(adapters, shown, strict=True) if row["Id"] != id]
    found.revision += 1
    return []


def add_dvd(rows: Rows, vm: str, slot: str, path: str | None = None) -> list[Row]:
    """``Add-VMDvdDrive``.

    Raises:
        HyperVError: the slot is taken or does not exist, or the ISO does not exist.
    """
    found = rows.vm(vm)
    where = Slot.parse(slot)
    _check_slot(rows, found, where)
    if path is not None:
        try:
            rows.model.host_files.attributes(path)
        except DiskError as err:
            raise HyperVError(Wmi.NOT_FOUND, rows.text("not_found")) from err
    found.hardware["dvd"] = {**found.hardware.get("dvd", {}), str(where): path}
    found.revision += 1
    return []


def remove_dvd(rows: Rows, vm: str, slot: str) -> list[Row]:
    """``Remove-VMDvdDrive``."""
    found = rows.vm(vm)
    drives = found.hardware.get("dvd", {})
    found.hardware["dvd"] = {key: path for key, path in drives.items() if key != slot}
    found.revision += 1
    return []


def set_drive(rows: Rows, vm: str, slot: str, members: dict[str, Any]) -> list[Row]:
    """``Set-VMHardDiskDrive``: limits.

    Raises:
        HyperVError: the minimum is more than the maximum.
    """
    found = rows.vm(vm)
    low, high = members.get("MinimumIOPS", 0), members.get("MaximumIOPS", 0)
    if high and low > high:
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    found.hardware["limits"] = {**found.hardware.get("limits", {}), slot: members}
    found.revision += 1
    return []


def set_key_protector(rows: Rows, vm: str, protector: list[int] | None = None) -> list[Row]:
    """``Set-VMKeyProtector``: one of another VM, or a new local one.

    Raises:
        HyperVError: the host lacks the certificates of its guardian.
    """
    found = rows.vm(vm)
    if protector is not None and not rows.host.has_guardian:
        raise HyperVError(Wmi.FAILED, rows.text("failed"))
    found.hardware["key_protector"] = protector or list(uuid5(found.vm_id, "local").bytes * 4)
    found.revision += 1
    return []


def enable_tpm(rows: Rows, vm: str) -> list[Row]:
    """``Enable-VMTPM``.

    Raises:
        HyperVError: the VM has no key protector.
    """
    found = rows.vm(vm)
    if "key_protector" not in found.hardware:
        raise HyperVError(Wmi.FAILED, rows.text("failed"))
    rows.model.setup.change_vm(found.vm_id, tpm_enabled=True)
    return []


def add_drive(
    rows: Rows,
    vm: str,
    path: str,
    size_bytes: int | None = None,
    sector_bytes: int = 512,
    slot: str | None = None,
    *,
    fixed: bool = False,
) -> list[Row]:
    """``Add-VMHardDiskDrive`` of a file that exists or that ``New-VHD`` made, at a slot or the next free one.

    Raises:
        HyperVError: the slot is taken or does not exist, or the file is missing, bad or in use.
    """
    found = rows.vm(vm)
    taken = {str(drive.slot) for drive in rows.model.disks.drives(found.vm_id)}
    free = (str(Slot(ControllerType.SCSI, 0, at)) for at in range(64))
    where = Slot.parse(slot or next(one for one in free if one not in taken))
    _check_slot(rows, found, where)
    if size_bytes is None:
        _attach(rows, found, where, path)
        return _drive(rows, found, where)
    rows.model.setup.add_disk(
        found.vm_id,
        where,
        size_bytes=size_bytes,
        path=path,
        logical_sector_bytes=sector_bytes,
        format=VhdFormat.VHD if path.lower().endswith(".vhd") else VhdFormat.VHDX,
        kind=VhdType.Fixed if fixed else VhdType.Dynamic,
    )
    return _drive(rows, found, where)


def _drive(rows: Rows, vm: Vm, slot: Slot) -> list[Row]:
    return [rows.drive(vm, drive, None) for drive in rows.model.disks.drives(vm.vm_id) if drive.slot == slot]


def _check_slot(rows: Rows, vm: Vm, slot: Slot) -> None:
    controllers = vm.hardware.get("scsi_controllers", 1) if slot.controller_type is ControllerType.SCSI else 2
    places = _SCSI_PLACES if slot.controller_type is ControllerType.SCSI else 2
    ide = slot.controller_type is ControllerType.IDE
    if (
        str(slot) in {str(drive.slot) for drive in rows.model.disks.drives(vm.vm_id)}
        or str(slot) in vm.hardware.get("dvd", {})
        or slot.controller_number >= controllers
        or slot.controller_location >= places
        or (ide and vm.generation != 1)
    ):
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))


def _attach(rows: Rows, vm: Vm, slot: Slot, path: str) -> None:
    if vm.generation == 2 and path.lower().endswith(".vhd"):
        raise HyperVError(Wmi.NOT_SUPPORTED, rows.text("failed"))
    try:
        rows.model.setup.attach_file(vm.vm_id, slot, path)
    except DiskError as err:
        missing = err.code == Win32.FILE_NOT_FOUND
        kind = Wmi.NOT_FOUND if missing else Wmi.FAILED
        raise HyperVError(kind, f"{rows.text('failed')} '{path}' (0x{err.hresult:08X})") from err
    except ValueError as err:
        raise HyperVError(Wmi.IN_USE, rows.text("in_use")) from err
