"""Errors of the builtin engine: what PowerShell would report, and how the model's refusals are named.

The mapping from codes to ``Hvps.*`` ids is the scripts' own (``ps_scripts/lib/Errors.ps1`` and the C#
reader); the suite that runs every operation on both engines holds the two together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hvpsbridge.contract.categories import CATEGORIES
from hvpsbridge.sim.model.errors import DiskError, HyperVError, Wmi


@dataclass(eq=False)
class Failure(Exception):
    """A terminating error of an operation, as the error record says it.

    Attributes:
        error_id: FullyQualifiedErrorId.
        category: ErrorCategory as a word.
        message: text of the exception.
        native: code that Windows gave, if any.
        type_names: .NET types of the exception, most derived first.
    """

    error_id: str
    category: str
    message: str
    native: int | None = None
    type_names: tuple[str, ...] = ("System.InvalidOperationException", "System.SystemException")

    def __str__(self) -> str:
        return self.message


def failure(error_id: str, message: str, native: int | None = None) -> Failure:
    """An error of the contract; a native code follows the id as the scripts write it."""
    suffix = f",native=0x{native & 0xFFFFFFFF:08X}" if native else ""
    return Failure(error_id + suffix, CATEGORIES[error_id], message, native)


# Codes found in a refusal of VMMS, the most telling first (docs/hyperv-facts.md#wmi-return-codes,
# docs/hyperv-facts.md#refusal-hresults).
_CODES: tuple[tuple[str, frozenset[int]], ...] = (
    ("Hvps.CommitForkFailed", frozenset({0x80048102, 0x800703EE})),
    ("Hvps.NoSpace", frozenset({0x80070070, 0x80070027, 112})),
    ("Hvps.LogonRightMissing", frozenset({0x8007052F, 0x80070569})),
    ("Hvps.VmBusy", frozenset({Wmi.IN_USE, Wmi.INVALID_STATE, 0x80070020})),
    ("Hvps.AccessDenied", frozenset({Wmi.ACCESS_DENIED, 0x80070005, 5})),
)
_HRESULT = re.compile(r"0x([0-9A-Fa-f]{8})")

# Codes of virtdisk.dll and of opening files (docs/hyperv-facts.md#virtdisk-codes).
_DISK_CODES: tuple[tuple[str, frozenset[int]], ...] = (
    ("Hvps.FileNotFound", frozenset({2, 3, 0x80070002, 0x80070003})),
    ("Hvps.AccessDenied", frozenset({5, 1314, 0x80070005})),
    ("Hvps.DiskBusy", frozenset({32, 0x80070020, 0xC03A001E})),
    (
        "Hvps.ChainBroken",
        frozenset({0xC03A000D, 0xC03A000E, 0xC03A000F, *range(0xC03A0016, 0xC03A001A)}),
    ),
    (
        "Hvps.TrackingUnusable",
        frozenset({0xC03A0029, 0xC03A002A, 0xC03A0030, *range(0xC03A0020, 0xC03A0025)}),
    ),
)


def of_job(what: str, code: int, text: str) -> Failure:
    """A WMI job or method that failed with ``code`` and the host's text."""
    shown = [int(found, 16) for found in _HRESULT.findall(text)]
    error_id = next(
        (name for name, codes in _CODES if codes.intersection((code, *shown))),
        "Hvps.JobFailed",
    )
    return failure(error_id, f"{what} failed ({code}): {text}", shown[0] if shown else code)


def of_refusal(what: str, error: HyperVError) -> Failure:
    """A method of VMMS that refused at once."""
    error_id = next((name for name, codes in _CODES if error.code in codes), "Hvps.JobFailed")
    return failure(error_id, f"{what} was refused ({error.code})", error.code)


def of_disk(error: DiskError, otherwise: str = "Hvps.DiskUnreadable") -> Failure:
    """A refusal of the virtual disk driver or the file system; ``otherwise`` names the codes not known."""
    code = error.code & 0xFFFFFFFF
    error_id = next((name for name, codes in _DISK_CODES if code in codes), otherwise)
    return failure(error_id, f"cannot use {error.path}", code)
