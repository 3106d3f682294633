"""Event logs as ``Get-WinEvent`` shows them."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape, quoteattr

from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.core import ADMIN_LOG, DISK_LOG, WORKER_LOG

_LOGS = (ADMIN_LOG, WORKER_LOG, DISK_LOG)
_ERRORS = (3216, 16050, 18012, 19100)


def level(event_id: int) -> int:
    """Level of an entry: 2 error, 4 information."""
    return 2 if event_id in _ERRORS else 4


def events(
    model: Model, node: str | None, *, logs: list[str], ids: list[int], after: str | None = None
) -> dict[str, Any]:
    """Entries, newest first, and those of ``logs`` that exist."""
    there = [name for name in _LOGS if name.lower() in {log.lower() for log in logs}]
    found = [
        {
            "LogName": event.log,
            "Id": event.event_id,
            "TimeCreated": utc(event.time).isoformat(),
            "Message": event.message,
            "MachineName": event.node,
            "Level": level(event.event_id),
            "Xml": _xml(event.log, event.event_id, utc(event.time).isoformat(), str(event.vm_id or "")),
        }
        for event in reversed(model.nodes.events(node))
        if event.log in there
        and (not ids or event.event_id in ids)
        and (after is None or utc(event.time).isoformat() >= after)
    ]
    return {"logs": there, "events": found}


def _xml(log: str, event_id: int, time: str, vm_id: str) -> str:
    return (
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
        f"<EventID>{event_id}</EventID><TimeCreated SystemTime={quoteattr(time)}/>"
        f"<Channel>{escape(log)}</Channel></System><UserData><VmlEventLog>"
        f"<VmId>{escape(vm_id.upper())}</VmId></VmlEventLog></UserData></Event>"
    )
