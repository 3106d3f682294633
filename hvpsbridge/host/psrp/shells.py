"""Lists the shells of a host, as far as the account can see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID
from xml.etree import ElementTree

from pypsrp.wsman import NAMESPACES, WSMan

SHELL_URI = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
# More than a host has; only the first page is read.
MAX_SHELLS = "32000"
# Of an id, a name or an account.
MAX_LETTERS = 1000
_NUMBER = "([0-9]{1,9})"
_SPAN = re.compile(rf"P(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}(?:\.[0-9]+)?S)?)?")


@dataclass(frozen=True, slots=True)
class HostShell:
    """A shell on a host.

    Attributes:
        shell_id: WinRM's id.
        name: given by the client; hvps uses ``hvps <run id>``.
        owner: account; empty if the host does not report it.
        idle_seconds: how long nothing has run in it; None if the host does not report it.
    """

    shell_id: str
    name: str
    owner: str
    idle_seconds: int | None


def shell_name(run_id: UUID | None) -> str:
    """The name that hvps gives to the shells of a run."""
    return f"hvps {run_id}" if run_id else "hvps"


def list_shells(wsman: WSMan) -> tuple[HostShell, ...]:
    """Every shell that this account can see, in the order of the host (MS-WSMV 2.2.4.37)."""
    wsen, wsmn = NAMESPACES["wsen"], NAMESPACES["wsman"]
    message = ElementTree.Element(f"{{{wsen}}}Enumerate")
    ElementTree.SubElement(message, f"{{{wsmn}}}OptimizeEnumeration")
    ElementTree.SubElement(message, f"{{{wsmn}}}MaxElements").text = MAX_SHELLS
    reply = wsman.enumerate(SHELL_URI, message)
    return tuple(
        HostShell(
            _text(shell, "ShellId"),
            _text(shell, "Name"),
            _text(shell, "Owner"),
            _seconds(_text(shell, "ShellInactivity")),
        )
        for shell in reply.findall("wsen:EnumerateResponse/wsman:Items/rsp:Shell", NAMESPACES)
    )


def _text(shell: ElementTree.Element, name: str) -> str:
    found = shell.find(f"rsp:{name}", NAMESPACES)
    return (found.text or "")[:MAX_LETTERS] if found is not None else ""


def _seconds(span: str) -> int | None:
    match = _SPAN.fullmatch(span) if span else None
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
