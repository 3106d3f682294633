"""URIs, namespaces and fault codes of WS-Management as Windows uses them (MS-WSMV)."""

from __future__ import annotations

from enum import IntEnum

ENVELOPE = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
WSMV = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
EVENTING = "http://schemas.xmlsoap.org/ws/2004/08/eventing"
CONFIG = "http://schemas.microsoft.com/wbem/wsman/1/config"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
WSMAN_FAULTS = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail"
IDENTITY = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
POWERSHELL = "http://schemas.microsoft.com/powershell"
# The session configuration that hosts have by default, in lower case.
DEFAULT_ENDPOINT = "microsoft.powershell"
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"

GET = f"{TRANSFER}/Get"
CREATE = f"{TRANSFER}/Create"
DELETE = f"{TRANSFER}/Delete"
ENUMERATE = f"{ENUMERATION}/Enumerate"
COMMAND = f"{SHELL}/Command"
SEND = f"{SHELL}/Send"
RECEIVE = f"{SHELL}/Receive"
SIGNAL = f"{SHELL}/Signal"
DISCONNECT = f"{SHELL}/Disconnect"
RECONNECT = f"{SHELL}/Reconnect"
CONNECT = f"{SHELL}/Connect"

# Namespaces that a reply declares, by action, in the order of Windows (docs/hyperv-facts.md#wsman-replies).
_PREFIXES = {
    "s": ENVELOPE,
    "a": ADDRESSING,
    "x": TRANSFER,
    "e": EVENTING,
    "n": ENUMERATION,
    "w": WSMAN,
    "rsp": SHELL,
    "p": WSMV,
}
_DECLARED = {
    **dict.fromkeys((CREATE, COMMAND, SEND, SIGNAL, CONNECT), "s a x w rsp p"),
    **dict.fromkeys((DELETE, DISCONNECT, RECONNECT), "s a w p"),
    RECEIVE: "s a w rsp p",
    ENUMERATE: "s a n w p",
    GET: "s a x w p",
}
_IN_FAULTS = "s a x e n w p"


def declarations(action: str) -> str:
    """Attributes that declare the namespaces of a reply to an action, or of a fault if it is empty."""
    prefixes = _DECLARED.get(action, _IN_FAULTS)
    return " ".join(f'xmlns:{prefix}="{_PREFIXES[prefix]}"' for prefix in prefixes.split())


COMMAND_DONE = f"{SHELL}/CommandState/Done"
SIGNAL_TERMINATE = f"{SHELL}/signal/terminate"

SHELLS = SHELL
COMMANDS = f"{SHELL}/Command"


class Code(IntEnum):
    """``WSManFault`` codes that clients of shells can get (wsmerror.h, winerror.h)."""

    ACCESS_DENIED = 5
    OPERATION_ABORTED = 995
    UNSPECIFIED = 0x80004005
    OPERATION_TIMED_OUT = 0x80338029
    UNEXPECTED_SELECTORS = 0x8033805B
    INVALID_RESOURCE_URI = 0x8033803B
    ACTION_NOT_SUPPORTED = 0x80338002
    ENVELOPE_TOO_LARGE = 0x80338048
    SCHEMA_VALIDATION = 0x80338041
    QUOTA_SHELLS = 0x803381A5
    QUOTA_OPERATIONS = 0x803381A6


# SOAP subcodes of faults; all others are w:InternalError.
SUBCODES = {
    Code.ACCESS_DENIED: "w:AccessDenied",
    Code.OPERATION_TIMED_OUT: "w:TimedOut",
    Code.UNEXPECTED_SELECTORS: "w:InvalidSelectors",
    Code.INVALID_RESOURCE_URI: "a:DestinationUnreachable",
    Code.ACTION_NOT_SUPPORTED: "a:ActionNotSupported",
    Code.ENVELOPE_TOO_LARGE: "w:EncodingLimit",
    Code.SCHEMA_VALIDATION: "w:SchemaValidationError",
    Code.QUOTA_SHELLS: "w:QuotaLimit",
    Code.QUOTA_OPERATIONS: "w:QuotaLimit",
}

# What ``FaultDetail`` names, for codes whose faults have one.
DETAILS = {Code.UNEXPECTED_SELECTORS: f"{WSMAN_FAULTS}/UnexpectedSelectors"}

# Texts in other languages. No code may depend on a text; these find code that does.
TEXTS: dict[str, dict[Code, str]] = {
    "de": {
        Code.ACCESS_DENIED: "Zugriff verweigert.",
        Code.OPERATION_ABORTED: (
            "Der E/A-Vorgang wurde wegen eines Threadendes oder einer Anwendungsanforderung abgebrochen."
        ),
        Code.OPERATION_TIMED_OUT: (
            "Der WS-Verwaltungsdienst konnte den Vorgang nicht in der angegebenen Zeit abschließen."
        ),
        Code.UNEXPECTED_SELECTORS: (
            "Die Anforderung für die Windows-Remoteshell ist fehlgeschlagen: Sie wurde nicht gefunden."
        ),
        Code.QUOTA_SHELLS: "Die maximale Anzahl gleichzeitiger Shells dieses Benutzers ist überschritten.",
        Code.QUOTA_OPERATIONS: "Die maximale Anzahl gleichzeitiger Vorgänge ist überschritten.",
    }
}
