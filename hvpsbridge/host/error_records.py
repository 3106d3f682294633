"""Turns error records of a host into classes of ``hvpsbridge.errors``.

Decisions depend on ids, categories and codes, never on texts, which are in the host's language
(docs/hyperv-facts.md#localized-text). A script names its errors ``Hvps.Something`` and appends
``native=0x...`` to the id when Windows gave a code. Refusals of the PowerShell engine itself are recognized
by its own ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hvpsbridge.contract.errors import ERRORS
from hvpsbridge.errors import OperationFailed
from hvpsbridge.text import one_line

# Raised by the engine instead of running the script: antivirus, language mode
# (docs/hyperv-facts.md#engine-refusals).
ENGINE_REFUSALS = re.compile(
    r"ScriptContainedMaliciousContent|CannotDefineNewType(NotSupported)?|\w+InConstrainedLanguage|ScriptsNotAllowed"
)

# ErrorCategory as the wire numbers it (docs/hyperv-facts.md#error-categories).
_CATEGORIES: dict[int, str] = {
    0: "NotSpecified",
    1: "OpenError",
    2: "CloseError",
    3: "DeviceError",
    4: "DeadlockDetected",
    5: "InvalidArgument",
    6: "InvalidData",
    7: "InvalidOperation",
    8: "InvalidResult",
    9: "InvalidType",
    10: "MetadataError",
    11: "NotImplemented",
    12: "NotInstalled",
    13: "ObjectNotFound",
    14: "OperationStopped",
    15: "OperationTimeout",
    16: "SyntaxError",
    17: "ParserError",
    18: "PermissionDenied",
    19: "ResourceBusy",
    20: "ResourceExists",
    21: "ResourceUnavailable",
    22: "ReadError",
    23: "WriteError",
    24: "FromStdErr",
    25: "SecurityError",
    26: "ProtocolError",
    27: "ConnectionError",
    28: "AuthenticationError",
    29: "LimitsExceeded",
    30: "QuotaExceeded",
    31: "NotEnabled",
}

# Letters of a host's text that an error keeps.
MAX_MESSAGE = 2000
MAX_ID = 200

_NATIVE = re.compile(r"\bnative=(0x[0-9A-Fa-f]{1,8}|\d{1,10})\b")
# Codes that the host's own texts carry in every language: an HRESULT, or a WMI code in brackets.
_IN_TEXT = re.compile(r"0x([0-9A-Fa-f]{8})|\((32[67]\d\d)\)")


@dataclass(frozen=True, slots=True)
class Record:
    """The parts of a PowerShell error record that decisions rest on."""

    error_id: str
    category: int
    message: str


def category_name(number: int) -> str:
    """PowerShell's word for an ErrorCategory number."""
    return _CATEGORIES.get(number, str(number))


def native_code(record: Record) -> int | None:
    """HRESULT, WMI or Win32 code of an error: as the script names it, else as the host's text shows it."""
    if named := _NATIVE.search(record.error_id):
        return int(named[1], 16 if named[1].startswith("0x") else 10)
    if shown := _IN_TEXT.search(record.message):
        return int(shown[1], 16) if shown[1] else int(shown[2])
    return None


def from_record(host: str, operation: str, record: Record) -> OperationFailed:
    """The error that an error record of the host means."""
    # The id of what `throw` throws is its text, which may have several lines.
    error_id = one_line(record.error_id.split(",", 1)[0], MAX_ID)
    message = one_line(record.message, MAX_MESSAGE)
    if ENGINE_REFUSALS.fullmatch(error_id):
        error_id = "Hvps.ScriptsRefused"
    raised = ERRORS[error_id].raised if error_id in ERRORS else OperationFailed
    native = native_code(record)
    return raised(host, operation, error_id, category_name(record.category), native, message)
