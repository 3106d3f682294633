"""``Get-HvpsVmDefinition``: the members that ``lib/Definition.ps1`` selects from the output of cmdlets."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hvpsbridge.contract import results
from hvpsbridge.sim.engines.operations.context import Context, DriveChain
from hvpsbridge.sim.model.state import Vm
from hvpsbridge.sim.standin import cmdlets, hardware
from hvpsbridge.sim.standin.rows import Rows


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Members that the script selects.
_VM = _names(
    "Id Name Generation Version Notes CheckpointType AutomaticCheckpointsEnabled AutomaticStartAction "
    "AutomaticStartDelay AutomaticStopAction AutomaticCriticalErrorAction "
    "AutomaticCriticalErrorActionTimeout Path ConfigurationLocation SnapshotFileLocation "
    "SmartPagingFilePath GuestControlledCacheTypes LowMemoryMappedIoSpace HighMemoryMappedIoSpace "
    "LockOnDisconnect EnhancedSessionTransportType IsClustered"
)
_PROCESSOR = _names(
    "Count Maximum Reserve RelativeWeight ExposeVirtualizationExtensions CompatibilityForMigrationEnabled "
    "CompatibilityForOlderOperatingSystemsEnabled HwThreadCountPerCore MaximumCountPerNumaNode "
    "MaximumCountPerNumaSocket EnableHostResourceProtection"
)
_MEMORY = _names("Startup Minimum Maximum MaximumPerNumaNode Buffer Priority DynamicMemoryEnabled")
_FIRMWARE = _names(
    "SecureBoot SecureBootTemplate SecureBootTemplateId PreferredNetworkBootProtocol ConsoleMode "
    "PauseAfterBootFailure"
)
_BIOS = _names("NumLockEnabled StartupOrder")
_BOOT = _names("BootType Description FirmwarePath")
_DEVICE = _names("ControllerType ControllerNumber ControllerLocation AdapterId")
_DISK = _names(
    "ControllerType ControllerNumber ControllerLocation Path DiskNumber SupportPersistentReservations "
    "MinimumIOPS MaximumIOPS QoSPolicyID WriteHardeningMethod"
)
_VHD = _names("VhdFormat VhdType Size BlockSize LogicalSectorSize PhysicalSectorSize DiskIdentifier")
_BASE = _names("VhdType BlockSize")
_DVD = _names("ControllerType ControllerNumber ControllerLocation Path")
_NETWORK = _names(
    "Name Id AdapterId IsLegacy MacAddress DynamicMacAddressEnabled SwitchName SwitchId ClusterMonitored "
    "MacAddressSpoofing DhcpGuard RouterGuard AllowTeaming IeeePriorityTag DeviceNaming VMQWeight "
    "IovWeight PortMirroringMode DynamicIPAddressLimit StormLimit"
)
_VLAN = _names(
    "OperationMode AccessVlanId NativeVlanId PrimaryVlanId SecondaryVlanId AllowedVlanIdListString "
    "PrivateVlanMode"
)
_SECURITY = _names(
    "TpmEnabled KsdEnabled Shielded EncryptStateAndVmMigrationTraffic VirtualizationBasedSecurityOptOut "
    "BindToHostTpm"
)


def get_definition(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsVmDefinition``."""
    vm = context.vm(given["VmId"])
    vm_id = str(vm.vm_id)
    rows = Rows(context.model, context.node)
    definition: dict[str, Any] = {"format": 1}
    asked = _Asked(context, rows, vm_id)
    definition["vm"] = _select(cmdlets.machines(rows, id=vm_id)["objects"][0], _VM)
    definition["processor"] = _select(asked("Get-VMProcessor", hardware.processor)[0], _PROCESSOR)
    definition["memory"] = _select(asked("Get-VMMemory", hardware.memory)[0], _MEMORY)
    if vm.generation == 2:
        firmware = asked("Get-VMFirmware", hardware.firmware)[0]
        definition["firmware"] = _select(firmware, _FIRMWARE)
        definition["firmware"]["BootOrder"] = [_boot(entry) for entry in firmware["BootOrder"]]
    else:
        definition["bios"] = _select(asked("Get-VMBios", hardware.bios)[0], _BIOS)
    definition["disks"] = _disks(context, rows, vm)
    definition["scsi_controllers"] = len(asked("Get-VMScsiController", cmdlets.scsi_controllers))
    definition["dvd"] = [_select(drive, _DVD) for drive in asked("Get-VMDvdDrive", cmdlets.dvd_drives)]
    definition["network"] = [
        {
            **_select(adapter, _NETWORK),
            "Vlan": _select(
                asked("Get-VMNetworkAdapterVlan", lambda rows, vm: hardware.vlan(rows))[0], _VLAN
            ),
        }
        for adapter in asked("Get-VMNetworkAdapter", hardware.network_adapters)
    ]
    definition["security"] = _select(asked("Get-VMSecurity", hardware.security)[0], _SECURITY)
    definition["key_protector"] = base64.b64encode(
        bytes(asked("Get-VMKeyProtector", hardware.key_protector))
    ).decode()
    definition["integration_services"] = [
        _select(service, ("Id", "Enabled"))
        for service in asked("Get-VMIntegrationService", hardware.integration_services)
    ]
    yield results.VmDefinition(vm.vm_id, json.dumps(definition, separators=(",", ":")))


def _vlan(rows: Rows, vm: str) -> list[Any]:
    return hardware.vlan(rows)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Calls cmdlets about one VM."""

    context: Context
    rows: Rows
    vm_id: str

    def __call__(self, cmdlet: str, answer: Callable[[Rows, str], list[Any]]) -> list[Any]:
        """The output of a cmdlet, which ``answer`` knows.

        Raises:
            CallRefused: the call fails.
        """
        self.context.cmdlet(cmdlet, self.vm_id)
        return answer(self.rows, self.vm_id)


def _select(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The named members; null for members that do not exist in this version of the module."""
    return {name: row.get(name) for name in names}


def _boot(entry: Mapping[str, Any]) -> dict[str, Any]:
    boot = _select(entry, _BOOT)
    if entry.get("Device") is not None:
        boot["Device"] = _select(entry["Device"], _DEVICE)
    return boot


def _disks(context: Context, rows: Rows, vm: Vm) -> list[dict[str, Any]]:
    """Drives and their files."""
    found = context.drive_chains(vm)
    return [_disk(rows, rows.drive(vm, row.drive, None), row) for row in found]


def _disk(rows: Rows, drive: Mapping[str, Any], row: DriveChain) -> dict[str, Any]:
    disk = _select(drive, _DISK)
    if row.problem is not None:
        disk["Problem"] = row.problem.error_id.partition(",")[0]
    elif row.chain:
        disk["Vhd"] = _select(rows.vhd(row.chain[0]), _VHD)
        disk["Base"] = _select(rows.vhd(row.chain[-1]), _BASE)
    return disk
