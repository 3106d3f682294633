"""``Get-HvpsVmDefinition``: the members that ``lib/Definition.ps1`` selects, from what the cmdlets show."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hvpsbridge.contract import results
from hvpsbridge.sim.engines.failure import of_disk
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.model import DiskError
from hvpsbridge.sim.standin.cmdlets import Cmdlets


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# How often drives are listed before a file that is not there counts as missing (``Get-HvpsDriveChain``).
ROUNDS = 5
# Members that the script selects, by kind of object.
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
    show = Cmdlets(context.model, context.node)
    definition: dict[str, Any] = {"format": 1}
    definition["vm"] = _select(show.machines(id=vm_id)["objects"][0], _VM)
    definition["processor"] = _select(show.processor(vm_id)[0], _PROCESSOR)
    definition["memory"] = _select(show.memory(vm_id)[0], _MEMORY)
    if vm.generation == 2:
        firmware = show.firmware(vm_id)[0]
        definition["firmware"] = _select(firmware, _FIRMWARE)
        definition["firmware"]["BootOrder"] = [_boot(entry) for entry in firmware["BootOrder"]]
    else:
        definition["bios"] = _select(show.bios(vm_id)[0], _BIOS)
    definition["disks"] = _disks(context, show, vm_id)
    definition["scsi_controllers"] = len(show.scsi_controllers(vm_id))
    definition["dvd"] = [_select(drive, _DVD) for drive in show.dvd_drives(vm_id)]
    definition["network"] = [
        {**_select(adapter, _NETWORK), "Vlan": _select(show.vlan()[0], _VLAN)}
        for adapter in show.network_adapters(vm_id)
    ]
    definition["security"] = _select(show.security(vm_id)[0], _SECURITY)
    definition["key_protector"] = base64.b64encode(bytes(show.key_protector(vm_id))).decode()
    definition["integration_services"] = [
        _select(service, ("Id", "Enabled")) for service in show.integration_services(vm_id)
    ]
    yield results.VmDefinition(vm.vm_id, json.dumps(definition, separators=(",", ":")))


def _select(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Named members; those that this module version lacks are null."""
    return {name: row.get(name) for name in names}


def _boot(entry: Mapping[str, Any]) -> dict[str, Any]:
    boot = _select(entry, _BOOT)
    if entry.get("Device") is not None:
        boot["Device"] = _select(entry["Device"], _DEVICE)
    return boot


def _disks(context: Context, show: Cmdlets, vm_id: str) -> list[dict[str, Any]]:
    """Drives with what their files are; listed again when a merge has taken one away meanwhile."""
    for _ in range(ROUNDS):
        disks = [_disk(context, show, drive) for drive in show.drives(vm_id)]
        if not any(disk.get("Problem") == "Hvps.FileNotFound" for disk in disks):
            break
        context.pause()
    return disks


def _disk(context: Context, show: Cmdlets, drive: Mapping[str, Any]) -> dict[str, Any]:
    disk = _select(drive, _DISK)
    if drive["Path"] and drive["DiskNumber"] is None:
        try:
            chain = context.model.disks.chain(context.model.disks.at(drive["Path"]).number)
        except DiskError as err:
            disk["Problem"] = of_disk(err).error_id.partition(",")[0]
            return disk
        rows = show.vhds([layer.path for layer in (chain[0], chain[-1])])["objects"]
        disk["Vhd"] = _select(rows[0], _VHD)
        disk["Base"] = _select(rows[-1], _BASE)
    return disk
