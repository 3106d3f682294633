"""Whether backups can run on a host as it is. Pure: facts of the host in, findings out."""

from __future__ import annotations

from datetime import datetime, timedelta

from hvpsbridge.contract.results import HostInfo
from hvpsbridge.tasks.planning.eligibility import Finding, Severity
from hvpsbridge.units import duration_text

# Windows Server 2016, the first with change tracking (docs/hyperv-facts.md#rct-requirements).
FIRST_BUILD = 14393
# Kerberos refuses tickets beyond this by default; certificates and times of checkpoints are affected, too.
MAX_SKEW = timedelta(minutes=5)


def examine_host(info: HostInfo, now: datetime) -> tuple[Finding, ...]:
    """Everything about a host that matters to a backup, each with one remedy.

    Args:
        info: the host as it describes itself.
        now: this machine's time, UTC.
    """
    found: list[Finding] = []

    def refuse(text: str, remedy: str) -> None:
        found.append(Finding(Severity.REFUSE, text, remedy))

    if not info.is_administrator:
        refuse(
            "the account is not an administrator on the host, so it cannot attach disks",
            "add it to the Administrators group of the host, see docs/real-host.md",
        )
    if info.language_mode != "FullLanguage":
        refuse(
            f"the PowerShell language mode is {info.language_mode}, so hvps cannot compile its reader",
            "make a policy exception for the account, see docs/real-host.md",
        )
    if not info.is_64bit:
        refuse("the session is a 32-bit process", "use the endpoint microsoft.powershell")
    if info.os_build < FIRST_BUILD:
        refuse(
            f"Windows build {info.os_build} has no change tracking",
            "use Windows Server 2016 or later",
        )
    if info.hyperv_module_version is None:
        refuse(
            "the Hyper-V module for PowerShell is missing",
            "install it with Install-WindowsFeature Hyper-V-PowerShell",
        )
    skew = abs(info.time - now)
    if skew > MAX_SKEW:
        found.append(
            Finding(
                Severity.NOTE,
                f"its clock differs from the clock of this machine by {duration_text(skew.total_seconds())}",
                "synchronize both clocks",
            )
        )
    return tuple(found)
