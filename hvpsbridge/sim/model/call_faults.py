"""Faults of single calls: any cmdlet, WMI query, WMI method or function of virtdisk and kernel32.

A fault is text such as ``Get-VHD:error=busy,vm=web`` and a count.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from hvpsbridge.sim.model.enums import JobKind
from hvpsbridge.sim.model.errors import Wmi

# WMI methods, and the kind of job that each starts.
METHODS: dict[str, JobKind | None] = {
    "Msvm_VirtualSystemSnapshotService.CreateSnapshot": JobKind.CreateCheckpoint,
    "Msvm_VirtualSystemSnapshotService.DestroySnapshot": JobKind.RemoveCheckpoint,
    "Msvm_VirtualSystemSnapshotService.ApplySnapshot": JobKind.ApplyCheckpoint,
    "Msvm_VirtualSystemSnapshotService.ConvertToReferencePoint": JobKind.ConvertCheckpoint,
    "Msvm_VirtualSystemReferencePointService.DestroyReferencePoint": JobKind.RemoveReferencePoint,
    "Msvm_VirtualSystemManagementService.DestroySystem": JobKind.DestroySystem,
    "Msvm_VirtualSystemManagementService.ImportSystemDefinition": JobKind.ImportDefinition,
    "Msvm_VirtualSystemManagementService.ModifyResourceSettings": JobKind.ModifyResources,
    "Msvm_VirtualSystemManagementService.ModifySystemSettings": JobKind.ModifySettings,
    "Msvm_VirtualSystemManagementService.RealizePlannedSystem": JobKind.RealizePlanned,
    "Msvm_VirtualSystemManagementService.RemoveResourceSettings": JobKind.RemoveResources,
    "Msvm_VirtualSystemManagementService.ValidatePlannedSystem": JobKind.ValidatePlanned,
    "Msvm_ImageManagementService.GetVirtualDiskChanges": JobKind.GetDiskChanges,
    "StdRegProv.GetDWORDValue": None,
}
# Functions of virtdisk.dll and kernel32.dll. Information is asked by version: GetVirtualDiskInformation:15.
FUNCTIONS = (
    "OpenVirtualDisk",
    "AttachVirtualDisk",
    "DetachVirtualDisk",
    "GetVirtualDiskInformation",
    "QueryChangesVirtualDisk",
    "CreateFile",
    "ReadFile",
    "CreateDirectory",
    "DeleteFile",
    "DeviceIoControl",
    "FlushFileBuffers",
    "GetDiskFreeSpaceEx",
    "GetFileAttributes",
    "MoveFileEx",
    "CopyFile",
    "RemoveDirectory",
    "SetEndOfFile",
    "WriteFile",
)
# Cmdlets of Windows that the stand-ins answer. The cmdlets of CIM take a class: Get-CimInstance:Win32_Volume.
CIM_CMDLETS = ("Get-CimInstance", "Get-CimAssociatedInstance", "Get-CimClass")
CMDLETS = (
    "Add-VMDvdDrive",
    "Add-VMHardDiskDrive",
    "Add-VMNetworkAdapter",
    "Add-VMScsiController",
    "Checkpoint-VM",
    "Connect-VMNetworkAdapter",
    "Disable-VMIntegrationService",
    "Enable-VMIntegrationService",
    "Enable-VMTPM",
    "Get-Cluster",
    "Get-ClusterResource",
    "Get-VHD",
    "Get-VM",
    "Get-VMBios",
    "Get-VMDvdDrive",
    "Get-VMFirmware",
    "Get-VMHardDiskDrive",
    "Get-VMHost",
    "Get-VMHostSupportedVersion",
    "Get-VMIntegrationService",
    "Get-VMKeyProtector",
    "Get-VMMemory",
    "Get-VMNetworkAdapter",
    "Get-VMNetworkAdapterVlan",
    "Get-VMProcessor",
    "Get-VMScsiController",
    "Get-VMSecurity",
    "Get-VMSnapshot",
    "Get-VMSwitch",
    "Get-WinEvent",
    "Import-Module",
    "Move-VMStorage",
    "New-VM",
    "Remove-VM",
    "Remove-VMDvdDrive",
    "Remove-VMNetworkAdapter",
    "Remove-VMSavedState",
    "Remove-VMSnapshot",
    "Rename-VMSnapshot",
    "Resize-VHD",
    "Restore-VMSnapshot",
    "Set-VM",
    "Set-VMBios",
    "Set-VMFirmware",
    "Set-VMHardDiskDrive",
    "Set-VMKeyProtector",
    "Set-VMMemory",
    "Set-VMNetworkAdapter",
    "Set-VMNetworkAdapterVlan",
    "Set-VMProcessor",
    "Start-ClusterResource",
    "Start-VM",
    "Stop-ClusterResource",
    "Stop-VM",
)


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One word for an error, and what it is in each family of calls.

    Attributes:
        cmdlet: code whose ErrorIdentifier and ErrorCategory a cmdlet reports.
        method: return value of a method.
        hresult: error of WMI itself.
        win32: code of a function.
    """

    cmdlet: Wmi
    method: int
    hresult: int
    win32: int


ERRORS: dict[str, ErrorKind] = {
    "failed": ErrorKind(Wmi.FAILED, 32768, 0x80041001, 31),
    "busy": ErrorKind(Wmi.IN_USE, 32775, 0x80041045, 32),
    "access_denied": ErrorKind(Wmi.ACCESS_DENIED, 32769, 0x80041003, 5),
    "not_found": ErrorKind(Wmi.NOT_FOUND, 32779, 0x80041002, 2),
    "not_supported": ErrorKind(Wmi.NOT_SUPPORTED, 32770, 0x8004100C, 50),
    "timeout": ErrorKind(Wmi.TIMEOUT, 32772, 0x80041069, 1460),
    "invalid": ErrorKind(Wmi.INVALID_PARAMETER, 32773, 0x80041008, 87),
    "unavailable": ErrorKind(Wmi.NOT_AVAILABLE, 32777, 0x800706BA, 21),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFault:
    """What an armed fault does to a call.

    Attributes:
        error: a word of ``ERRORS``; empty for a call that is only slow.
        code: instead of the word's code: return value of a method or of a function, or an HRESULT, which WMI
            throws and cmdlets have in their text.
        identifier: ErrorIdentifier of a cmdlet, instead of the word's.
        category: ErrorCategory of a cmdlet or WMI query, instead of the word's.
        text: message, instead of the host's.
        terminating: a cmdlet throws, instead of writing an error.
        job: a method starts a job, which fails with the code and the text.
        seconds: how long the call takes.
        after: how many calls pass first.
        vm: id or name of the only VM whose calls are affected.
    """

    error: str = "failed"
    code: int = 0
    identifier: str = ""
    category: str = ""
    text: str = ""
    terminating: bool = False
    job: bool = False
    seconds: float = 0.0
    after: int = 0
    vm: str = ""


@dataclass(slots=True)
class _Armed:
    name: str
    fault: CallFault
    left: int
    to_pass: int = field(default=0)


class CallFaults:
    """Armed faults of calls. Thread-safe.

    Attributes:
        seen: how often each call was made, by full name.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self.seen: Counter[str] = Counter()

    def arm(self, name: str, count: int = 1, **settings: Any) -> None:
        """Make the next ``count`` calls of ``name`` fail or take long; 0 disarms them.

        Args:
            name: such as ``Get-VHD``, ``Get-CimInstance:Win32_Volume`` or
                ``Msvm_VirtualSystemSnapshotService.CreateSnapshot``. Without class or version: all of them.
            settings: fields of ``CallFault``. With ``seconds`` alone the call is slow and succeeds.

        Raises:
            ValueError: there is no such call or setting.
        """
        if not is_call(name):
            raise ValueError(f"unknown call {name!r}; docs/simulated-host.md lists the calls")
        known = {entry.name: type(entry.default) for entry in fields(CallFault)}
        if unknown := sorted(settings.keys() - known.keys()):
            raise ValueError(
                f"faults of calls have no setting {', '.join(unknown)}; use {', '.join(sorted(known))}"
            )
        given: dict[str, Any] = {key: _typed(known[key], key, value) for key, value in settings.items()}
        if not given.keys() - {"seconds", "after", "vm"} and "seconds" in given:
            given["error"] = ""
        fault = CallFault(**given)
        if fault.error and fault.error not in ERRORS:
            raise ValueError(f"unknown error {fault.error!r}; use one of {', '.join(ERRORS)}")
        if fault.job and METHODS.get(name) is None:
            raise ValueError(f"{name} starts no job")
        with self._lock:
            if count == 0:
                self._armed = [armed for armed in self._armed if armed.name != name]
            else:
                self._armed.append(_Armed(name, fault, count, fault.after))

    def meet(self, name: str, affects: Callable[[str], bool]) -> CallFault | None:
        """Count a call. Returns its fault, if one is armed, and counts that down.

        Args:
            name: full name of the call, with class or version.
            affects: whether the call is about the VM with that id or name.
        """
        with self._lock:
            self.seen[name] += 1
            for armed in self._armed:
                if armed.name not in (name, name.partition(":")[0]):
                    continue
                if armed.fault.vm and not affects(armed.fault.vm):
                    continue
                if armed.to_pass:
                    armed.to_pass -= 1
                    continue
                armed.left -= 1
                if not armed.left:
                    self._armed.remove(armed)
                return armed.fault
        return None

    def armed(self) -> dict[str, int]:
        """Names of calls with armed faults, and how many times each will happen."""
        with self._lock:
            counts: Counter[str] = Counter()
            for armed in self._armed:
                counts[armed.name] += armed.left
            return dict(counts)

    def clear(self) -> None:
        """Disarm everything."""
        with self._lock:
            self._armed.clear()


def is_call(name: str) -> bool:
    """Whether ``name`` is a call that can have faults."""
    base, colon, part = name.partition(":")
    if base in CIM_CMDLETS:
        return not colon or re.fullmatch(r"\w+", part) is not None
    if base == "GetVirtualDiskInformation":
        return not colon or part.isdecimal()
    return name in METHODS or name in FUNCTIONS or name in CMDLETS


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Name and settings from ``name`` or ``name:key=value,key=value``.

    Raises:
        ValueError: a setting is not ``key=value``.
    """
    head, colon, tail = text.rpartition(":")
    if not colon or "=" not in tail:
        return text, {}
    settings = {}
    for setting in tail.split(","):
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} is not key=value")
        settings[key.strip()] = value.strip()
    return head, settings


def _typed(kind: type, key: str, value: object) -> object:
    if not isinstance(value, str):
        return value if kind is not str else str(value)
    if kind is bool:
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        if value.lower() in words:
            return words[value.lower()]
    elif kind is str:
        return value
    else:
        try:
            return int(value, 0) if kind is int else kind(value)
        except ValueError:
            pass
    raise ValueError(f"{key} takes a {kind.__name__}, not {value!r}")
