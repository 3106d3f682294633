"""``Get-HvpsVmDefinition``: the members that ``lib/Definition.ps1`` selects from the output of cmdlets."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hvpsbridge.contract import results
from hvpsbridge.sim.engines.failure import Failure, of_call
from hvpsbridge.sim.engines.operations.context import Context, DriveChain
from hvpsbridge.sim.model.calls import CallRefused
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
_BANDWIDTH = _names("MaximumBandwidth MinimumBandwidthAbsolute MinimumBandwidthWeight")
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
    rows = Rows(context.model, context.node)
    asked = _Asked(context, rows, str(vm.vm_id))
    problems: list[dict[str, str]] = []

    def network() -> list[dict[str, Any]]:
        return [
            _adapter(asked, row, problems) for row in asked("Get-VMNetworkAdapter", hardware.network_adapters)
        ]

    # In the order in which the script asks.
    sections: dict[str, Callable[[], Any]] = {
        "vm": lambda: _select(cmdlets.machines(rows, id=asked.vm_id)["objects"][0], _VM),
        "processor": lambda: _select(asked("Get-VMProcessor", hardware.processor)[0], _PROCESSOR),
        "memory": lambda: _select(asked("Get-VMMemory", hardware.memory)[0], _MEMORY),
        "firmware": lambda: _firmware(asked("Get-VMFirmware", hardware.firmware)[0]),
        "bios": lambda: _select(asked("Get-VMBios", hardware.bios)[0], _BIOS),
        "security": lambda: _select(asked("Get-VMSecurity", hardware.security)[0], _SECURITY),
        "key_protector": lambda: base64.b64encode(
            bytes(asked("Get-VMKeyProtector", hardware.key_protector))
        ).decode(),
        "scsi_controllers": lambda: len(asked("Get-VMScsiController", cmdlets.scsi_controllers)),
        "disks": lambda: _disks(context, rows, vm, problems),
        "dvd": lambda: [_select(drive, _DVD) for drive in asked("Get-VMDvdDrive", cmdlets.dvd_drives)],
        "network": network,
        "integration_services": lambda: [
            _select(service, ("Id", "Enabled"))
            for service in asked("Get-VMIntegrationService", hardware.integration_services)
        ],
    }
    del sections["bios" if vm.generation == 2 else "firmware"]
    definition: dict[str, Any] = {"format": 1, "problems": problems}
    for section, read in sections.items():
        try:
            definition[section] = read()
        except CallRefused as err:
            definition[section] = None
            problems.append(_problem(section, of_call(err)))
    yield results.VmDefinition(vm.vm_id, json.dumps(definition, separators=(",", ":")))


def _problem(section: str, failed: Failure) -> dict[str, str]:
    return {"section": section, "error": failed.error_id, "message": failed.message}


def _firmware(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**_select(row, _FIRMWARE), "BootOrder": [_boot(entry) for entry in row["BootOrder"]]}


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


def _adapter(asked: _Asked, row: Mapping[str, Any], problems: list[dict[str, str]]) -> dict[str, Any]:
    bandwidth = row["BandwidthSetting"]
    adapter = {
        **_select(row, _NETWORK),
        "Bandwidth": None if bandwidth is None else _select(bandwidth, _BANDWIDTH),
        "Vlan": None,
    }
    try:
        vlan = asked("Get-VMNetworkAdapterVlan", lambda rows, vm: hardware.vlan(rows, [row["Id"]]))[0]
        adapter["Vlan"] = _select(vlan, _VLAN)
    except CallRefused as err:
        problems.append(_problem("vlan", of_call(err)))
    return adapter


def _disks(context: Context, rows: Rows, vm: Vm, problems: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Drives and their files."""
    found = context.drive_chains(vm)
    problems += [_problem("disks", row.problem) for row in found if row.problem is not None]
    return [_disk(rows, rows.drive(vm, row.drive, None), row) for row in found]


def _disk(rows: Rows, drive: Mapping[str, Any], row: DriveChain) -> dict[str, Any]:
    disk = _select(drive, _DISK)
    if row.problem is not None:
        disk["Problem"] = row.problem.error_id.partition(",")[0]
    elif row.chain:
        disk["Vhd"] = _select(rows.vhd(row.chain[0]), _VHD)
        disk["Base"] = _select(rows.vhd(row.chain[-1]), _BASE)
    return disk
