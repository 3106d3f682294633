"""``Get-HvpsVmDefinition``: the members that ``lib/Definition.ps1`` selects from the output of cmdlets."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hvpsbridge.contract import results
from hvpsbridge.sim.engines.failure import of_disk
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.model import DiskError
from hvpsbridge.sim.standin import cmdlets, hardware
from hvpsbridge.sim.standin.rows import Rows


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# How often drives are listed before a file counts as missing (``Get-HvpsDriveChain``).
ROUNDS = 5
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
    definition["vm"] = _select(cmdlets.machines(rows, id=vm_id)["objects"][0], _VM)
    definition["processor"] = _select(hardware.processor(rows, vm_id)[0], _PROCESSOR)
    definition["memory"] = _select(hardware.memory(rows, vm_id)[0], _MEMORY)
    if vm.generation == 2:
        firmware = hardware.firmware(rows, vm_id)[0]
        definition["firmware"] = _select(firmware, _FIRMWARE)
        definition["firmware"]["BootOrder"] = [_boot(entry) for entry in firmware["BootOrder"]]
    else:
        definition["bios"] = _select(hardware.bios(rows, vm_id)[0], _BIOS)
    definition["disks"] = _disks(context, rows, vm_id)
    definition["scsi_controllers"] = len(cmdlets.scsi_controllers(rows, vm_id))
    definition["dvd"] = [_select(drive, _DVD) for drive in cmdlets.dvd_drives(rows, vm_id)]
    definition["network"] = [
        {**_select(adapter, _NETWORK), "Vlan": _select(hardware.vlan(rows)[0], _VLAN)}
        for adapter in hardware.network_adapters(rows, vm_id)
    ]
    definition["security"] = _select(hardware.security(rows, vm_id)[0], _SECURITY)
    definition["key_protector"] = base64.b64encode(bytes(hardware.key_protector(rows, vm_id))).decode()
    definition["integration_services"] = [
        _select(service, ("Id", "Enabled")) for service in hardware.integration_services(rows, vm_id)
    ]
    yield results.VmDefinition(vm.vm_id, json.dumps(definition, separators=(",", ":")))


def _select(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The named members; null for members that do not exist in this version of the module."""
    return {name: row.get(name) for name in names}


def _boot(entry: Mapping[str, Any]) -> dict[str, Any]:
    boot = _select(entry, _BOOT)
    if entry.get("Device") is not None:
        boot["Device"] = _select(entry["Device"], _DEVICE)
    return boot


def _disks(context: Context, rows: Rows, vm_id: str) -> list[dict[str, Any]]:
    """Drives and their files; listed again if a merge has removed a file meanwhile."""
    for _ in range(ROUNDS):
        disks = [_disk(context, rows, drive) for drive in cmdlets.drives(rows, vm_id)]
        if not any(disk.get("Problem") == "Hvps.FileNotFound" for disk in disks):
            break
        context.pause()
    return disks


def _disk(context: Context, rows: Rows, drive: Mapping[str, Any]) -> dict[str, Any]:
    disk = _select(drive, _DISK)
    if drive["Path"] and drive["DiskNumber"] is None:
        try:
            chain = context.model.disks.chain(context.model.disks.at(drive["Path"]).number)
        except DiskError as err:
            disk["Problem"] = of_disk(err).error_id.partition(",")[0]
            return disk
        files = cmdlets.vhds(rows, [layer.path for layer in (chain[0], chain[-1])])["objects"]
        disk["Vhd"] = _select(files[0], _VHD)
        disk["Base"] = _select(files[-1], _BASE)
    return disk
