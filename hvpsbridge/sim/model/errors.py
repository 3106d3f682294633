"""Errors of the simulated host.

These are Hyper-V's errors, not those of hvps. They leave the simulator as a WMI return value, a failed job,
a Win32 code or a PowerShell error record; product code never sees them as exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Wmi(IntEnum):
    """Return and job error codes of the v2 services (docs/hyperv-facts.md#wmi-return-codes)."""

    DONE = 0
    JOB_STARTED = 4096
    FAILED = 32768
    ACCESS_DENIED = 32769
    NOT_SUPPORTED = 32770
    TIMEOUT = 32772
    INVALID_PARAMETER = 32773
    IN_USE = 32774
    INVALID_STATE = 32775
    NOT_AVAILABLE = 32777
    NOT_FOUND = 32779


# ErrorIdentifier and ErrorCategory when a cmdlet meets the code (docs/hyperv-facts.md#wmi-return-codes).
IDENTIFIERS: dict[int, tuple[str, str]] = {
    Wmi.FAILED: ("OperationFailed", "NotSpecified"),
    Wmi.ACCESS_DENIED: ("AccessDenied", "PermissionDenied"),
    Wmi.NOT_SUPPORTED: ("NotSupported", "InvalidOperation"),
    Wmi.TIMEOUT: ("OperationTimeout", "OperationTimeout"),
    Wmi.INVALID_PARAMETER: ("InvalidParameter", "InvalidArgument"),
    Wmi.IN_USE: ("ObjectInUse", "ResourceBusy"),
    Wmi.INVALID_STATE: ("InvalidState", "InvalidOperation"),
    Wmi.NOT_AVAILABLE: ("StatusUnavailable", "ResourceUnavailable"),
    Wmi.NOT_FOUND: ("ObjectNotFound", "ObjectNotFound"),
}


class Win32(IntEnum):
    """Codes of virtdisk.dll and kernel32.dll that the model uses (docs/hyperv-facts.md#virtdisk-codes)."""

    FILE_NOT_FOUND = 2
    PATH_NOT_FOUND = 3
    ACCESS_DENIED = 5
    INVALID_HANDLE = 6
    CRC = 23
    SECTOR_NOT_FOUND = 27
    SHARING_VIOLATION = 32
    NOT_SUPPORTED = 50
    FILE_EXISTS = 80
    INVALID_PARAMETER = 87
    INSUFFICIENT_BUFFER = 122
    DISK_FULL = 112
    DIR_NOT_EMPTY = 145
    ALREADY_EXISTS = 183
    IO_DEVICE = 1117
    PRIVILEGE_NOT_HELD = 1314
    FILE_CORRUPT = 1392
    VHD_PARENT_NOT_FOUND = 0xC03A000D
    VHD_NOT_A_DISK = 0xC03A0015
    VHD_COMPRESSED = 0xC03A001A
    VHD_INVALID_TYPE = 0xC03A001B
    VHD_INVALID_STATE = 0xC03A001C
    VHD_ALREADY_OWNED = 0xC03A001E
    VHD_ONLINE_AND_WRITABLE = 0xC03A001F
    VHD_INVALID_TRACKING_ID = 0xC03A0029
    VHD_TRACKING_DISABLED = 0xC03A002A
    VHD_TRACKING_MISSING = 0xC03A0030


@dataclass(eq=False)
class HyperVError(Exception):
    """An error of VMMS.

    Attributes:
        code: WMI code (``Wmi``).
        message: text in the host's language; no code may depend on it.
        hresult: HRESULT in the text, if there is one.
    """

    code: int
    message: str
    hresult: int | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def identifier(self) -> str:
        """``ErrorIdentifier`` of the VirtualizationException that a cmdlet reports."""
        return IDENTIFIERS.get(self.code, IDENTIFIERS[Wmi.FAILED])[0]

    @property
    def category(self) -> str:
        """Name of the ``ErrorCategory`` of that exception."""
        return IDENTIFIERS.get(self.code, IDENTIFIERS[Wmi.FAILED])[1]


@dataclass(eq=False)
class DiskError(Exception):
    """An error of the virtual disk driver or the file system: a Win32 or VHD code."""

    code: int
    path: str

    @property
    def hresult(self) -> int:
        """The code as an HRESULT."""
        return self.code if self.code > 0xFFFF else 0x80070000 | self.code

    def __str__(self) -> str:
        return f"0x{self.code:08X} for {self.path}"


def vm_not_found(wanted: object, *, by_name: bool = False) -> HyperVError:
    """What ``Get-VM`` says of a VM that is not on the host (docs/hyperv-facts.md#missing-vm)."""
    what = "name" if by_name else "id"
    return HyperVError(
        Wmi.INVALID_PARAMETER, f'Hyper-V was unable to find a virtual machine with {what} "{wanted}".'
    )
