"""What the limits of WinRM on a host mean for backups. Pure: limits in, checks out."""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.host.psrp.session import IDLE_TIMEOUT_SECONDS
from hvpsbridge.tasks.host_check import CheckState, HostCheck
from hvpsbridge.tasks.policy import BackupLimits, RunLimits
from hvpsbridge.units import duration_text

# Each VM under way has a shell beside those for disks (docs/hyperv-facts.md#winrm-shell-quotas).
SHELLS = RunLimits().shells_per_host + 10
# A backup needs one shell for the VM and one for its disks.
LEAST_SHELLS = 2
# A reader keeps 100 MB of blocks, and .NET as much again.
SHELL_MEMORY_MB = 512
# The compiler and its helper, beside the shell itself.
PROCESSES = 5
# Three for each reader: a request, a reply, and one that is waited for.
OPERATIONS = 100
ENVELOPE_KB = 500
# What WinRM shows for no limit.
_UNLIMITED = 2_147_483_647


def check_limits(limits: WinRmLimits) -> Iterator[HostCheck]:
    """One check for each limit."""
    if limits == WinRmLimits():
        yield HostCheck(
            "limits",
            CheckState.UNKNOWN,
            "the limits of WinRM cannot be read by this account",
            "compare `winrm get winrm/config` on the host with docs/real-host.md",
        )
        return
    yield _shells(limits.shells_per_user)
    yield _at_least(
        "MaxMemoryPerShellMB",
        limits.shell_memory_mb,
        SHELL_MEMORY_MB,
        "the host may end a shell while it reads",
    )
    yield _at_least(
        "MaxProcessesPerShell", limits.processes_per_shell, PROCESSES, "the compiler may not be started"
    )
    yield _at_least(
        "MaxConcurrentOperationsPerUser",
        limits.operations_per_user,
        OPERATIONS,
        "readers wait for each other or fail",
    )
    yield _at_least(
        "MaxEnvelopeSizekb", limits.envelope_kb, ENVELOPE_KB, "reads need more round trips and are slower"
    )
    yield _time(
        "MaxIdleTimeoutms",
        limits.max_idle_ms,
        IDLE_TIMEOUT_SECONDS,
        "the host may refuse the idle time-out that hvps asks for",
    )
    yield _time(
        "MaxShellRunTime",
        limits.run_ms,
        BackupLimits().checkpoint_age,
        "the host ends a shell that reads for longer; the read goes on in a new one",
    )


def _shells(found: int | None) -> HostCheck:
    topic = "MaxShellsPerUser"
    if found is not None and found < LEAST_SHELLS:
        text = f"is {found}, but a backup needs {LEAST_SHELLS} shells"
        return HostCheck(topic, CheckState.REFUSE, text, f"set it to {SHELLS} or more")
    meaning = "fewer VMs and disks can be read at a time, and shells of others count too"
    return _at_least(topic, found, SHELLS, meaning, " or lower limits: shells_per_host and forks")


def _at_least(topic: str, found: int | None, needed: int, meaning: str, otherwise: str = "") -> HostCheck:
    if found is None:
        return HostCheck(topic, CheckState.UNKNOWN, "cannot be read")
    if found >= needed:
        return HostCheck(topic, CheckState.GOOD, "not limited" if found >= _UNLIMITED else str(found))
    return HostCheck(
        topic, CheckState.NOTE, f"is {found}: {meaning}", f"set it to {needed} or more{otherwise}"
    )


def _time(topic: str, found_ms: int | None, needed_seconds: float, meaning: str) -> HostCheck:
    if found_ms is None:
        return HostCheck(topic, CheckState.UNKNOWN, "cannot be read")
    text = "not limited" if found_ms >= _UNLIMITED else duration_text(found_ms / 1000)
    if found_ms >= needed_seconds * 1000:
        return HostCheck(topic, CheckState.GOOD, text)
    remedy = f"set it to {round(needed_seconds * 1000)} or more"
    return HostCheck(topic, CheckState.NOTE, f"is {text}: {meaning}", remedy)
