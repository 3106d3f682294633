"""Which call of a host program a request of the stand-in modules is, for the faults of single calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Requests and the cmdlets that make them.
CMDLETS = {
    "event.list": "Get-WinEvent",
    "vm.add_adapter": "Add-VMNetworkAdapter",
    "vm.add_drive": "Add-VMHardDiskDrive",
    "vm.add_dvd": "Add-VMDvdDrive",
    "vm.add_scsi_controller": "Add-VMScsiController",
    "vm.apply_snapshot": "Restore-VMSnapshot",
    "vm.bios": "Get-VMBios",
    "vm.checkpoint_vm": "Checkpoint-VM",
    "vm.cluster": "Get-Cluster",
    "vm.cluster_resources": "Get-ClusterResource",
    "vm.connect_adapter": "Connect-VMNetworkAdapter",
    "vm.disable_service": "Disable-VMIntegrationService",
    "vm.drives": "Get-VMHardDiskDrive",
    "vm.dvd_drives": "Get-VMDvdDrive",
    "vm.enable_service": "Enable-VMIntegrationService",
    "vm.enable_tpm": "Enable-VMTPM",
    "vm.firmware": "Get-VMFirmware",
    "vm.host": "Get-VMHost",
    "vm.integration_services": "Get-VMIntegrationService",
    "vm.key_protector": "Get-VMKeyProtector",
    "vm.machines": "Get-VM",
    "vm.memory": "Get-VMMemory",
    "vm.move_storage": "Move-VMStorage",
    "vm.network_adapters": "Get-VMNetworkAdapter",
    "vm.new_vm": "New-VM",
    "vm.processor": "Get-VMProcessor",
    "vm.remove_adapter": "Remove-VMNetworkAdapter",
    "vm.remove_dvd": "Remove-VMDvdDrive",
    "vm.remove_saved_state": "Remove-VMSavedState",
    "vm.remove_snapshot": "Remove-VMSnapshot",
    "vm.remove_vm": "Remove-VM",
    "vm.rename_snapshot": "Rename-VMSnapshot",
    "vm.resize_vhd": "Resize-VHD",
    "vm.scsi_controllers": "Get-VMScsiController",
    "vm.security": "Get-VMSecurity",
    "vm.set_adapter": "Set-VMNetworkAdapter",
    "vm.set_bios": "Set-VMBios",
    "vm.set_drive": "Set-VMHardDiskDrive",
    "vm.set_firmware": "Set-VMFirmware",
    "vm.set_key_protector": "Set-VMKeyProtector",
    "vm.set_memory": "Set-VMMemory",
    "vm.set_processor": "Set-VMProcessor",
    "vm.set_vlan": "Set-VMNetworkAdapterVlan",
    "vm.set_state": "Stop-VM",
    "vm.set_vm": "Set-VM",
    "vm.snapshots": "Get-VMSnapshot",
    "vm.start_resource": "Start-ClusterResource",
    "vm.start_vm": "Start-VM",
    "vm.stop_resource": "Stop-ClusterResource",
    "vm.supported_versions": "Get-VMHostSupportedVersion",
    "vm.switches": "Get-VMSwitch",
    "vm.types": "Import-Module",
    "vm.vhds": "Get-VHD",
    "vm.vlan": "Get-VMNetworkAdapterVlan",
}
# Requests of the CIM cmdlets, and which argument has the class.
QUERIES = {
    "cim.associated": ("Get-CimAssociatedInstance", "result_class"),
    "cim.get": ("Get-CimInstance", "class_name"),
    "cim.instances": ("Get-CimInstance", "class_name"),
    "cim.schema": ("Get-CimClass", "class_name"),
}


def query_name(request: dict[str, Any]) -> str:
    """The full name of a CIM query: ``Get-CimInstance:Win32_Volume``."""
    cmdlet, argument = QUERIES[request["call"]]
    wanted = request.get(argument)
    return f"{cmdlet}:{wanted}" if wanted else cmdlet


def method_name(request: dict[str, Any]) -> str:
    """The full name of a method: ``Msvm_VirtualSystemSnapshotService.CreateSnapshot``."""
    return f"{request['class_name']}.{request['method']}"


def subject(request: Any) -> str:
    """All text of a request: ids and paths in it show which VM it is about."""
    return " ".join(_texts(request))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)
