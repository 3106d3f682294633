"""Whether a host can be worked on as it is. Pure: facts of the host in, findings out."""

from __future__ import annotations

from datetime import datetime, timedelta

from hvpsbridge.contract.results import HostInfo
from hvpsbridge.tasks.planning.eligibility import Finding, Severity
from hvpsbridge.units import duration_text

# Windows Server 2016: the first with resilient change tracking (docs/hyperv-facts.md#rct-requirements).
FIRST_BUILD = 14393
# Kerberos refuses tickets beyond this (its default); certificates and times of checkpoints suffer, too.
MOST_SKEW = timedelta(minutes=5)


def examine_host(info: HostInfo, now: datetime) -> tuple[Finding, ...]:
    """Everything about a host that a backup has to heed, each with its one remedy.

    Args:
        info: as the host describes itself.
        now: this machine's time, UTC.
    """
    found: list[Finding] = []

    def refuse(text: str, remedy: str) -> None:
        found.append(Finding(Severity.REFUSE, text, remedy))

    if not info.is_administrator:
        refuse(
            "the account is no administrator there, so no disk can be attached",
            "make it a member of the host's Administrators, see docs/real-host.md",
        )
    if info.language_mode != "FullLanguage":
        refuse(
            f"PowerShell runs in {info.language_mode}, in which nothing can be compiled",
            "exempt the account from the policy that locks it down, see docs/real-host.md",
        )
    if not info.is_64bit:
        refuse("the session is a 32-bit process", "use the endpoint microsoft.powershell")
    if info.os_build < FIRST_BUILD:
        refuse(
            f"Windows build {info.os_build} has no change tracking",
            "back it up with Windows Server 2016 or later",
        )
    if info.hyperv_module_version is None:
        refuse("it has no Hyper-V module for PowerShell", "Install-WindowsFeature Hyper-V-PowerShell")
    skew = abs(info.time - now)
    if skew > MOST_SKEW:
        found.append(
            Finding(
                Severity.NOTE,
                f"its clock and this machine's differ by {duration_text(skew.total_seconds())}",
                "synchronise both",
            )
        )
    return tuple(found)
