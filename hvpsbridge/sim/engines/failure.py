"""Errors of the builtin engine: the error records that scripts report when the model refuses.

Ids and categories come from ``hvpsbridge.contract.errors``, as those of the scripts do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hvpsbridge.contract.errors import ERRORS, SNAPSHOT_RETURNS, disk_error_id, vmms_error_id
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.errors import DiskError, HyperVError


@dataclass(eq=False)
class Failure(Exception):
    """A terminating error of an operation.

    Attributes:
        error_id: FullyQualifiedErrorId.
        category: name of the ErrorCategory.
        message: text of the exception.
        native: code from Windows, if any.
        type_names: .NET types of the exception, most derived first.
    """

    error_id: str
    category: str
    message: str
    native: int | None = None
    type_names: tuple[str, ...] = ("System.InvalidOperationException", "System.SystemException")

    def __str__(self) -> str:
        return self.message

    def is_a(self, error_id: str) -> bool:
        """Whether this is the error of the contract with that id, whatever its code."""
        return self.error_id.partition(",")[0] == error_id


def failure(error_id: str, message: str, native: int | None = None) -> Failure:
    """An error of the contract. A native code is appended to the id, as by the scripts."""
    suffix = f",native=0x{native & 0xFFFFFFFF:08X}" if native else ""
    return Failure(error_id + suffix, ERRORS[error_id].category, message, native)


_HRESULT = re.compile(r"0x([0-9A-Fa-f]{8})")


def of_job(what: str, code: int, text: str) -> Failure:
    """A WMI job or method that failed with ``code`` and the host's text."""
    shown = [int(found, 16) for found in _HRESULT.findall(text)]
    error_id = vmms_error_id((code, *shown), "Hvps.JobFailed")
    if error_id == "Hvps.VmBusy":
        error_id = "Hvps.JobBusy"
    return failure(error_id, f"{what} failed ({code}): {text}", shown[0] if shown else code)


def of_refusal(what: str, error: HyperVError) -> Failure:
    """A method of VMMS that refused at once."""
    error_id = vmms_error_id((SNAPSHOT_RETURNS.get(error.code, error.code),), "Hvps.JobFailed")
    return failure(error_id, f"{what} was refused ({error.code})", error.code)


def of_disk(error: DiskError, otherwise: str = "Hvps.DiskUnreadable") -> Failure:
    """A refusal of the virtual disk driver or the file system; ``otherwise`` names the codes not known."""
    code = error.code & 0xFFFFFFFF
    return failure(disk_error_id(code, otherwise), f"cannot use {error.path}", code)


def of_call(error: CallRefused) -> Failure:
    """A cmdlet or WMI query that failed, where the script does not expect it (``ConvertTo-HvpsError``)."""
    code = native_code(error)
    shown = f"HRESULT 0x{error.hresult:08x}" if error.hresult else error.identifier
    by_category = {"PermissionDenied": "Hvps.AccessDenied", "ResourceBusy": "Hvps.VmBusy"}
    error_id = by_category.get(error.category, "Hvps.Unexpected")
    return failure(error_id, f"{error.message} [{shown}]", code)


def of_disk_call(error: HyperVError, path: str) -> Failure:
    """``Get-VHD`` that failed (``ConvertTo-HvpsDiskError``)."""
    by_category = {
        "ResourceBusy": "Hvps.DiskBusy",
        "ObjectNotFound": "Hvps.FileNotFound",
        "PermissionDenied": "Hvps.AccessDenied",
    }
    code = native_code(error)
    error_id = disk_error_id(code, by_category.get(error.category, "Hvps.DiskUnreadable"))
    return failure(error_id, f"cannot query {path}: {error.message}", code)


def is_missing(error: CallRefused) -> bool:
    """Whether ``Get-VM`` says so that the VM does not exist (``Get-HvpsVmObject``)."""
    return error.identifier in ("InvalidParameter", "ObjectNotFound") or error.category == "ObjectNotFound"


def is_not_found(error: CallRefused) -> bool:
    """Whether a WMI object is gone (``Test-HvpsNotFound``)."""
    return error.hresult == 0x80041002 or error.category == "ObjectNotFound"


def native_code(error: HyperVError) -> int:
    """The code that a script finds in the id or the text."""
    shown = _HRESULT.search(error.message)
    return error.hresult or (int(shown[1], 16) if shown else 0)
