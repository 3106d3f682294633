"""Codes of Windows, WMI, the virtual disk driver and VSS: their names, causes and remedies.

The only such table: errors show its entries, ``docs/troubleshooting.md`` repeats it, and tests hold the codes
of the scripts (``contract.errors``) against it. Nothing decides by it; ids of errors do.

Names are those of Microsoft's headers and documentation (docs/hyperv-facts.md#native-codes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Origin(StrEnum):
    """Where a code comes from."""

    WINDOWS = "Windows"
    WMI = "WMI"
    HYPERV = "Hyper-V"
    DISK = "virtual disk"
    VSS = "VSS"


@dataclass(frozen=True, slots=True)
class NativeCode:
    """One code.

    Attributes:
        code: as Windows reports it; a Win32 code also stands for the HRESULT 0x8007xxxx with that code.
        name: its name in Microsoft's documentation.
        cause: what happened, without a full stop.
        remedy: what to do about it.
    """

    origin: Origin
    code: int
    name: str
    cause: str
    remedy: str


_LOGS = "see the Hyper-V event logs of the host"
_LATER = "try again later; if it stays, restart the host's Hyper-V management service (vmms)"
_FREE = "free space on the volumes of the VM"
_HOLDER = "find out which program holds the file: a scanner, another backup, a mounted disk"
_RIGHTS = "make the user an administrator of the host; on SMB, see docs/real-host.md"
_NETWORK = "check the file server and the network between it and the host"
_STORAGE = "check the storage of the host, then run chkdsk or Repair-Volume"
_MEMORY = "free memory on the host"
_CHAIN = "do not start the VM; compare the chain with Get-VHD, and repair it or restore the VM"
_FILE = "the file is damaged: restore it from a recovery point"
_MOVE_FILE = "copy the file back to a plain folder without compression, encryption or sparse flag"
_TRACKING = "nothing: the disk is compared instead; if it happens every time, find out what resets tracking"
_GUEST = "see the event log of the guest, and `vssadmin list writers` there"
_REPORT = "run again with -vv, and report it if it happens again"

_WINDOWS: tuple[tuple[int, str, str, str], ...] = (
    (1, "ERROR_INVALID_FUNCTION", "the file system or driver does not know this request", _REPORT),
    (2, "ERROR_FILE_NOT_FOUND", "a file does not exist", "check whether a merge or a move is under way"),
    (3, "ERROR_PATH_NOT_FOUND", "a folder does not exist", "check whether its volume is online"),
    (5, "ERROR_ACCESS_DENIED", "the user may not do this, or the file is on SMB without delegation", _RIGHTS),
    (6, "ERROR_INVALID_HANDLE", "a handle was closed meanwhile", _REPORT),
    (8, "ERROR_NOT_ENOUGH_MEMORY", "the host is out of memory", _MEMORY),
    (14, "ERROR_OUTOFMEMORY", "the host is out of memory", _MEMORY),
    (19, "ERROR_WRITE_PROTECT", "the volume is read-only", "make the volume writable"),
    (21, "ERROR_NOT_READY", "the volume is not ready", "bring the volume online"),
    (23, "ERROR_CRC", "the storage returned damaged data", _STORAGE),
    (27, "ERROR_SECTOR_NOT_FOUND", "a read ends beyond the end of the disk", _REPORT),
    (32, "ERROR_SHARING_VIOLATION", "another program has the file open", _HOLDER),
    (33, "ERROR_LOCK_VIOLATION", "another program has locked a part of the file", _HOLDER),
    (38, "ERROR_HANDLE_EOF", "a read begins beyond the end of the disk", _REPORT),
    (39, "ERROR_HANDLE_DISK_FULL", "a volume is full", _FREE),
    (50, "ERROR_NOT_SUPPORTED", "this version of Windows or this file cannot do it", _REPORT),
    (53, "ERROR_BAD_NETPATH", "the file server cannot be found", _NETWORK),
    (59, "ERROR_UNEXP_NET_ERR", "the connection to the file server failed", _NETWORK),
    (64, "ERROR_NETNAME_DELETED", "the connection to the file server is gone", _NETWORK),
    (67, "ERROR_BAD_NET_NAME", "the share does not exist", _NETWORK),
    (80, "ERROR_FILE_EXISTS", "a file of that name exists", "choose another name or folder"),
    (87, "ERROR_INVALID_PARAMETER", "Windows does not accept a value", _REPORT),
    (112, "ERROR_DISK_FULL", "a volume is full", _FREE),
    (121, "ERROR_SEM_TIMEOUT", "the storage or network did not answer in time", _STORAGE),
    (122, "ERROR_INSUFFICIENT_BUFFER", "an answer is larger than expected", _REPORT),
    (123, "ERROR_INVALID_NAME", "a path has characters that Windows does not accept", "rename the file"),
    (145, "ERROR_DIR_NOT_EMPTY", "there is something in the folder", "look at what is in the folder"),
    (170, "ERROR_BUSY", "the resource is in use", _LATER),
    (183, "ERROR_ALREADY_EXISTS", "something of that name exists", "choose another name or folder"),
    (206, "ERROR_FILENAME_EXCED_RANGE", "a path is too long", "move the VM to a folder with a shorter path"),
    (
        665,
        "ERROR_FILE_SYSTEM_LIMITATION",
        "the file system cannot do this, or the file is too fragmented",
        "defragment the volume; do not use a share of the same host",
    ),
    (995, "ERROR_OPERATION_ABORTED", "the read was cancelled", "run again"),
    (1006, "ERROR_FILE_INVALID", "the volume of an open file was changed from outside", _CHAIN),
    (1117, "ERROR_IO_DEVICE", "the storage could not be read", _STORAGE),
    (1231, "ERROR_NETWORK_UNREACHABLE", "the network of the file server cannot be reached", _NETWORK),
    (1314, "ERROR_PRIVILEGE_NOT_HELD", "the session lacks a privilege of administrators", _RIGHTS),
    (1326, "ERROR_LOGON_FAILURE", "the file server or domain refused the login", _RIGHTS),
    (
        1327,
        "ERROR_ACCOUNT_RESTRICTION",
        "the Hyper-V service may not log on for the VM",
        "give NT VIRTUAL MACHINE\\Virtual Machines the right to log on as a service",
    ),
    (
        1385,
        "ERROR_LOGON_TYPE_NOT_GRANTED",
        "the Hyper-V service may not log on for the VM",
        "give NT VIRTUAL MACHINE\\Virtual Machines the right to log on as a service",
    ),
    (1392, "ERROR_FILE_CORRUPT", "the file or folder is damaged", _STORAGE),
    (1393, "ERROR_DISK_CORRUPT", "the volume is damaged", _STORAGE),
    (1450, "ERROR_NO_SYSTEM_RESOURCES", "the host lacks kernel memory", _MEMORY),
    (1460, "ERROR_TIMEOUT", "something on the host did not answer in time", _LATER),
    (1722, "RPC_S_SERVER_UNAVAILABLE", "a service of the host does not answer", _LATER),
    (1726, "RPC_S_CALL_FAILED", "a service of the host ended during a call", _LATER),
    (0x80004005, "E_FAIL", "Windows gives no reason", _LOGS),
    (0x8000FFFF, "E_UNEXPECTED", "Windows gives no reason", _LOGS),
    (0x80010108, "RPC_E_DISCONNECTED", "a service of the host was restarted during a call", "run again"),
)
# Return values of the Msvm_* services, and errors of WMI itself.
_WMI: tuple[tuple[int, str, str, str], ...] = (
    (32768, "Failed", "the Hyper-V service could not do it", _LOGS),
    (32769, "Access Denied", "the user may not do this", _RIGHTS),
    (32770, "Not Supported", "this host or VM does not support it", _LOGS),
    (32771, "Status is unknown", "the Hyper-V service does not know the state of the VM", _LATER),
    (32772, "Timeout", "the Hyper-V service did not finish in time", _LATER),
    (32773, "Invalid parameter", "the Hyper-V service does not accept a value", _REPORT),
    (32774, "System is in use", "another operation holds the VM, or a file of it is locked", _LATER),
    (32775, "Invalid state for this operation", "the VM is in a state that does not allow it", _LATER),
    (32776, "Incorrect data type", "the Hyper-V service does not accept a value", _REPORT),
    (32777, "System is not available", "the VM or the service is not available", _LATER),
    (32778, "Out of memory", "the host is out of memory", _MEMORY),
    (32779, "File not found", "a file of the VM does not exist", "check whether its volume is online"),
    (0x80041001, "WBEM_E_FAILED", "WMI gives no reason", _LOGS),
    (0x80041002, "WBEM_E_NOT_FOUND", "the object is gone", "run again"),
    (0x80041003, "WBEM_E_ACCESS_DENIED", "the user may not ask WMI", _RIGHTS),
    (0x80041006, "WBEM_E_OUT_OF_MEMORY", "WMI is out of memory", _MEMORY),
    (0x80041008, "WBEM_E_INVALID_PARAMETER", "WMI does not accept a value", _REPORT),
    (0x8004100E, "WBEM_E_INVALID_NAMESPACE", "the host has no Hyper-V", "install the role Hyper-V"),
    (0x80041010, "WBEM_E_INVALID_CLASS", "this version of Windows lacks a class", _REPORT),
    (0x80041013, "WBEM_E_PROVIDER_LOAD_FAILURE", "the Hyper-V service does not answer WMI", _LATER),
    (0x80041017, "WBEM_E_INVALID_QUERY", "WMI does not accept a query", _REPORT),
    (0x80041032, "WBEM_E_CALL_CANCELLED", "WMI cancelled the call", "run again"),
    (0x80041033, "WBEM_E_SHUTTING_DOWN", "WMI or the host is shutting down", "run again when it is back"),
    (
        0x8004106C,
        "WBEM_E_QUOTA_VIOLATION",
        "WMI is at a limit of memory or handles",
        "restart the service winmgmt, or raise the limits of its provider host",
    ),
)
_HYPERV: tuple[tuple[int, str, str, str], ...] = (
    (
        0x80048102,
        "commit failed",
        "a checkpoint was rolled back on disk while the VM uses its new file",
        "do not restart or migrate the VM; see docs/troubleshooting.md",
    ),
)
_DISK: tuple[tuple[int, str, str, str], ...] = (
    (0xC03A0001, "ERROR_VHD_DRIVE_FOOTER_MISSING", "the file has no footer", _FILE),
    (0xC03A0002, "ERROR_VHD_DRIVE_FOOTER_CHECKSUM_MISMATCH", "the checksum of its footer is wrong", _FILE),
    (0xC03A0003, "ERROR_VHD_DRIVE_FOOTER_CORRUPT", "its footer is damaged", _FILE),
    (0xC03A0004, "ERROR_VHD_FORMAT_UNKNOWN", "the file is not a virtual disk", _FILE),
    (0xC03A0005, "ERROR_VHD_FORMAT_UNSUPPORTED_VERSION", "its format is newer than the host", _FILE),
    (0xC03A0006, "ERROR_VHD_SPARSE_HEADER_CHECKSUM_MISMATCH", "the checksum of its header is wrong", _FILE),
    (0xC03A0007, "ERROR_VHD_SPARSE_HEADER_UNSUPPORTED_VERSION", "its header is newer than the host", _FILE),
    (0xC03A0008, "ERROR_VHD_SPARSE_HEADER_CORRUPT", "its header is damaged", _FILE),
    (0xC03A0009, "ERROR_VHD_BLOCK_ALLOCATION_FAILURE", "no block could be allocated", _FREE),
    (0xC03A000A, "ERROR_VHD_BLOCK_ALLOCATION_TABLE_CORRUPT", "its allocation table is damaged", _FILE),
    (0xC03A000B, "ERROR_VHD_INVALID_BLOCK_SIZE", "its block size is not valid", _FILE),
    (0xC03A000C, "ERROR_VHD_BITMAP_MISMATCH", "a bitmap does not fit its parent", _CHAIN),
    (0xC03A000D, "ERROR_VHD_PARENT_VHD_NOT_FOUND", "the parent file is missing", _CHAIN),
    (0xC03A000E, "ERROR_VHD_CHILD_PARENT_ID_MISMATCH", "the parent file is another disk", _CHAIN),
    (0xC03A000F, "ERROR_VHD_CHILD_PARENT_TIMESTAMP_MISMATCH", "the parent file was changed", _CHAIN),
    (0xC03A0010, "ERROR_VHD_METADATA_READ_FAILURE", "its metadata cannot be read", _FILE),
    (0xC03A0011, "ERROR_VHD_METADATA_WRITE_FAILURE", "its metadata cannot be written", _STORAGE),
    (0xC03A0012, "ERROR_VHD_INVALID_SIZE", "its size is not valid", _FILE),
    (0xC03A0013, "ERROR_VHD_INVALID_FILE_SIZE", "the size of the file is not valid", _FILE),
    (0xC03A0014, "ERROR_VIRTDISK_PROVIDER_NOT_FOUND", "no driver knows this format", _FILE),
    (0xC03A0015, "ERROR_VIRTDISK_NOT_VIRTUAL_DISK", "it is not a virtual disk", _FILE),
    (0xC03A0016, "ERROR_VHD_PARENT_VHD_ACCESS_DENIED", "the parent file cannot be opened", _RIGHTS),
    (0xC03A0017, "ERROR_VHD_CHILD_PARENT_SIZE_MISMATCH", "the parent has another size", _CHAIN),
    (0xC03A0018, "ERROR_VHD_DIFFERENCING_CHAIN_CYCLE_DETECTED", "the chain is a circle", _CHAIN),
    (0xC03A0019, "ERROR_VHD_DIFFERENCING_CHAIN_ERROR_IN_PARENT", "a parent cannot be opened", _CHAIN),
    (0xC03A001A, "ERROR_VIRTUAL_DISK_LIMITATION", "the file is compressed, encrypted or sparse", _MOVE_FILE),
    (0xC03A001B, "ERROR_VHD_INVALID_TYPE", "this kind of virtual disk does not support it", _REPORT),
    (0xC03A001C, "ERROR_VHD_INVALID_STATE", "the disk is in a state that does not allow it", _LATER),
    (0xC03A001D, "ERROR_VIRTDISK_UNSUPPORTED_DISK_SECTOR_SIZE", "its sector size is not supported", _REPORT),
    (0xC03A001E, "ERROR_VIRTDISK_DISK_ALREADY_OWNED", "the disk is already attached", _HOLDER),
    (0xC03A001F, "ERROR_VIRTDISK_DISK_ONLINE_AND_WRITABLE", "a VM or the host writes to the disk", _HOLDER),
    (0xC03A0020, "ERROR_CTLOG_TRACKING_NOT_INITIALIZED", "changes are not tracked", _TRACKING),
    (0xC03A0021, "ERROR_CTLOG_LOGFILE_SIZE_EXCEEDED_MAXSIZE", "the tracking file was full", _TRACKING),
    (0xC03A0022, "ERROR_CTLOG_VHD_CHANGED_OFFLINE", "the disk was changed outside its VM", _TRACKING),
    (0xC03A0023, "ERROR_CTLOG_INVALID_TRACKING_STATE", "the state of tracking is not valid", _TRACKING),
    (0xC03A0024, "ERROR_CTLOG_INCONSISTENT_TRACKING_FILE", "the tracking file does not fit", _TRACKING),
    (0xC03A0028, "ERROR_VHD_METADATA_FULL", "there is no space for more metadata", _FILE),
    (0xC03A0029, "ERROR_VHD_INVALID_CHANGE_TRACKING_ID", "the disk does not know the id", _TRACKING),
    (0xC03A002A, "ERROR_VHD_CHANGE_TRACKING_DISABLED", "change tracking is off", _TRACKING),
    (0xC03A0030, "ERROR_VHD_MISSING_CHANGE_TRACKING_INFORMATION", "nothing is known for the id", _TRACKING),
)
_VSS: tuple[tuple[int, str, str, str], ...] = (
    (0x80042301, "VSS_E_BAD_STATE", "VSS was not ready for the call", _GUEST),
    (0x80042302, "VSS_E_UNEXPECTED", "VSS failed without a reason", _GUEST),
    (0x80042306, "VSS_E_PROVIDER_VETO", "a VSS provider refused", _GUEST),
    (0x80042308, "VSS_E_OBJECT_NOT_FOUND", "a volume or shadow copy is gone", _GUEST),
    (
        0x8004230C,
        "VSS_E_VOLUME_NOT_SUPPORTED",
        "a volume cannot have shadow copies",
        "use NTFS or ReFS in the guest, or crash consistency",
    ),
    (0x8004230F, "VSS_E_UNEXPECTED_PROVIDER_ERROR", "a VSS provider failed", _GUEST),
    (0x80042312, "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED", "too many volumes", _GUEST),
    (
        0x80042313,
        "VSS_E_FLUSH_WRITES_TIMEOUT",
        "the guest could not flush its writes in time",
        "back the VM up when it is less busy, or use crash consistency",
    ),
    (
        0x80042314,
        "VSS_E_HOLD_WRITES_TIMEOUT",
        "the guest could not hold its writes for so long",
        "back the VM up when it is less busy, or use crash consistency",
    ),
    (0x80042315, "VSS_E_UNEXPECTED_WRITER_ERROR", "a VSS writer failed", _GUEST),
    (
        0x80042316,
        "VSS_E_SNAPSHOT_SET_IN_PROGRESS",
        "another shadow copy is being made",
        "move the schedules of the two backups apart",
    ),
    (
        0x80042317,
        "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED",
        "there are too many shadow copies",
        "delete shadow copies in the guest",
    ),
    (0x80042318, "VSS_E_WRITER_INFRASTRUCTURE", "VSS itself is damaged", _GUEST),
    (
        0x80042319,
        "VSS_E_WRITER_NOT_RESPONDING",
        "a VSS writer does not answer",
        "restart the service of that writer in the guest",
    ),
    (
        0x8004231F,
        "VSS_E_INSUFFICIENT_STORAGE",
        "there is no space for shadow copies",
        "free space in the guest, or raise its limit for shadow copies",
    ),
    (0x800423F0, "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT", "a VSS writer needs more volumes", _GUEST),
    (0x800423F1, "VSS_E_WRITERERROR_OUTOFRESOURCES", "a VSS writer lacks memory", _GUEST),
    (
        0x800423F2,
        "VSS_E_WRITERERROR_TIMEOUT",
        "a VSS writer was not done in time",
        "back the VM up when it is less busy, or use crash consistency",
    ),
    (0x800423F3, "VSS_E_WRITERERROR_RETRYABLE", "a VSS writer failed for the moment", "run again later"),
    (0x800423F4, "VSS_E_WRITERERROR_NONRETRYABLE", "a VSS writer failed", _GUEST),
)

CODES: dict[int, NativeCode] = {
    code: NativeCode(origin, code, *texts)
    for origin, rows in (
        (Origin.WINDOWS, _WINDOWS),
        (Origin.WMI, _WMI),
        (Origin.HYPERV, _HYPERV),
        (Origin.DISK, _DISK),
        (Origin.VSS, _VSS),
    )
    for code, *texts in rows
}

_WIN32_HRESULT = 0x8007


def find_code(code: int) -> NativeCode | None:
    """The entry of a code; an HRESULT 0x8007xxxx is found by its Win32 code. None if it is not known."""
    code &= 0xFFFFFFFF
    found = CODES.get(code)
    if found is None and code >> 16 == _WIN32_HRESULT:
        win32 = CODES.get(code & 0xFFFF)
        return win32 if win32 is not None and win32.origin is Origin.WINDOWS else None
    return found


def code_text(code: int) -> str:
    """A code with its name and cause: ``0x80070020 ERROR_SHARING_VIOLATION (another program ...)``."""
    number = f"0x{code & 0xFFFFFFFF:08X}"
    known = find_code(code)
    return number if known is None else f"{number} {known.name} ({known.cause})"
