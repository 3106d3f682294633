"""The errors that operations report: id, PowerShell category, Windows codes, and the class raised in hvps.

The scripts repeat this table and are tested against it (``ps_scripts/lib/Errors.ps1``,
``ps_scripts/lib/reader/Failure.cs``); the simulated host reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hvpsbridge import errors
from hvpsbridge.errors import OperationFailed


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One error of the contract.

    Attributes:
        id: FullyQualifiedErrorId that the script gives it.
        category: PowerShell's ErrorCategory.
        raised: class of the error in hvps; most ids have no class of their own.
        vmms_codes: WMI return values, HRESULTs and Win32 codes in refusals of the Hyper-V services
            (docs/hyperv-facts.md#wmi-return-codes, docs/hyperv-facts.md#refusal-hresults,
            docs/hyperv-facts.md#commit-forks, docs/hyperv-facts.md#logon-right).
        disk_codes: Win32 codes and HRESULTs from opening, attaching and querying disks
            (docs/hyperv-facts.md#virtdisk-codes).
    """

    id: str
    category: str
    raised: type[OperationFailed] = OperationFailed
    vmms_codes: tuple[int, ...] = ()
    disk_codes: tuple[int, ...] = ()


# Where a refusal carries several codes, the first row that has one of them decides.
_TABLE: tuple[ErrorKind, ...] = (
    ErrorKind("Hvps.CommitForkFailed", "DeviceError", errors.CommitForkFailed, (0x80048102, 0x800703EE)),
    ErrorKind(
        "Hvps.NoSpace",
        "LimitsExceeded",
        errors.HostDiskFull,
        (0x80070070, 0x80070027, 112),
        (39, 112, 0x80070070, 0x80070027),
    ),
    ErrorKind("Hvps.LogonRightMissing", "AuthenticationError", vmms_codes=(0x8007052F, 0x80070569)),
    # Before VmBusy: its code, 32774, comes along.
    ErrorKind("Hvps.FileLocked", "ResourceBusy", errors.FileLocked, (0x80070020,)),
    ErrorKind("Hvps.VmBusy", "ResourceBusy", errors.VmBusy, (32774, 32775)),
    ErrorKind(
        "Hvps.AccessDenied",
        "PermissionDenied",
        errors.AccessDenied,
        (32769, 0x80070005, 5),
        (5, 1314, 0x80070005),
    ),
    ErrorKind(
        "Hvps.FileNotFound",
        "ObjectNotFound",
        errors.DiskUnreadable,
        disk_codes=(2, 3, 0x80070002, 0x80070003),
    ),
    ErrorKind("Hvps.DiskBusy", "ResourceBusy", errors.DiskBusy, disk_codes=(32, 0x80070020, 0xC03A001E)),
    ErrorKind(
        "Hvps.ChainBroken",
        "InvalidData",
        errors.DiskUnreadable,
        disk_codes=(
            0xC03A000D,
            0xC03A000E,
            0xC03A000F,
            0xC03A0016,
            0xC03A0017,
            0xC03A0018,
            0xC03A0019,
        ),
    ),
    ErrorKind(
        "Hvps.TrackingUnusable",
        "ResourceUnavailable",
        errors.TrackingUnusable,
        disk_codes=(
            0xC03A0029,
            0xC03A002A,
            0xC03A0030,
            0xC03A0020,
            0xC03A0021,
            0xC03A0022,
            0xC03A0023,
            0xC03A0024,
        ),
    ),
    ErrorKind("Hvps.DiskUnreadable", "OpenError", errors.DiskUnreadable),
    ErrorKind("Hvps.ReadFailed", "ReadError", errors.DiskUnreadable),
    ErrorKind("Hvps.WriteFailed", "WriteError"),
    ErrorKind("Hvps.FileExists", "ResourceExists", disk_codes=(80, 183)),
    ErrorKind("Hvps.BadRequest", "InvalidArgument"),
    ErrorKind("Hvps.FormatUnsupported", "NotImplemented"),
    ErrorKind("Hvps.VmNotFound", "ObjectNotFound", errors.VmNotFound),
    ErrorKind("Hvps.CheckpointNotFound", "ObjectNotFound", errors.CheckpointNotFound),
    ErrorKind("Hvps.ConsistencyFailed", "InvalidResult", errors.ConsistencyNotReached),
    ErrorKind("Hvps.JobFailed", "InvalidResult"),
    # A job that ends with a code of VmBusy.
    ErrorKind("Hvps.JobBusy", "ResourceBusy", errors.JobBusy),
    ErrorKind("Hvps.JobTimedOut", "OperationTimeout"),
    ErrorKind("Hvps.ScriptsRefused", "SecurityError", errors.ScriptsRefused),
    ErrorKind("Hvps.Unexpected", "NotSpecified"),
)

# Codes that say that a disk's handle is gone, so that nothing can be read through it either
# (docs/hyperv-facts.md#virtdisk-codes).
LOST_HANDLE_CODES = frozenset({6, 21, 55, 59, 64, 433, 1006, 1117, 1167})

# Return values that the pages of the snapshot service name, by what the other services return for the same
# (docs/hyperv-facts.md#wmi-return-codes).
SNAPSHOT_RETURNS = {1: 32770, 2: 32768, 3: 32772, 4: 32773, 5: 32775, 6: 32773}

ERRORS: dict[str, ErrorKind] = {kind.id: kind for kind in _TABLE}


def vmms_error_id(codes: Iterable[int], fallback: str) -> str:
    """The id for codes in a refusal of the Hyper-V services; ``fallback`` for unknown codes."""
    given = frozenset(codes)
    return next((kind.id for kind in _TABLE if given.intersection(kind.vmms_codes)), fallback)


def disk_error_id(code: int, fallback: str) -> str:
    """The id for a code from opening, attaching or querying a disk; ``fallback`` for an unknown code."""
    return next((kind.id for kind in _TABLE if code in kind.disk_codes), fallback)
