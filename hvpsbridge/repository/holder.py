"""The process that holds a lease, and whether it is provably dead."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from uuid import UUID

from hvpsbridge.formats.lease import LeaseHolder


def current_holder(run_id: UUID) -> LeaseHolder:
    """This process."""
    return LeaseHolder(
        run_id=run_id,
        machine=socket.gethostname(),
        user=_user(),
        process_id=os.getpid(),
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
        process_started=_started(os.getpid()),
    )


def is_provably_dead(holder: LeaseHolder) -> bool:
    """Whether the holder ran under this kernel and pid namespace, and its process has ended."""
    if not is_here(holder):
        return False
    return _started(holder.process_id) != holder.process_started


def is_here(holder: LeaseHolder) -> bool:
    """Whether the holder runs, or ran, under this kernel and pid namespace."""
    return (
        holder.boot_id is not None
        and holder.pid_namespace is not None
        and holder.process_started is not None
        and holder.boot_id == _boot_id()
        and holder.pid_namespace == _pid_namespace()
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):
        return str(os.getuid())


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _started(process_id: int) -> int | None:
    """Start time of a process in clock ticks after boot (field 22 of its stat); None when it has ended."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_bytes()
    except OSError:
        return None
    # The command name may contain any character, what follows its closing bracket does not.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
