"""Cmdlets that show a VM's hardware: processor, memory, firmware, adapters, services, security."""

from __future__ import annotations

from uuid import uuid5

from hvpsbridge.sim.model import HyperVError, Wmi
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.state import ControllerType, Slot, Vm, VMState
from hvpsbridge.sim.standin.rows import HV, Row, Rows

# Tails of integration services' ids; names are localized (docs/hyperv-facts.md#integration-services).
_COMPONENTS = {
    "Guest Service Interface": "6C09BB55-D683-4DA0-8931-C9BF705F6480",
    "Heartbeat": "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47",
    "Key-Value Pair Exchange": "2A34B1C2-FD73-4043-8A5B-DD2159BC743F",
    "Shutdown": "9F8233AC-BE49-4C79-8EE3-E7E1985B2077",
    "Time Synchronization": "2497F4DE-E9FA-4204-80E4-4B75C46419C0",
    "VSS": "5CED1297-4598-4915-A5FC-AD21BB4D02A4",
}


def processor(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMProcessor``."""
    found = rows.vm(vm)
    return [
        {
            "type": HV + "VMProcessor",
            **rows.common(),
            "Count": found.processor_count,
            "Maximum": 100,
            "Reserve": 0,
            "RelativeWeight": 100,
            "ExposeVirtualizationExtensions": False,
            "CompatibilityForMigrationEnabled": False,
            "CompatibilityForOlderOperatingSystemsEnabled": False,
            "HwThreadCountPerCore": 0,
            "MaximumCountPerNumaNode": 16,
            "MaximumCountPerNumaSocket": 1,
            "EnableHostResourceProtection": False,
            **found.hardware.get("processor", {}),
        }
    ]


def memory(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMMemory``."""
    found = rows.vm(vm)
    return [
        {
            "type": HV + "VMMemory",
            **rows.common(),
            "Startup": found.memory_bytes,
            "Minimum": 536870912,
            "Maximum": 1099511627776,
            "MaximumPerNumaNode": 64424509440,
            "Buffer": 20,
            "Priority": 50,
            "DynamicMemoryEnabled": False,
            "ResourcePoolName": "Primordial",
            **found.hardware.get("memory", {}),
        }
    ]


def firmware(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMFirmware``. An error for generation 1."""
    found = rows.vm(vm)
    if found.generation != 2:
        raise HyperVError(Wmi.INVALID_PARAMETER, text(rows.model.knobs.language, "failed"))
    boot = [
        {
            "type": HV + "VMBootSource",
            **rows.common(),
            "BootType": 1,
            "Description": "EFI SCSI Device",
            "FirmwarePath": f"\\AcpiEx(VMBus,0,0)\\Scsi({drive.slot.controller_location},0)",
            "Device": rows.drive(found, drive, None),
        }
        for drive in rows.model.disks.drives(found.vm_id)
    ]
    if "boot_order" in found.hardware:
        boot += [dvd_boot(rows, row) for row in rows.dvd_drives(found)]
        devices = {_slot_of(row["Device"]): row for row in boot}
        boot = [
            devices[key] if key in devices else network_boot(rows, found, key)
            for key in found.hardware["boot_order"]
        ]
    return [
        {
            "type": HV + "VMFirmware",
            **rows.common(),
            "SecureBoot": 0,
            "SecureBootTemplate": "MicrosoftWindows",
            "SecureBootTemplateId": "1734c6e8-3154-4dda-ba5f-a874cc483422",
            "BootOrder": boot,
            "PreferredNetworkBootProtocol": 0,
            "ConsoleMode": 0,
            "PauseAfterBootFailure": 1,
            **found.hardware.get("firmware", {}),
        }
    ]


def _slot_of(row: Row) -> str:
    kind = ControllerType(row["ControllerType"])
    return str(Slot(kind, row["ControllerNumber"], row["ControllerLocation"]))


def dvd_boot(rows: Rows, drive: Row) -> Row:
    """``VMBootSource`` of a DVD drive."""
    return {
        "type": HV + "VMBootSource",
        **rows.common(),
        "BootType": 1,
        "Description": "EFI SCSI Device",
        "FirmwarePath": f"\\AcpiEx(VMBus,0,0)\\Scsi({drive['ControllerLocation']},0)",
        "Device": drive,
    }


def network_boot(rows: Rows, vm: Vm, adapter_id: str) -> Row:
    """``VMBootSource`` of an adapter."""
    device = next(row for row in rows.adapters(vm) if row["Id"] == adapter_id)
    return {
        "type": HV + "VMBootSource",
        **rows.common(),
        "BootType": 2,
        "Description": "EFI Network",
        "FirmwarePath": "\\AcpiEx(VMBus,0,0)\\VenHw\\MAC",
        "Device": device,
    }


def bios(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMBios``. An error for generation 2."""
    if rows.vm(vm).generation != 1:
        raise HyperVError(Wmi.INVALID_PARAMETER, text(rows.model.knobs.language, "failed"))
    given = rows.vm(vm).hardware.get("bios", {})
    return [
        {
            "type": HV + "VMBios",
            **rows.common(),
            "NumLockEnabled": False,
            "StartupOrder": [1, 2, 3, 0],
            **given,
        }
    ]


def security(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMSecurity``."""
    found = rows.vm(vm)
    return [
        {
            "type": HV + "VMSecurity",
            **rows.common(),
            "TpmEnabled": found.tpm_enabled,
            "KsdEnabled": False,
            "Shielded": found.shielded,
            "EncryptStateAndVmMigrationTraffic": found.shielded,
            "VirtualizationBasedSecurityOptOut": False,
            "BindToHostTpm": False,
        }
    ]


def key_protector(rows: Rows, vm: str) -> list[int]:
    """``Get-VMKeyProtector``: bytes; 00 00 00 04 if there is none."""
    found = rows.vm(vm)
    if "key_protector" in found.hardware:
        return list(found.hardware["key_protector"])
    if not (found.shielded or found.tpm_enabled):
        return [0, 0, 0, 4]
    return list(uuid5(found.vm_id, "protector").bytes * 4)


def integration_services(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMIntegrationService``."""
    found = rows.vm(vm)
    return [
        {
            "type": HV + "VMIntegrationComponent",
            **rows.common(),
            "Name": name,
            "Id": f"Microsoft:{str(found.vm_id).upper()}\\{tail}",
            "Enabled": found.hardware.get("services", {}).get(
                tail, name != "Guest Service Interface" and (name != "VSS" or found.guest_backup)
            ),
            "PrimaryOperationalStatus": 2 if found.state is VMState.Running else None,
            "PrimaryStatusDescription": "OK" if found.state is VMState.Running else "",
        }
        for name, tail in _COMPONENTS.items()
    ]


def network_adapters(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMNetworkAdapter``."""
    return rows.adapters(rows.vm(vm))


def vlan(rows: Rows, adapters: list[str] | None = None) -> list[Row]:
    """``Get-VMNetworkAdapterVlan`` of one adapter; without it, that of an adapter that nobody has set."""
    key = (adapters or [""])[0].upper()
    vms = rows.model.vms.all()
    given: Row = next((vm.hardware["vlan"][key] for vm in vms if key in vm.hardware.get("vlan", {})), {})
    return [
        {
            "type": HV + "VMNetworkAdapterVlanSetting",
            **rows.common(),
            "OperationMode": 0,
            "AccessVlanId": 0,
            "NativeVlanId": 0,
            "PrimaryVlanId": 0,
            "SecondaryVlanId": 0,
            "AllowedVlanIdList": [],
            "AllowedVlanIdListString": "",
            "PrivateVlanMode": 0,
            **given,
        }
    ]
