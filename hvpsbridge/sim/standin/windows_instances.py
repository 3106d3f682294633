"""Instances of WMI classes of Windows itself: system, computer, processes, volumes, Defender."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.state import Vm
from hvpsbridge.sim.standin.windows_classes import WINDOWS_CLASSES

Row = dict[str, Any]


class WindowsInstances:
    """The instances of one host, for one call.

    Attributes:
        sources: by class, a function that returns the rows.
    """

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node
        self._host = model.nodes.get(node)
        self.sources: dict[str, Callable[[], Iterable[Row]]] = {
            "Win32_OperatingSystem": self._operating_system,
            "Win32_ComputerSystem": self._computer,
            "Win32_ComputerSystemProduct": self._product,
            "Win32_Process": self._workers,
            "Win32_Volume": self._volumes,
            "StdRegProv": lambda: (),
            "MSFT_MpComputerStatus": self._defender_status,
            "MSFT_MpPreference": self._defender_rules,
        }

    def _operating_system(self) -> Iterable[Row]:
        host = self._host
        yield {
            **dict.fromkeys(WINDOWS_CLASSES["Win32_OperatingSystem"].properties),
            "Name": "Microsoft Windows Server",
            "Caption": "Microsoft Windows Server",
            "CSName": host.name,
            "Version": host.os_version,
            "BuildNumber": str(host.os_build),
            "ProductType": 3,
            "OSArchitecture": "64-bit",
            "LastBootUpTime": utc(host.booted).isoformat(),
            "LocalDateTime": utc(self._model.clock.now()).isoformat(),
            "TotalVisibleMemorySize": host.memory_bytes // 1024,
            "FreePhysicalMemory": host.memory_bytes // 2048,
        }

    def _computer(self) -> Iterable[Row]:
        host = self._host
        yield {
            "Name": host.name,
            "DNSHostName": host.name,
            "Domain": (host.fqdn or "WORKGROUP").partition(".")[2] or "WORKGROUP",
            "PartOfDomain": host.fqdn is not None,
            "NumberOfLogicalProcessors": host.logical_processors,
            "TotalPhysicalMemory": host.memory_bytes,
        }

    def _product(self) -> Iterable[Row]:
        yield {
            "Name": "Virtual Machine Server",
            "Vendor": "hvps",
            "IdentifyingNumber": "1",
            "UUID": str(self._host.machine_id).upper(),
        }

    def _workers(self) -> Iterable[Row]:
        """Worker processes: one for each VM that runs."""
        for vm in self._model.vms.all(self._node):
            if vm.started is not None:
                yield {
                    "Handle": str(process_id(vm)),
                    "Name": "vmwp.exe",
                    "Caption": "vmwp.exe",
                    "ProcessId": process_id(vm),
                    "CreationDate": utc(vm.started).isoformat(),
                }

    def _volumes(self) -> Iterable[Row]:
        for volume in self._model.volumes.all():
            identity = uuid5(NAMESPACE_URL, volume.root)
            yield {
                "DeviceID": f"\\\\?\\Volume{{{identity}}}\\",
                "Name": volume.root,
                "Caption": volume.root,
                "DriveLetter": volume.root[:2] if len(volume.root) == 3 else None,
                "Label": "",
                "FileSystem": volume.file_system,
                "DriveType": 3,
                "BlockSize": 4096,
                "Capacity": volume.total_bytes,
                "FreeSpace": self._model.volumes.free_bytes(volume.root),
            }

    def _defender_status(self) -> Iterable[Row]:
        yield {"ComputerID": self._host.name, "RealTimeProtectionEnabled": True}

    def _defender_rules(self) -> Iterable[Row]:
        rules = [rule.split("=") for rule in self._model.knobs.defender.split(",") if "=" in rule]
        yield {
            "ComputerID": self._host.name,
            "AttackSurfaceReductionRules_Ids": [rule for rule, _ in rules] or None,
            "AttackSurfaceReductionRules_Actions": [int(action) for _, action in rules] or None,
        }


def process_id(vm: Vm) -> int:
    """Id of a VM's worker process."""
    return 0x10000 + 4 * (vm.vm_id.int % 0xFFFFFF)
