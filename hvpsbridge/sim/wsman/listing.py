"""XML of shells and commands (MS-WSMV 2.2.4.37)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from xml.sax.saxutils import escape

from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.shells import Command, Shell


def describe_shell(shell: Shell, machine: str, *, memory: bool = True) -> str:
    """A shell as Get and Enumerate show it, and Create without its memory.

    Layout: docs/hyperv-facts.md#wsman-replies.
    """
    now = time.monotonic()
    fields = {
        "ShellId": shell.shell_id,
        "Name": shell.name,
        "ResourceUri": shell.resource_uri,
        "Owner": shell.owner if "\\" in shell.owner or "@" in shell.owner else f"{machine}\\{shell.owner}",
        "ClientIP": shell.client_address,
        "ProcessId": str(shell.engine.process_id),
        "IdleTimeOut": f"PT{shell.idle_seconds:.3f}S",
        "InputStreams": "stdin pr",
        "OutputStreams": "stdout",
        "MaxIdleTimeOut": "PT2147483.647S",
        "Locale": "en-US",
        "DataLocale": "en-US",
        "CompressionMode": "NoCompression",
        "ProfileLoaded": "Yes",
        "Encoding": "UTF8",
        "BufferMode": "Block",
        "State": "Disconnected" if shell.disconnected else "Connected",
        "ShellRunTime": f"P0DT0H0M{int(now - shell.created)}S",
        "ShellInactivity": f"P0DT0H0M{int(now - shell.used)}S",
    }
    if memory:
        fields |= _memory(shell)
    inner = "".join(f"<rsp:{name}>{escape(text)}</rsp:{name}>" for name, text in fields.items() if text)
    return f'<rsp:Shell xmlns:rsp="{names.SHELL}">{inner}</rsp:Shell>'


def _memory(shell: Shell) -> dict[str, str]:
    return {"MemoryUsed": f"{_resident_bytes(shell.engine.process_id) >> 20}MB", "ChildProcesses": "0"}


def describe_command(command: Command) -> str:
    """A command of a shell as Enumerate shows it."""
    return (
        f'<rsp:Command xmlns:rsp="{names.SHELL}"><rsp:CommandId>{escape(command.command_id)}</rsp:CommandId>'
        "<rsp:CommandLine></rsp:CommandLine><rsp:CommandState>Running</rsp:CommandState></rsp:Command>"
    )


def _resident_bytes(process_id: int) -> int:
    """Memory of a process; 0 if unknown."""
    try:
        pages = Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
